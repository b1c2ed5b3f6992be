#!/usr/bin/env python3
"""Server CPU a pass-through command, beside nutcracker (Debian: apt-get install nutcracker) and Redis itself.

    bench/resp_beside_nutcracker.py target/release/redis-proxy [rounds]

Each proxy runs alone on core 0 with one worker, redis-server and redis-benchmark on core 1; 50 clients, GET and SET of 3 bytes, pipeline
depths 1, 16 and 64, the contenders in turn. CPU is utime + stime of the proxy's process over the commands it passed.
"""

import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

COMMANDS = {1: 200_000, 16: 1_000_000, 64: 2_000_000}
TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def start(core, arguments, **options):
    return subprocess.Popen(
        ["taskset", "-c", str(core), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    )


def wait_for(port):
    for _ in range(200):
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as client:
                client.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
                if client.recv(1):
                    return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing answers on port {port}")


def load(port, depth):
    arguments = ["-p", port, "-n", COMMANDS[depth], "-P", depth, "-c", 50, "-t", "get,set", "-q"]
    command = ["taskset", "-c", "1", "redis-benchmark", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return [float(rate) for rate in re.findall(r"([\d.]+) requests per second", done.stdout)]


def main():
    program, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    redis_port, our_port, their_port = free_port(), free_port(), free_port()
    folder = tempfile.TemporaryDirectory()
    settings = f"""pool:
  listen: 127.0.0.1:{their_port}
  redis: true
  servers:
   - 127.0.0.1:{redis_port}:1
"""
    with open(f"{folder.name}/nutcracker.yml", "w", encoding="ascii") as file:
        file.write(settings)
    environment = {
        "PATH": os.environ["PATH"], "PORT": "off", "ADMIN_PORT": "off", "RESP_PORT": str(our_port), "WORKERS": "1", "RESP_COHERENCE": "off",
        "REDIS_URL": f"redis://127.0.0.1:{redis_port}", "LOG": "off",
    }
    redis = start(1, ["redis-server", "--port", str(redis_port), "--save", "", "--dir", folder.name])
    contenders = {}
    try:
        wait_for(redis_port)
        contenders["redis-proxy"] = (our_port, start(0, [program], env=environment))
        contenders["nutcracker"] = (
            their_port,
            start(0, ["nutcracker", "-c", f"{folder.name}/nutcracker.yml", "-s", str(free_port())]),
        )
        for port, _ in contenders.values():
            wait_for(port)
        figures = {}
        for turn in range(rounds):
            for depth in COMMANDS:
                order = list(contenders)
                for name in order if turn % 2 == 0 else reversed(order):
                    port, process = contenders[name]
                    before = cpu_seconds(process.pid)
                    rates = load(port, depth)
                    # GET and SET, each so many.
                    cost = (cpu_seconds(process.pid) - before) / (2 * COMMANDS[depth]) * 1e6
                    figures.setdefault((name, depth), []).append((cost, statistics.mean(rates)))
                    print(f"round {turn + 1} depth {depth:2} {name:12} {cost:6.2f} us", file=sys.stderr)
        print(f"{'':12} {'depth':>5} {'us a command':>14} {'spread':>13} {'commands/s':>11} {'ratio':>6}")
        for (name, depth), pairs in sorted(figures.items(), key=lambda item: (item[0][1], item[0][0])):
            costs = [cost for cost, _ in pairs]
            median = statistics.median(costs)
            peer = statistics.median([cost for cost, _ in figures["nutcracker", depth]])
            rate = statistics.median([rate for _, rate in pairs])
            spread = f"{min(costs):.2f}-{max(costs):.2f}"
            print(f"{name:12} {depth:5} {median:14.2f} {spread:>13} {rate:11.0f} {median / peer:6.2f}")
    finally:
        for process in [redis, *(process for _, process in contenders.values())]:
            process.terminate()
            process.wait()
        folder.cleanup()


if __name__ == "__main__":
    main()
