"""What is measured: the workloads, who takes part in each, and the targets that their figures are held against.

A workload is a list of cases that take turns, round by round, so that every ratio is of figures from the same minutes.
"""

import dataclasses
from math import exp, expm1

OURS, NOOP, NGINX, LUA, FLASK = "redis-proxy", "no-op", "nginx constant", "nginx + lua", "Flask"


@dataclasses.dataclass(frozen=True)
class Server:
    """A server to start; equal ones of a workload are one process."""

    kind: str
    workers: int = 1
    capacity: int = 100_000
    # Keys fetched before the first round.
    filled: int = 0
    # Bytes of the answer where the server has but one.
    value: int = 100
    # On the server's core alone; else on all, and so is the load.
    pinned: bool = True


@dataclasses.dataclass(frozen=True)
class Load:
    """What is asked of it: as fast as it is answered, or by the clock."""

    connections: int = 64
    depth: int = 1
    # As in keys.lua; `one` asks for a key of `value` bytes.
    choice: str = "one"
    value: int = 100
    space: int = 1
    # Half of what the server can do, as the case of this name shows: an open loop.
    half_of: str = ""


@dataclasses.dataclass(frozen=True)
class Case:
    label: str
    server: Server
    load: Load = Load()
    # Left out of a quick run.
    is_long: bool = False


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    title: str
    cases: tuple

    def keys(self):
        """Keys `key:N` of 100 bytes that Redis must hold."""
        return max((case.load.space for case in self.cases if case.load.choice != "one"), default=0)

    def quick(self):
        return dataclasses.replace(self, cases=tuple(case for case in self.cases if not case.is_long))


@dataclasses.dataclass(frozen=True)
class Target:
    """The median over the rounds of one case's figure, divided by that of `beside` in the same round if there is one."""

    text: str
    workload: str
    case: str
    limit: float
    beside: str = ""
    figure: str = "cpu_us"


def _hits(kinds, depth=1):
    return tuple(Case(kind, Server(kind), Load(depth=depth)) for kind in kinds)


def _connections(depth):
    return tuple(
        Case(f"{kind}, {count:,}", Server(kind), Load(connections=count, depth=depth))
        for count in (1, 8, 64, 1000) for kind in (OURS, NOOP)
    )


VALUES = {"16 B": 16, "1 KiB": 1024, "64 KiB": 64 * 1024, "1 MiB": 1024 * 1024}


def _values():
    return tuple(
        Case(f"{kind}, {name}", Server(kind, value=size if kind == NOOP else 100), Load(value=size))
        for name, size in VALUES.items() for kind in (OURS, NOOP, LUA)
    )


def _misses(kinds, space=100_000):
    return tuple(Case(kind, Server(kind, capacity=1000), Load(choice="walk", space=space)) for kind in kinds)


ZIPF_SPACE, ZIPF_HITS = 100_000, 0.95


def _zipf(kinds):
    capacity = zipf_capacity(ZIPF_SPACE, ZIPF_HITS)
    load = Load(choice="zipf", space=ZIPF_SPACE)
    return tuple(Case(kind, Server(kind, capacity=capacity), load) for kind in kinds)


def _keys(counts):
    return tuple(
        Case(f"{count:.0e} keys".replace("e+0", "e"), Server(OURS, capacity=count, filled=count),
             Load(choice="uniform", space=count), is_long=count > 10**6)
        for count in counts
    )


def _balance():
    server = Server(OURS, workers=2, pinned=False)
    return tuple(Case(f"{count} connections", server, Load(connections=count)) for count in (1, 2, 8))


def _workers():
    return tuple(Case(f"WORKERS={count}", Server(OURS, workers=count, pinned=False)) for count in (1, 2))


def _latency(kinds):
    keys = Load(choice="uniform", space=10)
    for kind in kinds:
        saturated = f"{kind}, saturated"
        yield Case(saturated, Server(kind), keys)
        yield Case(kind, Server(kind), dataclasses.replace(keys, half_of=saturated))


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
    Workload("depth-1", "hit, depth 1, 64 connections, 100 B", _hits((OURS, NOOP, NGINX, LUA, FLASK))),
    Workload("depth-16", "hit, depth 16, 64 connections, 100 B", _hits((OURS, NOOP, NGINX, LUA), depth=16)),
    Workload("connections-1", "hit, depth 1, by connections", _connections(depth=1)),
    Workload("connections-16", "hit, depth 16, by connections", _connections(depth=16)),
    Workload("values", "hit, depth 1, by size of the value", _values()),
    Workload("miss", "miss, 64 connections, 100 B", _misses((OURS, LUA, FLASK))),
    Workload("zipf", f"Zipf 0.99 over {ZIPF_SPACE:,} keys, {ZIPF_HITS:.0%} hits", _zipf((OURS, LUA))),
    Workload("workers", "hit, depth 1, by workers, server and load on all cores", _workers()),
    Workload("balance", "2 workers, by connections", _balance()),
    Workload("keys", "hit, uniform, by keys held", _keys((10**3, 10**5, 10**7))),
    Workload("latency", "hit, open loop at half of what the server's core can do", tuple(_latency((OURS, NGINX, LUA)))),
)

TARGETS = (
    Target("hit, depth 1, beside the no-op server", "depth-1", OURS, 1.15, NOOP),
    Target("hit, depth 1, beside nginx's constant answer", "depth-1", OURS, 1.0, NGINX),
    Target("hit, depth 16, beside the no-op server", "depth-16", OURS, 1.6, NOOP),
    Target("miss, beside nginx + lua", "miss", OURS, 0.5, LUA),
    Target("hit, two workers beside one", "workers", "WORKERS=2", 1.15, "WORKERS=1"),
    Target("hit, 1e7 keys beside 1e3", "keys", "1e7 keys", 1.3, "1e3 keys"),
    Target("hit, 1,000 connections beside 64", "connections-1", f"{OURS}, 1,000", 1.2, f"{OURS}, 64"),
    Target("the busier of two workers' share, 2 connections", "balance", "2 connections", 0.55, figure="busiest"),
    Target("the busier of two workers' share, 8 connections", "balance", "8 connections", 0.55, figure="busiest"),
    Target("p99.9 at half of the saturation rate, ms", "latency", OURS, 1.0, figure="p99.9"),
)
