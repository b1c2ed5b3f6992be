"""What a server cost: its processes' CPU time and memory, read from /proc, and redis-proxy's own counters."""

import pathlib
import resource
from typing import NamedTuple

import contenders


class Times(NamedTuple):
    """Of threads, in nanoseconds: on a core, and ready to run while another had it (schedstat: the kernel's own clock, no
    ticks)."""

    ran: int
    waited: int

    def since(self, before):
        return Times(self.ran - before.ran, self.waited - before.waited)


def _times(task):
    ran, waited, _ = (task / "schedstat").read_text().split()
    return Times(int(ran), int(waited))


def times(pids):
    """All threads of these processes."""
    every = [_times(task) for pid in pids for task in pathlib.Path(f"/proc/{pid}/task").iterdir()]
    return Times(sum(one.ran for one in every), sum(one.waited for one in every))


def worker_ns(pid):
    """CPU of each of redis-proxy's worker threads, by name."""
    tasks = {(task / "comm").read_text().strip(): task for task in pathlib.Path(f"/proc/{pid}/task").iterdir()}
    return {name: _times(task).ran for name, task in tasks.items() if name.startswith("worker-")}


def resident_bytes(pids):
    pages = sum(int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * resource.getpagesize()


def lookups(admin_port):
    """Hits, and all lookups, as redis-proxy counts them."""
    counts = {}
    for line in contenders.get(admin_port, "/metrics").decode().splitlines():
        if line.startswith("redis_proxy_lookups_total{"):
            name, count = line.split('result="')[1].split('"} ')
            counts[name] = int(count)
    return counts["hit"], sum(counts.values())


class Meter:
    """Reads a contender before and after a load."""

    def __init__(self, contender):
        self.contender = contender
        # Its answer costs the server CPU, so it is asked for before the clocks are read, and after.
        self.lookups = self._lookups()
        self.workers = self._workers()
        self.times = times(contender.pids)

    def figures(self, requests, seconds):
        """Of the load since: `requests` answered in `seconds`."""
        spent = times(self.contender.pids).since(self.times)
        figures = {"requests": requests, "rate": requests / seconds, "cpu_us": spent.ran / requests / 1e3,
                   "cpu_share": spent.ran / 1e9 / seconds, "waited": spent.waited / 1e9 / seconds,
                   "resident": resident_bytes(self.contender.pids)}
        if self.workers:
            each = {name: ns - self.workers[name] for name, ns in sorted(self._workers().items())}
            total = sum(each.values())
            figures["workers"] = {name: value / total for name, value in each.items()} if total else {}
            figures["busiest"] = max(figures["workers"].values(), default=0.0)
        if self.lookups:
            hits, every = self._lookups()
            figures["hits"] = (hits - self.lookups[0]) / max(1, every - self.lookups[1])
        return figures

    def _workers(self):
        return worker_ns(self.contender.pids[0]) if self.contender.admin_port else {}

    def _lookups(self):
        return lookups(self.contender.admin_port) if self.contender.admin_port else None
