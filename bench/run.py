#!/usr/bin/env python3
"""The bench: redis-proxy and its peers under the same load, in turns; server CPU a request, throughput, memory.

The server has core 0, the load core 1. The figure to compare is the user + system CPU of the server over the requests
it answered: on a machine whose cores are shared it is steadier than throughput. A workload that is measured again
replaces its record; `table.md` and `plot.svg` are made from all that are there.

    python3 bench/run.py [--only NAME,NAME] [--rounds 15] [--seconds 1] [--quick] [--out FOLDER] [--list]
"""

import argparse
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
import load
import machine
import plot
import report
from contenders import BenchError
from measure import Meter
from workloads import OURS, WORKLOADS


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="names of workloads, with commas")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=int, help="of each case in each round")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 s, without the long cases")
    parser.add_argument("--out", type=pathlib.Path, help="by default a folder of today in bench/record, of a quick run target/bench")
    parser.add_argument("--list", action="store_true", help="the workloads and their cases")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 15)
    options.seconds = options.seconds or 1
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
        line = f"[{self.done + 1:3}/{self.steps}] {text:60} {left // 60:3.0f}:{left % 60:02.0f} left"
        print(line, end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)
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
            self.redis = contenders.Redis(self.work, self.workload.keys())
            # Its answers are what the constant servers say, so it comes first.
            for server in sorted({case.server for case in self.workload.cases}, key=lambda one: one.kind != OURS):
                self.running[server] = contenders.start(server, self.redis, self.answer, self.work)
                if server.filled:
                    load.fill(self.running[server].port, server.filled)
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
        port = next(running.port for server, running in self.running.items() if server.kind == OURS)
        return contenders.hit(port, value)


def measure(workload, options, progress, work):
    """All rounds of a workload, as its record."""
    cases = {
        case.label: {"contender": case.server.kind, "depth": case.load.depth, "connections": case.load.connections,
                     "rounds": []}
        for case in workload.cases
    }
    progress.say(f"{workload.name}: {workload.title}")
    with Servers(workload, work) as servers:
        for case in workload.cases:
            contender = servers.running[case.server]
            answer_bytes = contender.answer_bytes or len(contenders.hit(contender.port, case.load.value))
            cases[case.label]["answer_bytes"] = answer_bytes
            # Once without looking: caches fill, interpreters compile.
            load.closed_loop(case.server, contender.port, case.load, 1)
        for number in range(options.rounds):
            # Nobody always comes first. A case whose rate another tells waits for its first figures.
            first = number % len(workload.cases)
            for case in workload.cases[first:] + workload.cases[:first]:
                progress.step(f"{workload.name}  round {number + 1}/{options.rounds}  {case.label}")
                contender = servers.running[case.server]
                done = cases.get(case.load.half_of, {}).get("rounds")
                cases[case.label]["rounds"].append(one_round(case, contender, options.seconds, done))
    return {"title": workload.title, "measured": f"{datetime.datetime.now():%Y-%m-%d %H:%M}",
            "rounds": options.rounds, "seconds": options.seconds, "cases": cases}


def one_round(case, contender, seconds, saturated):
    """The figures of one case's turn; `saturated` are the rounds that tell how much its server can do."""
    meter = Meter(contender)
    if not case.load.half_of:
        return meter.figures(*load.closed_loop(case.server, contender.port, case.load, seconds))
    rate = 0.5e6 / statistics.median(figures["cpu_us"] for figures in saturated)
    answers, seconds, latency = load.open_loop(case.server, contender.port, case.load, seconds, rate)
    return {**meter.figures(answers, seconds), **latency}


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
            results["workloads"][workload.name] = measure(workload, options, progress, work)
            file.write_text(json.dumps(results, indent=1) + "\n")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    table = report.table(results)
    (options.out / "table.md").write_text(table)
    (options.out / "plot.svg").write_text(plot.svg(results))
    print(table)
    print(f"written to {options.out}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except (BenchError, OSError) as error:
        sys.exit(f"bench: {error}")
