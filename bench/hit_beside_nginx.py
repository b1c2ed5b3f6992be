#!/usr/bin/env python3
"""Server CPU of a cached hit beside nginx's constant answer.

Both servers run one worker pinned to core 0, wrk runs on core 1 with 64 connections; they take turns for several
rounds. The figure is user + system CPU of the server process over the requests it served: on a machine whose cores
are shared it is steadier than throughput. nginx answers `return 200` with the same body and header bytes within 10 %.

    python3 bench/hit_beside_nginx.py [--rounds 5] [--seconds 4] [--out bench/record/NAME.txt]
"""

import argparse
import datetime
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target" / "release" / "redis-proxy"
VALUE = "v" * 100
TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing listens on {port}")


def cpu_seconds(pids):
    """User + system time of the processes, threads included (proc(5), stat, fields 14 and 15)."""
    total = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def answer_of(port):
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /key HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
        parts = b""
        while chunk := client.recv(65536):
            parts += chunk
    return parts


def load(port, seconds, depth, work):
    """Runs wrk on core 1; the number of requests it counted."""
    command = ["taskset", "-c", "1", "wrk", "-t1", "-c64", f"-d{seconds}s", f"http://127.0.0.1:{port}/key"]
    if depth > 1:
        script = work / "pipeline.lua"
        script.write_text(
            "init = function() local r = {} for i = 1, %d do r[i] = wrk.format() end req = table.concat(r) end\n"
            "request = function() return req end\n" % depth
        )
        command[-1:-1] = ["-s", str(script)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in printed or "Socket errors" in printed:
        sys.exit(printed)
    return int(re.search(r"(\d+) requests in", printed).group(1))


def nginx_config(work, port, head_like):
    """A config whose `return 200` has the value as body and headers of about the same size."""
    lines = head_like.split(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    own = {"content-type", "content-length", "connection", "date", "server"}
    headers = "".join(
        "add_header %s '%s';" % tuple(line.split(": ", 1)) for line in lines if line.split(":")[0].lower() not in own
    )
    config = work / "nginx.conf"
    config.write_text(
        f"""worker_processes 1; daemon off; pid {work}/nginx.pid; error_log {work}/error.log;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600; tcp_nodelay on;
  default_type 'text/plain; charset=utf-8';
  server {{ listen 127.0.0.1:{port}; location / {{ {headers} return 200 '{VALUE}'; }} }} }}
"""
    )
    return config


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=int, default=4)
    arguments.add_argument("--out")
    options = arguments.parse_args()
    for needed in ("wrk", "nginx", "redis-server", "redis-cli", "taskset"):
        if not shutil.which(needed) and not pathlib.Path(f"/usr/sbin/{needed}").exists():
            sys.exit(f"{needed} is not installed")
    work = pathlib.Path(tempfile.mkdtemp(prefix="hit-bench-"))
    ours, nginx, redis_port = free_port(), free_port(), free_port()
    started = []
    lines = []

    def say(text):
        print(text, flush=True)
        lines.append(text)

    try:
        started.append(subprocess.Popen(
            ["redis-server", "--port", str(redis_port), "--save", "", "--dir", str(work)], stdout=subprocess.DEVNULL))
        wait_for(redis_port)
        subprocess.run(["redis-cli", "-p", str(redis_port), "set", "key", VALUE], check=True, stdout=subprocess.DEVNULL)
        settings = dict(os.environ, REDIS_PORT=str(redis_port), PORT=str(ours), ADMIN_PORT="0", WORKERS="1",
                        GLOBAL_EXPIRY="1h", LOG="warn")
        proxy = subprocess.Popen(["taskset", "-c", "0", str(PROGRAM)], env=settings)
        started.append(proxy)
        wait_for(ours)
        answer_of(ours)
        head = answer_of(ours)
        master = subprocess.Popen(["taskset", "-c", "0", "nginx", "-c", str(nginx_config(work, nginx, head))])
        started.append(master)
        wait_for(nginx)
        children = subprocess.run(["pgrep", "-P", str(master.pid)], capture_output=True, text=True).stdout.split()
        sizes = len(head), len(answer_of(nginx))
        say(f"{datetime.date.today()}  answer bytes: redis-proxy {sizes[0]}, nginx {sizes[1]}")
        say(f"{options.rounds} rounds of {options.seconds} s, 64 connections, value of {len(VALUE)} bytes")
        for depth in (1, 16):
            costs = {"redis-proxy": [], "nginx": []}
            rates = {"redis-proxy": [], "nginx": []}
            for _ in range(options.rounds):
                for name, port, pids in (("redis-proxy", ours, [proxy.pid]), ("nginx", nginx, children)):
                    before = cpu_seconds(pids)
                    count = load(port, options.seconds, depth, work)
                    costs[name].append((cpu_seconds(pids) - before) / count * 1e6)
                    rates[name].append(count / options.seconds)
            for name in costs:
                say(f"depth {depth:2}  {name:12} server CPU {statistics.median(costs[name]):6.2f} us a request "
                    f"({min(costs[name]):.2f} to {max(costs[name]):.2f}), {statistics.median(rates[name]):9,.0f} a second")
            ratios = sorted(a / b for a, b in zip(costs["redis-proxy"], costs["nginx"]))
            say(f"depth {depth:2}  redis-proxy / nginx, round by round: median {statistics.median(ratios):.3f} "
                f"({ratios[0]:.3f} to {ratios[-1]:.3f})")
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()
        shutil.rmtree(work, ignore_errors=True)
    if options.out:
        pathlib.Path(options.out).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
