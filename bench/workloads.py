"""What is measured: the workloads and who takes part in each. targets.py holds their figures against limits.

A workload is a list of cases that take turns, round by round, so that every ratio is of figures from the same minutes.
"""

import dataclasses
from math import exp, expm1

OURS, NOOP, NGINX, LUA, FLASK = "redis-proxy", "no-op", "nginx constant", "nginx + lua", "Flask"
HYPER, HAPROXY, REDIS, VALKEY = "hyper constant", "HAProxy constant", "Redis", "Valkey"
# Those that say one answer, whatever they are asked.
CONSTANT = (NGINX, HYPER, HAPROXY)
HTTP, RESP = "http", "resp"
# What a browser sends beside Host, in its order.
FIVE_FIELDS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    "Accept: */*\r\n"
    "Accept-Language: en-US,en;q=0.5\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    "Connection: keep-alive\r\n"
)


@dataclasses.dataclass(frozen=True)
class Load:
    """What is asked of a server: as fast as it is answered, or by the clock."""

    connections: int = 64
    depth: int = 1
    # Of the next key: `one` is the key named as its value is long; else of keys with a number, see bench/src/load.
    choice: str = "one"
    value: int = 100
    space: int = 1
    # What stands before the twelve digits of a key's number.
    prefix: str = "key:"
    protocol: str = HTTP
    # Header fields beside Host, each with its CRLF.
    fields: str = ""
    # Half of what its server can do, as the case of this name shows: an open loop.
    half_of: str = ""

    def key(self):
        """The only key, or what keys begin with."""
        return str(self.value) if self.choice == "one" else self.prefix

    def request_bytes(self, port):
        """The length of each of its requests to a server on this port."""
        key = self.key() + ("" if self.choice == "one" else "0" * 12)
        if self.protocol == RESP:
            return len(f"*2\r\n$3\r\nGET\r\n${len(key)}\r\n{key}\r\n")
        return len(f"GET /{key} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{self.fields}\r\n")


@dataclasses.dataclass(frozen=True)
class Server:
    """A server to start; equal ones of a workload are one process."""

    kind: str
    workers: int = 1
    capacity: int = 100_000
    # Keys put into it before the first round.
    filled: int = 0
    # Bytes of the value where the server has but one answer.
    value: int = 100
    # How it is asked.
    protocol: str = HTTP
    # Of a server that only counts bytes: the load that tells how long a request is.
    asked: Load = None
    # The mode of coherence, of redis-proxy alone.
    mode: str = "ttl"
    # On the server's core alone; else on all, and so is the load.
    pinned: bool = True


@dataclasses.dataclass(frozen=True)
class Case:
    label: str
    server: Server
    load: Load = Load()
    # The case that its CPU is divided by, round by round.
    beside: str = ""
    # Left out of a quick run.
    is_long: bool = False


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    title: str
    cases: tuple

    def keys(self):
        """Keys with a number, of 100 bytes, that Redis must hold."""
        return max((case.load.space for case in self.cases if case.load.choice != "one"), default=0)

    def quick(self):
        return dataclasses.replace(self, cases=tuple(case for case in self.cases if not case.is_long))


def noop(load):
    """The server that does nothing, for requests and answers as long as this load's."""
    asked = Load(choice=load.choice, value=load.value, protocol=load.protocol, fields=load.fields)
    return Server(NOOP, value=load.value, protocol=load.protocol, asked=asked)


def _server(kind, load, **more):
    return noop(load) if kind == NOOP else Server(kind, value=load.value if kind in CONSTANT else 100,
                                                  protocol=load.protocol, **more)


def _each(kinds, load):
    """One hot key, every kind of server under this load."""
    return tuple(Case(kind, _server(kind, load), load, beside=NOOP) for kind in kinds)


PEERS = (OURS, NOOP, NGINX, LUA, HYPER, HAPROXY)


def _connections(depth):
    for count in (1, 8, 64, 1000):
        load = Load(connections=count, depth=depth)
        for kind in (OURS, NOOP):
            yield Case(f"{kind}, {count:,}", _server(kind, load), load, beside=f"{NOOP}, {count:,}")


VALUES = {"16 B": 16, "1 KiB": 1024, "64 KiB": 64 * 1024, "1 MiB": 1024 * 1024}


def _values():
    for name, size in VALUES.items():
        load = Load(value=size)
        for kind in (OURS, NOOP, LUA):
            yield Case(f"{kind}, {name}", _server(kind, load), load, beside=f"{NOOP}, {name}")


def _misses(kinds, space=100_000):
    return tuple(Case(kind, Server(kind, capacity=1000), Load(choice="walk", space=space)) for kind in kinds)


ZIPF_SPACE, ZIPF_HITS = 100_000, 0.95


def _zipf(kinds):
    capacity = zipf_capacity(ZIPF_SPACE, ZIPF_HITS)
    load = Load(choice="zipf", space=ZIPF_SPACE)
    # Those asked for most, as they would be there after a while.
    return tuple(Case(kind, Server(kind, capacity=capacity, filled=capacity), load) for kind in kinds)


def short(count):
    """1e5 for 100,000."""
    return f"{count:.0e}".replace("e+0", "e")


def filled(kind, load, count, **more):
    """A server that holds this many keys, and the load that asks for all alike."""
    load = dataclasses.replace(load, choice="uniform", space=count)
    return _server(kind, load, **({} if kind == NOOP else {"capacity": count, "filled": count, **more})), load


def _keys(counts):
    for count in counts:
        server, load = filled(OURS, Load(), count)
        yield Case(f"{short(count)} keys", server, load, beside="1e3 keys", is_long=count > 10**6)


def _many_keys(kinds, load, slow=()):
    """Depths 16 and 64 over 1e5 and 1e6 keys, beside the no-op server, which knows no keys."""
    for depth in (16, 64):
        load = dataclasses.replace(load, depth=depth)
        floor = f"{NOOP}, depth {depth}"
        yield Case(floor, *filled(NOOP, load, 10**6), beside=floor)
        for count in (10**5, 10**6):
            for kind in kinds:
                yield Case(f"{kind}, {short(count)} keys, depth {depth}", *filled(kind, load, count), beside=floor,
                           is_long=kind in slow and count > 10**5)


def _resp(depth):
    load = Load(connections=50, depth=depth, protocol=RESP)
    yield from _each((OURS, NOOP, REDIS, VALKEY), load)
    yield Case(f"{OURS}, tracking", Server(OURS, protocol=RESP, mode="tracking"), load, beside=NOOP)


def _balance():
    server = Server(OURS, workers=2, pinned=False)
    return tuple(Case(f"{count} connections", server, Load(connections=count)) for count in (1, 2, 8))


def _workers():
    return tuple(Case(f"WORKERS={count}", Server(OURS, workers=count, pinned=False), beside="WORKERS=1")
                 for count in (1, 2))


def _latency(kinds):
    """All at one rate: half of what redis-proxy can do."""
    keys = Load(choice="uniform", space=10)
    saturated = f"{OURS}, saturated"
    yield Case(saturated, Server(OURS), keys)
    for kind in kinds:
        yield Case(kind, _server(kind, keys), dataclasses.replace(keys, half_of=saturated), beside=NOOP)


def _floor():
    """What the targets of the hit path compare, in one interleaved run."""
    def pair(name, kinds, load, count=None):
        for kind in kinds:
            made = filled(kind, load, count) if count else (_server(kind, load), load)
            yield Case(f"{name}: {kind}", *made, beside=f"{name}: {kinds[-1]}")

    for depth in (1, 16):
        yield from pair(f"HTTP, depth {depth}", (OURS, NOOP), Load(depth=depth))
    yield from pair("five fields, depth 16", (OURS, NOOP), Load(depth=16, fields=FIVE_FIELDS))
    yield from pair("HTTP, 1e6 keys, depth 16", (OURS, NOOP), Load(depth=16), 10**6)
    for depth in (1, 16, 64):
        yield from pair(f"RESP, depth {depth}", (OURS, REDIS), Load(connections=50, depth=depth, protocol=RESP))
    for depth in (16, 64):
        yield from pair(f"RESP, 1e6 keys, depth {depth}", (OURS, VALKEY),
                        Load(connections=50, depth=depth, protocol=RESP), 10**6)


def zipf_capacity(space, hits, exponent=0.99):
    """Entries an LRU needs for this share of hits, by Che's approximation: a key is there if it was asked for in the
    last T requests, with T such that as many keys are expected as there are entries."""
    weights = [rank**-exponent for rank in range(1, space + 1)]
    total = sum(weights)
    shares = [weight / total for weight in weights]
    low, high = 1.0, 1e9
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        if sum(share * -expm1(-share * middle) for share in shares) < hits:
            low = middle
        else:
            high = middle
    return round(sum(1 - exp(-share * high) for share in shares))


WORKLOADS = (
    Workload("floor", "the hit path beside its targets' peers", tuple(_floor())),
    Workload("depth-1", "hit, depth 1, 64 connections, 100 B", _each((*PEERS, FLASK), Load())),
    Workload("depth-16", "hit, depth 16, 64 connections, 100 B", _each(PEERS, Load(depth=16))),
    Workload("heads-1", "the same with five header fields, depth 1", _each(PEERS, Load(fields=FIVE_FIELDS))),
    Workload("heads-16", "the same with five header fields, depth 16", _each(PEERS, Load(depth=16, fields=FIVE_FIELDS))),
    Workload("keys", "hit, uniform, depth 1, by keys held", tuple(_keys((10**3, 10**5, 10**7)))),
    Workload("many-keys", "hit, uniform, pipelined, HTTP", tuple(_many_keys((OURS, LUA), Load(), slow=(LUA,)))),
    Workload("resp-1", "RESP GET hit, depth 1, 50 connections, 100 B", tuple(_resp(1))),
    Workload("resp-16", "RESP GET hit, depth 16", tuple(_resp(16))),
    Workload("resp-64", "RESP GET hit, depth 64", tuple(_resp(64))),
    Workload("resp-many-keys", "RESP GET hit, uniform, pipelined",
             tuple(_many_keys((OURS, REDIS, VALKEY), Load(connections=50, protocol=RESP)))),
    Workload("connections-1", "hit, depth 1, by connections", tuple(_connections(depth=1))),
    Workload("connections-16", "hit, depth 16, by connections", tuple(_connections(depth=16))),
    Workload("values", "hit, depth 1, by size of the value", tuple(_values())),
    Workload("miss", "miss, 64 connections, 100 B", _misses((OURS, LUA, FLASK))),
    Workload("zipf", f"Zipf 0.99 over {ZIPF_SPACE:,} keys, {ZIPF_HITS:.0%} hits", _zipf((OURS, LUA))),
    Workload("workers", "hit, depth 1, by workers, server and load on all cores", _workers()),
    Workload("balance", "2 workers, by connections", _balance()),
    Workload("latency", "hit, open loop, all at half of what our core can do", tuple(_latency((OURS, NOOP, NGINX, LUA)))),
)
