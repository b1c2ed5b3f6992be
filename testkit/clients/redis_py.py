"""redis-py as its users use it, against the address given: HOST PORT DATABASE. A line a step; restarts are asked for on stdout."""

import sys
import threading
import time

import redis

host, port, database = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def done(step):
    print("ok", step, flush=True)


def run(protocol):
    client = redis.Redis(host=host, port=port, db=database, protocol=protocol, client_name="redis-py")
    name = f"resp{protocol}"
    client.flushdb()
    assert client.ping()
    assert client.client_getname() in ("redis-py", b"redis-py")
    assert client.set(b"bin\x00\r\n\xff", b"\r\n\x00") and client.get(b"bin\x00\r\n\xff") == b"\r\n\x00"
    assert client.get("none") is None
    client.hset("h", mapping={"f": 1, "g": 2})
    assert client.hgetall("h") == {b"f": b"1", b"g": b"2"}
    client.zadd("z", {"a": 1, "b": 2.5})
    # A list of pairs in both versions, but for the type of the pair.
    assert [tuple(pair) for pair in client.zrange("z", 0, -1, withscores=True)] == [(b"a", 1.0), (b"b", 2.5)]
    done(f"{name} commands")

    big = b"x" * (5 << 20)
    client.set("big", big)
    assert client.get("big") == big
    done(f"{name} a value of 5 MiB")

    pipe = client.pipeline(transaction=False)
    for number in range(10_000):
        pipe.set(f"k{number}", number)
        pipe.get(f"k{number}")
    assert pipe.execute()[1::2] == [b"%d" % number for number in range(10_000)]
    done(f"{name} a pipeline of 20,000")

    with client.pipeline() as pipe:
        pipe.watch("counter")
        seen = int(pipe.get("counter") or 0)
        client.set("counter", 7)
        pipe.multi()
        pipe.set("counter", seen + 1)
        try:
            pipe.execute()
            raise AssertionError("the transaction went through")
        except redis.WatchError:
            pass
        pipe.watch("counter")
        seen = int(pipe.get("counter"))
        pipe.multi()
        pipe.set("counter", seen + 1)
        pipe.get("counter")
        assert pipe.execute() == [True, b"8"]
    done(f"{name} a watched transaction that loses, and one that wins")

    channel = client.pubsub()
    channel.subscribe("news")
    channel.psubscribe("new*")
    messages = []
    deadline = time.monotonic() + 10
    sent = False
    while len([m for m in messages if m["type"].endswith("message")]) < 2:
        assert time.monotonic() < deadline, messages
        message = channel.get_message(timeout=0.1)
        if message:
            messages.append(message)
        if len(messages) == 2 and not sent:
            assert client.publish("news", b"hello") == 2
            sent = True
    assert {m["type"] for m in messages} == {"subscribe", "psubscribe", "message", "pmessage"}, messages
    channel.close()
    done(f"{name} channels")

    popped = []
    thread = threading.Thread(target=lambda: popped.append(client.blpop(["list"], timeout=10)))
    thread.start()
    time.sleep(0.2)
    client.rpush("list", "element")
    thread.join()
    assert [tuple(pop) for pop in popped] == [(b"list", b"element")], popped
    assert client.blpop(["list"], timeout=0.05) is None
    done(f"{name} a blocking pop")

    client.script_flush()
    script = client.register_script("return {KEYS[1], ARGV[1], redis.call('GET', KEYS[1])}")
    assert script(keys=["k1"], args=["a"]) == [b"k1", b"a", b"1"]
    assert script(keys=["k2"], args=["b"]) == [b"k2", b"b", b"2"]
    done(f"{name} a script by its digest")

    try:
        client.lpush("k1", "x")
        raise AssertionError("no error")
    except redis.ResponseError as error:
        assert str(error).startswith("WRONGTYPE"), error
    try:
        redis.Redis(host=host, port=port, protocol=protocol, username="nobody", password="x").ping()
        raise AssertionError("no error")
    except redis.AuthenticationError:
        pass
    done(f"{name} errors of Redis")

    print("restart", flush=True)
    assert sys.stdin.readline() == "restarted\n"
    deadline = time.monotonic() + 20
    while True:
        try:
            client.set("after", protocol)
            assert client.get("after") == b"%d" % protocol
            break
        except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.ResponseError) as error:
            assert time.monotonic() < deadline, error
            time.sleep(0.05)
    done(f"{name} a restart of Redis")


run(2)
run(3)
