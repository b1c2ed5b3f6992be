"""The targets that figures are held against, and what was measured for each."""

import dataclasses
import statistics

from workloads import LUA, NGINX, NOOP, OURS, REDIS, VALKEY, short

# A server, or what it is compared with, that waited longer for its core than this share of the time: the tail of that
# round is the machine's.
MOST_WAITED = 0.01


@dataclasses.dataclass(frozen=True)
class Target:
    """The median over the rounds of one case's figure, divided by that of `beside` in the same round if there is one."""

    text: str
    workload: str
    case: str
    limit: float
    beside: str = ""
    figure: str = "cpu_us"


def _floor(name, peer, limit):
    """Of the workload `floor`: redis-proxy beside the peer of this pair."""
    return Target(f"{name}, beside {peer}", "floor", f"{name}: {OURS}", limit, f"{name}: {peer}")


def _count(text, figure, limit):
    return Target(text, "floor", figure, limit, figure="instructions")


FLOOR = (
    _floor("HTTP, depth 1", NOOP, 1.10),
    _floor("HTTP, depth 16", NOOP, 1.32),
    _floor("five fields, depth 16", NOOP, 1.25),
    _floor("HTTP, 1e6 keys, depth 16", NOOP, 2.3),
    _floor("RESP, depth 1", REDIS, 0.95),
    _floor("RESP, depth 16", REDIS, 0.72),
    _floor("RESP, depth 64", REDIS, 0.42),
    # With a prefetch; 0.90 and 0.68 with plain loads.
    _floor("RESP, 1e6 keys, depth 16", VALKEY, 0.85),
    _floor("RESP, 1e6 keys, depth 64", VALKEY, 0.65),
    _count("instructions, HTTP hit, depth 16", "hit-depth-16", 1_150),
    _count("instructions, five fields, depth 16", "hit-depth-16-five-fields", 1_150),
    _count("instructions, RESP hit, depth 16", "resp-hit-depth-16", 850),
    _count("instructions, RESP SET passed through, depth 16", "resp-set-depth-16", 2_650),
    Target("resident bytes an entry beside key and value, 1e6 entries", "floor",
           f"HTTP, {short(10**6)} keys, depth 16: {OURS}", 92, figure="entry_bytes"),
)

TARGETS = FLOOR + (
    Target("hit, depth 1, beside nginx's constant answer", "depth-1", OURS, 1.0, NGINX),
    Target("miss, beside nginx + lua", "miss", OURS, 0.5, LUA),
    Target("hit, two workers beside one", "workers", "WORKERS=2", 1.15, "WORKERS=1"),
    Target("hit, 1e7 keys beside 1e3", "keys", "1e7 keys", 1.3, "1e3 keys"),
    Target("hit, 1,000 connections beside 64", "connections-1", f"{OURS}, 1,000", 1.2, f"{OURS}, 64"),
    Target("the busier of two workers' share, 2 connections", "balance", "2 connections", 0.55, figure="busiest"),
    Target("the busier of two workers' share, 8 connections", "balance", "8 connections", 0.55, figure="busiest"),
    Target("p99.9 at half of the saturation rate, beside the no-op server", "latency", OURS, 1.1, NOOP, "p99.9"),
)


def ratios(case, beside, figure):
    """One case's figure over another's, round by round: what drifts in between concerns both."""
    return [a[figure] / b[figure] for a, b in zip(case["rounds"], beside["rounds"])]


def spread(values):
    """Median, lower and upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return middle, low, high


def judge(target, workloads):
    """What was measured for a target, as median and quartiles. Or why there is nothing: a text."""
    workload = workloads.get(target.workload, {})
    if target.figure == "instructions":
        count = workload.get("instructions", {}).get(target.case)
        return (count, count, count) if count else "not measured"
    cases = workload.get("cases", {})
    case, beside = cases.get(target.case), cases.get(target.beside)
    if case is None or (target.beside and beside is None):
        return "not measured"
    if target.figure == "entry_bytes":
        return spread([case["entry_bytes"]]) if "entry_bytes" in case else "not measured"
    if target.figure == "p99.9":
        case, beside = _undisturbed(case, beside)
        if not case["rounds"]:
            return "void: the servers waited for their core, or the load was late, in every round"
    return spread(ratios(case, beside, target.figure) if target.beside
                  else [figures[target.figure] for figures in case["rounds"]])


def _undisturbed(*cases):
    """The rounds in which no server waited for its core and no generator was late: one that was has measured itself."""
    calm = [number for number, each in enumerate(zip(*(case["rounds"] for case in cases)))
            if all(figures["waited"] <= MOST_WAITED and not figures["warnings"] for figures in each)]
    return [{"rounds": [case["rounds"][number] for number in calm]} for case in cases]
