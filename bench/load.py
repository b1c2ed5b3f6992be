"""The load: wrk as a closed loop, `redis-proxy bench` as an open one, and keys filled in beforehand."""

import json
import re
import socket
import subprocess
import threading

from contenders import HERE, LOAD_CORE, PROGRAM, BenchError, program, target_of

QUANTILES = ("p50", "p99", "p99.9")
# Requests that a filling connection has sent and not been answered yet.
FILL_BATCH = 512
FILL_CONNECTIONS = 8


def closed_loop(server, port, load, seconds):
    """Runs wrk; the number of requests answered, and in how many seconds."""
    command = [*_pinned(server), program("wrk"), "-t1", f"-c{load.connections}", f"-d{seconds}s"]
    url = f"http://127.0.0.1:{port}{target_of(load.value)}"
    if load.depth > 1 or load.choice != "one":
        command += ["-s", str(HERE / "keys.lua"), url, "--", load.choice, str(load.depth), str(load.space)]
    else:
        command.append(url)
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return answered(printed)


def open_loop(server, port, load, seconds, rate):
    """Runs our own generator at `rate`; answers, seconds, and the quantiles of latency in milliseconds."""
    command = [
        *_pinned(server), PROGRAM, "bench", f"http://127.0.0.1:{port}", "--rate", str(int(rate)), "--warmup", "0s",
        "--duration", f"{seconds}s", "--connections", str(load.connections), "--keys", str(load.space), "--json",
    ]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if report["errors"] or set(report["statuses"]) != {"200"}:
        raise BenchError(f"redis-proxy bench: {report['errors']} {report['statuses']}")
    quantiles = {name: report["latency_us"][name] / 1000 for name in QUANTILES}
    return report["answers"], seconds, {**quantiles, "warnings": report["warnings"]}


def _pinned(server):
    return ["taskset", "-c", LOAD_CORE] if server.pinned else []


def answered(printed):
    """What wrk printed, as requests and seconds. A load with failures measures something else."""
    found = re.search(r"(\d+) requests in ([\d.]+)(m?s|m)", printed)
    errors = re.search(r"Socket errors: connect (\d+), read \d+, write \d+, timeout (\d+)", printed)
    if not found or "Non-2xx" in printed or (errors and any(map(int, errors.groups()))):
        raise BenchError(f"wrk printed:\n{printed}")
    unit = {"ms": 0.001, "s": 1.0, "m": 60.0}[found.group(3)]
    return int(found.group(1)), float(found.group(2)) * unit


def fill(port, keys):
    """Asks for `key:0` to `key:N` once, so that they are in the cache."""
    failures = []

    def part(first):
        try:
            _fill_part(port, range(first, keys, FILL_CONNECTIONS))
        except (OSError, BenchError) as error:
            failures.append(error)

    threads = [threading.Thread(target=part, args=(first,)) for first in range(FILL_CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise BenchError(f"filling the cache: {failures[0]}")


def _fill_part(port, numbers):
    head_end = b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        for begin in range(0, len(numbers), FILL_BATCH):
            batch = numbers[begin : begin + FILL_BATCH]
            client.sendall(b"".join(b"HEAD /key:%d HTTP/1.1\r\nHost: bench\r\n\r\n" % number for number in batch))
            answers, rest = 0, b""
            while answers < len(batch):
                chunk = client.recv(1 << 18)
                if not chunk:
                    raise BenchError("the connection was closed")
                whole, _, rest = (rest + chunk).rpartition(head_end)
                if not whole:
                    continue
                ends = whole.count(head_end) + 1
                if whole.count(b"HTTP/1.1 200") != ends:
                    raise BenchError(f"not all answers were 200: {whole[:200]!r}")
                answers += ends
