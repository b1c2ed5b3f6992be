"""What a server cost: its processes' CPU time and memory, read from /proc, and redis-proxy's own counters."""

import os
import pathlib
import resource

import contenders

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids):
    """User and system time of the processes, threads included (proc(5), stat, fields 14 and 15)."""
    return sum(_times(pathlib.Path(f"/proc/{pid}/stat")) for pid in pids)


def worker_seconds(pid):
    """The same of each of redis-proxy's worker threads, by name."""
    seconds = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        if name.startswith("worker-"):
            seconds[name] = _times(task / "stat")
    return seconds


def _times(stat):
    # The name may hold blanks and parentheses; what follows its last one does not.
    fields = stat.read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


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
        self.before = self._read()

    def _read(self):
        pids, admin_port = self.contender.pids, self.contender.admin_port
        if admin_port is None:
            return cpu_seconds(pids), {}, (0, 0)
        return cpu_seconds(pids), worker_seconds(pids[0]), lookups(admin_port)

    def figures(self, requests, seconds):
        """Of the load since: `requests` answered in `seconds`."""
        cpu, workers, (hits, all_lookups) = self._read()
        spent = cpu - self.before[0]
        figures = {"requests": requests, "rate": requests / seconds, "cpu_us": spent / requests * 1e6,
                   "cpu_share": spent / seconds, "resident": resident_bytes(self.contender.pids)}
        if workers:
            each = {name: seconds - self.before[1][name] for name, seconds in sorted(workers.items())}
            total = sum(each.values())
            figures["workers"] = {name: value / total for name, value in each.items()} if total else {}
            figures["busiest"] = max(figures["workers"].values(), default=0.0)
            figures["hits"] = (hits - self.before[2][0]) / max(1, all_lookups - self.before[2][1])
        return figures
