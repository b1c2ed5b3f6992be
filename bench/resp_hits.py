#!/usr/bin/env python3
"""Server CPU a GET that is answered from memory, beside redis-server's own GET.

    bench/resp_hits.py target/release/redis-proxy [rounds]

Each contender alone on core 0, redis-benchmark on core 1: 50 clients, GET of 3 bytes, pipeline depths 1, 16 and 64, in turn.
The proxy serves hits: in mode ttl with one worker, the same with two (on both cores), and in mode tracking. CPU is
utime + stime of the process over the commands.
"""

import os
import statistics
import subprocess
import sys
import tempfile

from resp_beside_nutcracker import COMMANDS, cpu_seconds, free_port, start, wait_for

CONTENDERS = {
    "redis-server": None,
    "ttl": {"WORKERS": "1", "RESP_COHERENCE": "ttl"},
    "ttl, 2 workers": {"WORKERS": "2", "RESP_COHERENCE": "ttl"},
    "tracking": {"WORKERS": "1", "RESP_COHERENCE": "tracking"},
}


def load(port, depth):
    arguments = ["-p", port, "-n", COMMANDS[depth], "-P", depth, "-c", 50, "-t", "get", "-q"]
    command = ["taskset", "-c", "1", "redis-benchmark", *map(str, arguments)]
    subprocess.run(command, capture_output=True, timeout=120, check=True)


def main():
    program, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
    folder = tempfile.TemporaryDirectory()
    redis_port, alone_port = free_port(), free_port()
    serve = ["redis-server", "--save", "", "--dir", folder.name, "--port"]
    processes = {"behind": start(1, [*serve, str(redis_port)]), "redis-server": start(0, [*serve, str(alone_port)])}
    ports = {"redis-server": alone_port}
    try:
        for port in (redis_port, alone_port):
            wait_for(port)
            key = ["redis-cli", "-p", str(port), "SET", "key:__rand_int__", "xxx"]
            subprocess.run(key, capture_output=True, check=True)
        for name, settings in CONTENDERS.items():
            if settings is None:
                continue
            ports[name] = free_port()
            environment = {
                "PATH": os.environ["PATH"], "PORT": "off", "ADMIN_PORT": "off", "RESP_PORT": str(ports[name]), "LOG": "off",
                "REDIS_URL": f"redis://127.0.0.1:{redis_port}", "GLOBAL_EXPIRY": "1h", **settings,
            }
            cores = "0,1" if settings["WORKERS"] == "2" else "0"
            processes[name] = start(cores, [program], env=environment)
            wait_for(ports[name])
        figures = {}
        for turn in range(rounds):
            for depth in COMMANDS:
                order = list(ports)
                for name in order if turn % 2 == 0 else reversed(order):
                    before = cpu_seconds(processes[name].pid)
                    load(ports[name], depth)
                    cost = (cpu_seconds(processes[name].pid) - before) / COMMANDS[depth] * 1e6
                    figures.setdefault((depth, name), []).append(cost)
                    print(f"round {turn + 1} depth {depth:2} {name:15} {cost:6.3f} us", file=sys.stderr)
        print(f"{'':15} {'depth':>5} {'us a GET':>9} {'spread':>13} {'ratio':>6}")
        for (depth, name), costs in sorted(figures.items()):
            median = statistics.median(costs)
            ratios = [cost / peer for cost, peer in zip(costs, figures[depth, "redis-server"])]
            spread = f"{min(costs):.2f}-{max(costs):.2f}"
            print(f"{name:15} {depth:5} {median:9.3f} {spread:>13} {statistics.median(ratios):6.2f}")
    finally:
        for process in processes.values():
            process.terminate()
            process.wait()
        folder.cleanup()


if __name__ == "__main__":
    main()
