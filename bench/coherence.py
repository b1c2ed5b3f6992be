#!/usr/bin/env python3
"""What the coherent modes cost: CPU of redis-server a fill, and how fast a storm of invalidations is applied.

A fill is a GET in mode `ttl` and PTTL with GET in `tracking`. Distinct keys are asked for in batches, so that each is a
fill; the figure is user + system CPU of redis-server over the fills. For the storm all keys are cached, and one script
changes every one of them: counted are the time until the last is invalidated, the program's CPU, and its resident size.

    python3 bench/coherence.py [--keys 100000] [--out bench/record/NAME.txt]
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from contenders import PROGRAM, BenchError, Redis, free_port, get, wait_for
from load import fill, set_all
from measure import resident_bytes, times
from workloads import Load

def cpu_seconds(pid):
    return times([pid]).ran / 1e9


def resident_mib(pid):
    return resident_bytes([pid]) / 2**20


class Proxy:
    """The program in a mode."""

    def __init__(self, redis, mode):
        self.port, self.admin = free_port(), free_port()
        settings = {"PATH": os.environ["PATH"], "REDIS_PORT": redis.port, "PORT": self.port, "ADMIN_PORT": self.admin, "RESP_PORT": "off",
                    "COHERENCE": mode, "CAPACITY": 1_000_000, "GLOBAL_EXPIRY": "1h", "LOG": "error"}
        self.process = subprocess.Popen([PROGRAM], env={name: str(value) for name, value in settings.items()})
        wait_for(self.port, self.process)
        for _ in range(200):
            # From memory: a link is in force from then on.
            if mode == "ttl" or b"; hit" in get(self.port, "/100"):
                return
            time.sleep(0.05)
        raise BenchError(f"{mode} does not come into force")

    def metric(self, name):
        found = re.search(rf"^{name} (\S+)", get(self.admin, "/metrics").decode(), re.MULTILINE)
        return float(found.group(1))

    def end(self):
        self.process.terminate()
        self.process.wait()


def fills(redis, mode, keys):
    """Microseconds of redis-server CPU a fill."""
    proxy = Proxy(redis, mode)
    try:
        before = cpu_seconds(redis.process.pid)
        fill(proxy.port, Load(space=keys), pinned=False)
        return (cpu_seconds(redis.process.pid) - before) / keys * 1e6
    finally:
        proxy.end()


def storm(redis, keys):
    """Keys a second that are invalidated, microseconds of the program's CPU a key, resident MiB before and after."""
    proxy = Proxy(redis, "tracking")
    try:
        fill(proxy.port, Load(space=keys), pinned=False)
        pid = proxy.process.pid
        counted = "redis_proxy_link_invalidations_total"
        before, cpu, resident = proxy.metric(counted), cpu_seconds(pid), resident_mib(pid)
        began = time.monotonic()
        redis.command("eval", f"for i = 0, {keys - 1} do redis.call('SET', string.format('key:%012d', i), 'changed') end", "0")
        while proxy.metric(counted) < before + keys:
            if time.monotonic() - began > 30:
                raise BenchError(f"{proxy.metric(counted) - before:.0f} of {keys} keys were invalidated")
            time.sleep(0.001)
        took = time.monotonic() - began
        return keys / took, (cpu_seconds(pid) - cpu) / keys * 1e6, resident, resident_mib(pid)
    finally:
        proxy.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    lines = [f"# python3 bench/coherence.py --keys {options.keys} --rounds {options.rounds}"]
    with tempfile.TemporaryDirectory() as work:
        redis = Redis(work, pinned=False)
        try:
            set_all(redis.port, Load(space=options.keys), pinned=False)
            for _ in range(options.rounds):
                for mode in ("ttl", "tracking"):
                    cost = fills(redis, mode, options.keys)
                    lines.append(f"redis-server CPU a fill, {mode:8}: {cost:5.2f} us")
                    print(lines[-1], flush=True)
            for _ in range(options.rounds):
                rate, cost, before, after = storm(redis, options.keys)
                lines.append(f"storm: {rate:,.0f} keys/s invalidated, {cost:.2f} us of CPU a key, "
                             f"resident {before:.1f} MiB before, {after:.1f} after")
                print(lines[-1], flush=True)
        finally:
            redis.end()
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"coherence: {error}")
