#!/usr/bin/env python3
"""The bench: redis-proxy and its peers under the same load, in turns; server CPU a request, throughput, memory.

The server has core 0, the load core 1. The figure to compare is the CPU of the server (schedstat) over the requests it
answered, and its ratio to a peer's in the same round: on a machine whose cores are shared that is steadier than throughput.
A workload that is measured again replaces its record; `table.md` and `plot.svg` are made from all that are there.

    python3 bench/run.py [--only NAME,NAME] [--rounds 15] [--quick] [--out FOLDER] [--list]
    python3 bench/run.py --only floor       # where the hit path stands beside its targets, three minutes
"""

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import resource
import shlex
import shutil
import signal
import statistics
import sys
import tempfile
import time

import contenders
import instructions
import load
import machine
import plot
import report
from contenders import BenchError
from measure import Meter, resident_bytes, times
from targets import FLOOR
from workloads import NOOP, OURS, REDIS, VALKEY, WORKLOADS, Load

ROUND_MS = 300
# Of an open loop: a round has 50 requests above its p99.9.
OPEN_SECONDS = 1
# With fewer keys what they cost is lost among buffers.
WEIGHED_KEYS = 1_000_000
# Bytes by which answers may differ that should be equally long.
MOST_APART = 4
# Bytes of a key with a number, and of its value.
KEY_AND_VALUE = 16 + 100


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="names of workloads, with commas")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true", help="2 rounds, without the long cases and without callgrind")
    parser.add_argument("--out", type=pathlib.Path, help="by default a folder of today in bench/record, of a quick run target/bench")
    parser.add_argument("--list", action="store_true", help="the workloads and their cases")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 15)
    names = {workload.name for workload in WORKLOADS}
    wanted = set(filter(None, options.only.split(","))) or names
    if wanted - names:
        parser.error(f"no such workload: {', '.join(sorted(wanted - names))}; --list names them")
    options.workloads = [workload for workload in WORKLOADS if workload.name in wanted]
    if options.quick:
        options.workloads = [workload.quick() for workload in options.workloads]
    if not options.out:
        # A quick look is no record.
        name = f"{datetime.date.today()}-{os.cpu_count()}-cores"
        options.out = contenders.ROOT / "target" / "bench" if options.quick else contenders.HERE / "record" / name
    return options


class Progress:
    """One line on stderr: what is measured, and when all will be."""

    def __init__(self, steps):
        self.steps, self.done, self.began = steps, 0, time.monotonic()

    def step(self, text):
        spent = time.monotonic() - self.began
        left = spent / self.done * (self.steps - self.done) if self.done else 0
        line = f"[{self.done + 1:4}/{self.steps}] {text:60} {left // 60:3.0f}:{left % 60:02.0f} left"
        if sys.stderr.isatty():
            print(line, end="\r", file=sys.stderr, flush=True)
        self.done += 1

    def say(self, text):
        print(f"{text:90}", file=sys.stderr, flush=True)


class Servers:
    """The servers of a workload, each started once and ended with the `with` block."""

    def __init__(self, workload, work):
        self.work = work
        self.running = {}
        self.redis = None
        self.workload = workload

    def __enter__(self):
        try:
            self.redis = contenders.Redis(self.work)
            if keys := self.workload.keys():
                load.set_all(self.redis.port, Load(space=keys))
            # Its answers are what the constant servers say, so it comes first.
            for server in sorted({case.server for case in self.workload.cases}, key=lambda one: one.kind != OURS):
                self.running[server] = contenders.start(server, self.redis, self.answer, self.work)
                if server.filled:
                    fill(self.running[server], server)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for contender in self.running.values():
            contender.end()
        if self.redis:
            self.redis.end()

    def answer(self, value):
        """What redis-proxy answers with from memory for a value of this size, on a connection that stays."""
        port = next(running.http_port for server, running in self.running.items() if server.kind == OURS)
        return contenders.hit(port, value)


def fill(contender, server):
    """Puts its keys into a server, and weighs them where they are many."""
    keys = Load(space=server.filled, protocol=server.protocol)
    put_in = load.set_all if server.kind in (REDIS, VALKEY) else load.fill
    # Buffers and threads have their size before.
    put_in(contender.port, dataclasses.replace(keys, space=1000))
    before = resident_bytes(contender.pids)
    put_in(contender.port, keys)
    if server.filled >= WEIGHED_KEYS:
        contender.entry_bytes = (resident_bytes(contender.pids) - before) / server.filled - KEY_AND_VALUE


def measure(workload, options, progress, work):
    """All rounds of a workload, as its record."""
    cases = {}
    progress.say(f"{workload.name}: {workload.title}")
    with Servers(workload, work) as servers:
        for case in workload.cases:
            contender = servers.running[case.server]
            cases[case.label] = {
                "contender": case.server.kind, "depth": case.load.depth, "connections": case.load.connections,
                "beside": case.beside, "request_bytes": case.load.request_bytes(contender.port), "rounds": []}
            if contender.entry_bytes is not None:
                cases[case.label]["entry_bytes"] = contender.entry_bytes
            # Once without looking: caches fill, interpreters compile.
            one_round(case, contender, None)
        for number in range(options.rounds):
            # Nobody always comes first. A case whose rate another tells waits for its first figures.
            first = number % len(workload.cases)
            for case in workload.cases[first:] + workload.cases[:first]:
                progress.step(f"{workload.name}  round {number + 1}/{options.rounds}  {case.label}")
                done = cases.get(case.load.half_of, {}).get("rounds")
                cases[case.label]["rounds"].append(one_round(case, servers.running[case.server], done))
    check_lengths(cases)
    return {"title": workload.title, "measured": f"{datetime.datetime.now():%Y-%m-%d %H:%M}",
            "rounds": options.rounds, "milliseconds": ROUND_MS, "cases": cases}


def check_lengths(cases):
    """The no-op server must answer with as many bytes as we do, but for the digits of Age."""
    for label, case in cases.items():
        beside = cases.get(case["beside"])
        if case["contender"] == OURS and beside and beside["contender"] == NOOP:
            lengths = [one["rounds"][-1].get("answer_bytes", 0) for one in (case, beside)]
            if abs(lengths[0] - lengths[1]) > MOST_APART:
                raise BenchError(f"{label}: answers of {lengths[0]:.1f} bytes, beside {lengths[1]:.1f} of the no-op server")


def one_round(case, contender, saturated):
    """The figures of one case's turn; `saturated` are the rounds that tell how much is half of what a server can do."""
    try:
        if case.load.half_of and saturated:
            return _open_round(case, contender, saturated)
        with load.ClosedLoop(contender.port, case.load, case.server.pinned) as clients:
            clients.run(load.WARM_MS)
            meter, own = Meter(contender), times([clients.process.pid])
            answers, seconds = clients.run(ROUND_MS)
            figures = meter.figures(answers, seconds)
            own = times([clients.process.pid]).since(own)
            return {**figures, "answer_bytes": clients.answer_bytes, "load_waited": own.waited / 1e9 / seconds}
    except BenchError as error:
        raise BenchError(f"{case.label}: {error}") from error


def _open_round(case, contender, saturated):
    meter = Meter(contender)
    rate = 0.5e6 / statistics.median(figures["cpu_us"] for figures in saturated)
    answers, seconds, latency = load.open_loop(contender.port, case.load, OPEN_SECONDS, rate, case.server.pinned)
    return {**meter.figures(answers, seconds), **latency}


def count_instructions(work):
    """The figures of the floor that are counted, not timed."""
    names = [target.case for target in FLOOR if target.figure == "instructions"]
    backends = instructions.Backends(work)
    try:
        return {figure.name: instructions.measure(figure, backends, work)
                for figure in instructions.FIGURES if figure.name in names}
    finally:
        backends.end()


def main():
    options = arguments()
    if options.list:
        for workload in options.workloads:
            print(f"{workload.name:16}{workload.title}\n{'':16}" + "; ".join(case.label for case in workload.cases))
        return
    if (os.cpu_count() or 1) < 2:
        raise BenchError("server and load need a core each")
    # A thousand connections, and as many again for the load.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # As Ctrl-C does: what was started ends with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended by a signal"))
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {"workloads": {}}
    results["machine"] = machine.facts()
    results["command"] = shlex.join(sys.argv)
    progress = Progress(options.rounds * sum(len(workload.cases) for workload in options.workloads))
    work = pathlib.Path(tempfile.mkdtemp(prefix="bench-"))
    # nginx's worker is nobody where its master is root.
    work.chmod(0o755)
    try:
        for workload in options.workloads:
            measured = measure(workload, options, progress, work)
            if workload.name == "floor" and not options.quick:
                measured["instructions"] = count_instructions(work)
            results["workloads"][workload.name] = measured
            file.write_text(json.dumps(results, indent=1) + "\n")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    (options.out / "table.md").write_text(report.table(results))
    (options.out / "plot.svg").write_text(plot.svg(results))
    # What was measured before is in the files.
    measured = {workload.name: results["workloads"][workload.name] for workload in options.workloads}
    print(report.table({**results, "workloads": measured}, missing=False))
    print(f"written to {options.out}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except (BenchError, OSError) as error:
        sys.exit(f"bench: {error}")
