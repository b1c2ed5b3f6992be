"""The load: our own closed loop (bench/src/load), `redis-proxy bench` as an open one, and keys put in beforehand."""

import dataclasses
import json
import subprocess

from contenders import BUILT, LOAD_CORE, PROGRAM, BenchError
from workloads import RESP

QUANTILES = ("p50", "p99", "p99.9")
# Before a round is measured: buffers and windows have their size.
WARM_MS = 20
# Filling is no measurement; few connections with much to do take the least time.
FILL = {"connections": 8, "depth": 128}


class ClosedLoop:
    """The load on a server, connected: `run` asks for a while. Its connections end with the `with` block."""

    def __init__(self, port, load, pinned=True, command="get"):
        arguments = [
            str(port), "--protocol", load.protocol, "--command", command, "--fields", load.fields, "--connections",
            str(load.connections), "--depth", str(load.depth), "--choice", load.choice, "--keys", str(load.space),
            "--key", load.key(), "--value-bytes", str(load.value),
        ]
        self.process = subprocess.Popen([*_pin(pinned), BUILT / "load", *arguments], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._line()

    def run(self, milliseconds):
        """Requests answered, and in how many seconds; keeps how long an answer was."""
        self.process.stdin.write(f"{milliseconds}\n")
        self.process.stdin.flush()
        outcome = json.loads(self._line())
        self.answer_bytes = outcome["bytes"] / max(1, outcome["answers"])
        return outcome["answers"], outcome["seconds"]

    def _line(self):
        line = self.process.stdout.readline()
        if not line:
            raise BenchError(f"the load: {self.process.stderr.read().strip()}")
        return line

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate()


def open_loop(port, load, seconds, rate, pinned=True):
    """Runs our other generator at `rate`; answers, seconds, and the quantiles of latency in milliseconds."""
    command = [
        *_pin(pinned), PROGRAM, "bench", f"http://127.0.0.1:{port}", "--rate", str(int(rate)), "--warmup", "0s",
        "--duration", f"{seconds}s", "--connections", str(load.connections), "--keys", str(load.space),
        "--key-prefix", load.key(), "--key-digits", "12", "--json",
    ]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if report["errors"] or set(report["statuses"]) != {"200"}:
        raise BenchError(f"redis-proxy bench: {report['errors']} {report['statuses']}")
    quantiles = {name: report["latency_us"][name] / 1000 for name in QUANTILES}
    return report["answers"], seconds, {**quantiles, "warnings": report["warnings"]}


def _pin(pinned):
    return ["taskset", "-c", LOAD_CORE] if pinned else []


def fill(port, load, pinned=True):
    """Asks once for each key that the load may ask for, so that a cache that reads through holds them all."""
    _each_key(port, load, pinned, "get")


def set_all(port, load, pinned=True):
    """Writes each of these keys to a Redis."""
    _each_key(port, load, pinned, "set")


def _each_key(port, load, pinned, command):
    once = dataclasses.replace(load, choice="once", **FILL)
    if command == "set":
        once = dataclasses.replace(once, protocol=RESP)
    with ClosedLoop(port, once, pinned, command) as clients:
        answers, _ = clients.run(0)
    if answers != load.space:
        raise BenchError(f"{answers} of {load.space} keys were put in")
