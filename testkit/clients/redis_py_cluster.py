"""redis-py as a client of a cluster, against the address given: HOST PORT. A line a step; restarts are asked for on stdout."""

import sys
import time

import redis
from redis.cluster import RedisCluster

host, port = sys.argv[1], int(sys.argv[2])


def run(protocol):
    def done(step):
        print("ok", f"resp{protocol} {step}", flush=True)

    client = RedisCluster(host=host, port=port, protocol=protocol)
    assert [node.port for node in client.get_nodes()] == [port], client.get_nodes()
    client.flushdb()
    assert client.ping()
    assert client.cluster_keyslot("a") == 15495 and client.cluster_info()["cluster_state"] == "ok"
    assert len(client.cluster_nodes()) == 1 and client.cluster_slots()
    # Any slots: to this client all are of one node.
    assert client.mset_nonatomic({"a": 1, "b": 2, "c": 3})
    assert client.mget_nonatomic("a", "b", "c") == [b"1", b"2", b"3"]
    assert client.delete("a", "b", "c") == 3
    done("commands")

    pipe = client.pipeline()
    for number in range(1_000):
        pipe.set(f"k{number}", number)
        pipe.get(f"k{number}")
    assert pipe.execute()[1::2] == [b"%d" % number for number in range(1_000)]
    assert sorted(client.scan_iter(match="k1*"))[:2] == [b"k1", b"k10"] and client.dbsize() == 1_000
    done("a pipeline, and a walk")

    with client.pipeline(transaction=True) as pipe:
        pipe.watch("counter")
        client.set("counter", 7)
        pipe.multi()
        pipe.set("counter", 1)
        try:
            pipe.execute()
            raise AssertionError("the transaction went through")
        except redis.WatchError:
            pass
    with client.pipeline(transaction=True) as pipe:
        pipe.incr("counter")
        pipe.get("counter")
        assert pipe.execute() == [8, b"8"]
    done("a watched transaction that loses, and one that wins")

    channel = client.pubsub()
    channel.subscribe("news")
    messages = []
    deadline = time.monotonic() + 10
    while len(messages) < 2:
        assert time.monotonic() < deadline, messages
        message = channel.get_message(timeout=0.1)
        if message:
            messages.append(message["type"])
            if len(messages) == 1:
                assert client.publish("news", b"hello") == 1
    assert messages == ["subscribe", "message"], messages
    channel.close()
    client.rpush("list", "element")
    assert tuple(client.blpop(["list"], timeout=10)) == (b"list", b"element")
    script = client.register_script("return {KEYS[1], ARGV[1], redis.call('GET', KEYS[1])}")
    assert script(keys=["k1"], args=["a"]) == [b"k1", b"a", b"1"]
    done("channels, a blocking pop, a script")

    print("restart", flush=True)
    assert sys.stdin.readline() == "restarted\n"
    deadline = time.monotonic() + 20
    while True:
        try:
            client.set("after", protocol)
            break
        except redis.RedisError as error:
            assert time.monotonic() < deadline, error
            time.sleep(0.05)
    done("a restart of Redis")


run(2)
run(3)
