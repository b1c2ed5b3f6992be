#!/usr/bin/env python3
"""Resident size and start time of the built program, each beside its target.

Cold start to the first answer, 10,000 idle connections, 20 slow readers with 50 pipelined values of 1 MiB each (the same
50 keys, and keys of their own with a small cache), value sizes that shift under a byte budget.

    python3 bench/memory.py [--connections 10000] [--out bench/record/NAME.txt]
"""

import argparse
import concurrent.futures
import datetime
import os
import pathlib
import resource
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

from contenders import PROGRAM, free_port, get, redis_command, wait_for
from load import ClosedLoop, set_all
from measure import resident_bytes
from workloads import Load

MIB = 1024 * 1024


class Proxy:
    """The program in front of a Redis, ended with the `with` block."""

    def __init__(self, redis_port, **settings):
        self.port = free_port()
        names = dict(os.environ, REDIS_PORT=str(redis_port), PORT=str(self.port), ADMIN_PORT="off", RESP_PORT="off", LOG="warn",
                     GLOBAL_EXPIRY="1h")
        names.update({name: str(value) for name, value in settings.items()})
        self.process = subprocess.Popen([str(PROGRAM)], env=names)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def resident(self):
        return resident_bytes([self.process.pid])

    def get(self, target):
        return get(self.port, target)


def cold_start(redis_port):
    """Milliseconds from exec to the first whole answer, a miss."""
    began = time.perf_counter()
    with Proxy(redis_port) as proxy:
        while True:
            try:
                answer = proxy.get("/small")
                break
            except OSError:
                time.sleep(0.001)
        took = (time.perf_counter() - began) * 1e3
    assert answer.startswith(b"HTTP/1.1 200"), answer[:80]
    return took


def idle_connections(redis_port, count):
    with Proxy(redis_port, MAX_CLIENTS=count, IDLE_TIMEOUT="10m") as proxy:
        wait_for(proxy.port)
        proxy.get("/small")
        baseline = proxy.resident()
        clients = []
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", proxy.port))
            client.sendall(b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
            clients.append(client)
        after = proxy.resident()
        for client in clients:
            client.close()
    return baseline, after


def slow_readers(redis_port, distinct, **settings):
    """The most that 20 clients which ask for 50 values of 1 MiB each and read nothing add to the resident size."""
    with Proxy(redis_port, **settings) as proxy:
        wait_for(proxy.port)
        for number in range(50):
            proxy.get(f"/large:{number}")
        before = proxy.resident()
        clients = []
        for reader in range(20):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
            client.connect(("127.0.0.1", proxy.port))
            first = reader * 50 if distinct else 0
            client.sendall(b"".join(
                f"GET /large:{first + number} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for number in range(50)))
            clients.append(client)
        most = 0
        for _ in range(30):
            time.sleep(0.1)
            most = max(most, proxy.resident())
        for client in clients:
            client.close()
    return most - before


def shifting_sizes(redis_port, budget):
    """The largest resident size while values of one size after the other fill the cache, over budget + baseline."""
    worst = 0.0
    # A busy machine is no reason to give up: the load bears no 504.
    with Proxy(redis_port, CAPACITY=10_000_000, CAPACITY_BYTES=budget, UPSTREAM_TIMEOUT="30s") as proxy:
        wait_for(proxy.port)
        proxy.get("/small")
        time.sleep(0.3)
        baseline = proxy.resident()
        for phase, size in enumerate((500, 8_000, 100, 60_000, 1_500, 300_000, 300)):
            count = min(600_000, int(1.3 * budget / (size + 80)))
            walk = Load(connections=16, choice="walk", space=count, value=size, prefix=f"p{phase}:")
            redis_command(redis_port, "flushall")
            set_all(redis_port, walk, pinned=False)
            with ClosedLoop(proxy.port, walk, pinned=False) as clients:
                with concurrent.futures.ThreadPoolExecutor(1) as pool:
                    asking = pool.submit(clients.run, 8_000)
                    while not asking.done():
                        worst = max(worst, (proxy.resident() - baseline) / budget)
                        time.sleep(0.02)
                # A load that failed has filled nothing.
                asking.result()
    return worst


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--connections", type=int, default=10_000)
    arguments.add_argument("--out")
    options = arguments.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    work = pathlib.Path(tempfile.mkdtemp(prefix="memory-bench-"))
    redis_port = free_port()
    lines = []

    def say(text):
        print(text, flush=True)
        lines.append(text)

    redis = subprocess.Popen(["redis-server", "--port", str(redis_port), "--save", "", "--dir", str(work)],
                             stdout=subprocess.DEVNULL)
    try:
        wait_for(redis_port)
        cli = ["redis-cli", "-p", str(redis_port)]
        subprocess.run([*cli, "set", "small", "v" * 100], check=True, stdout=subprocess.DEVNULL)
        fill = "for i = 0, 999 do redis.call('SET', 'large:' .. i, string.rep('v', 1048576)) end"
        subprocess.run([*cli, "eval", fill, "0"], check=True, stdout=subprocess.DEVNULL)
        say(f"{datetime.date.today()}")
        starts = [cold_start(redis_port) for _ in range(11)]
        say(f"cold start to first answer: median {statistics.median(starts):.1f} ms, worst {max(starts):.1f} ms of "
            f"{len(starts)} (at most 100)")
        baseline, after = idle_connections(redis_port, options.connections)
        say(f"{options.connections} idle keep-alive connections: {after / MIB:.1f} MiB resident, "
            f"{(after - baseline) / options.connections:,.0f} bytes each (at most 120 MiB)")
        say(f"20 slow readers x 50 values of 1 MiB, the same keys: +{slow_readers(redis_port, False) / MIB:.1f} MiB "
            "(at most 64)")
        say("20 slow readers x 50 values of 1 MiB, all keys distinct, CAPACITY=50: "
            f"+{slow_readers(redis_port, True, CAPACITY=50) / MIB:.1f} MiB (at most 64)")
        for budget in (64, 256):
            say(f"value sizes shift between 100 B and 300 kB under CAPACITY_BYTES={budget}MiB: at most "
                f"{shifting_sizes(redis_port, budget * MIB):.3f} of the budget above the baseline (at most 1.10)")
    finally:
        redis.terminate()
        redis.wait()
        shutil.rmtree(work, ignore_errors=True)
    if options.out:
        pathlib.Path(options.out).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
