#!/usr/bin/env python3
"""Instructions a request costs: counted, not timed, so that a change of a few percent shows on any machine.

The built program runs under callgrind with one worker and a real redis-server. One connection asks N times and, in a
second run, 2N times; the difference of the worker's totals over N is the cost of a request, free of start and end. What
the kernel does is not counted. What follows the clock and not the requests counts for more where time is short, and only
ever adds: a figure that rose is measured again, and its least counts. As many figures are measured at a time as there are cores:
callgrind takes one for all threads of a program. The record has a line a figure and change; the last one of a figure is what `--check`
compares with.

    python3 bench/instructions.py [--check] [--record WHY] [--only NAME,NAME] [--keep FOLDER]

Where it differs between machines: the libraries choose code by the processor (AVX2 or not: memchr, BLAKE3, libc's memcpy).
callgrind shows the program a processor of its own, which has AVX2 where the real one has. It hides the vDSO, so a
reading of the clock counts as the few instructions before a system call.
"""

import argparse
import datetime
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from contenders import HERE, PROGRAM, BenchError, Redis, free_port, get, program, wait_for
from workloads import FIVE_FIELDS

RECORD = HERE / "record" / "instructions.txt"
# A rise above this fails the check. Runs of one program differ by less than 0.1 % in every figure that is steady.
MOST_RISE = 0.01
# How often a figure is measured before it has risen.
MOST_TRIES = 3
# How much more than its like a figure with `beside` may take.
MOST_BESIDE = 0.03
# From here on a change is told, though it fails nothing.
NOTABLE = 0.005
# Requests before those counted: buffers have their size, the keys their place.
WARM = 256
ANSWER = b"HTTP/1.1 "
# A program that starts under callgrind on a machine with other work.
PATIENCE_SECONDS = 120
# A busy machine is no reason to give up: the time it takes is not what counts.
LONG = {name: "1h" for name in ("HEAD_TIMEOUT", "IDLE_TIMEOUT", "WRITE_TIMEOUT", "UPSTREAM_TIMEOUT",
                                "REDIS_CONNECT_TIMEOUT", "SHUTDOWN_TIMEOUT")}


# Under callgrind threads take turns, so that the link is late.
TRACKING = {"COHERENCE": "tracking", "RESP_COHERENCE": "tracking", "MAX_STALENESS": "10m"}
STRICT = {"COHERENCE": "strict", "RESP_COHERENCE": "strict", "MAX_STALENESS": "10m"}


class Figure(NamedTuple):
    """One kind of request: asked for in batches of `depth`, taking turns among `targets`."""

    name: str
    depth: int
    count: int
    targets: tuple = ("/100",)
    settings: dict = {}
    # Header fields beside Host, each with its CRLF.
    fields: str = ""
    # Over RESP: the words of a command, and its reply.
    command: tuple = ()
    reply: bytes = b""
    # Whether the count is the same each time.
    steady: bool = True
    # Redis is a cluster of one node.
    clustered: bool = False
    # The figure that this one may exceed by MOST_BESIDE.
    beside: str = ""


VALUE = b"$100\r\n" + b"v" * 100 + b"\r\n"

# Values of 100 bytes. With room for one key, two that take turns always miss and evict.
FIGURES = (
    Figure("hit-depth-1", 1, 8_000),
    Figure("hit-depth-16", 16, 64_000),
    Figure("hit-depth-16-five-fields", 16, 64_000, fields=FIVE_FIELDS),
    Figure("miss-depth-1", 1, 4_000, ("/100", "/1024"), {"CAPACITY": 1}),
    # A hit that a lease proves: at most 5 % more than one that its age proves.
    Figure("hit-depth-1-tracking", 1, 8_000, settings=TRACKING),
    Figure("hit-depth-16-tracking", 16, 64_000, settings=TRACKING),
    Figure("resp-hit-depth-1", 1, 8_000, command=("GET", "100"), reply=VALUE),
    Figure("resp-hit-depth-16", 16, 64_000, command=("GET", "100"), reply=VALUE),
    Figure("resp-hit-depth-1-tracking", 1, 8_000, settings=TRACKING, command=("GET", "100"), reply=VALUE),
    Figure("resp-hit-depth-16-tracking", 16, 64_000, settings=TRACKING, command=("GET", "100"), reply=VALUE),
    # Each waits for a PING of the link; how many share one is chance (7,939 to 9,663 of one program): told, not checked.
    Figure("resp-hit-depth-1-strict", 1, 4_000, settings=STRICT, command=("GET", "100"), reply=VALUE, steady=False),
    Figure("resp-hit-depth-16-strict", 16, 32_000, settings=STRICT, command=("GET", "100"), reply=VALUE, steady=False),
    # Passed through to Redis: a read that is never kept, and a write, whose key leaves the cache.
    Figure("resp-pass-depth-16", 16, 32_000, command=("TOUCH", "100"), reply=b":1\r\n"),
    Figure("resp-set-depth-16", 16, 32_000, command=("SET", "other", "value"), reply=b"+OK\r\n"),
    # In a cluster a hit is to cost what it costs before one Redis.
    Figure("cluster-hit-depth-16", 16, 64_000, clustered=True, beside="hit-depth-16"),
    # Beats often enough for an age below a second, as by default: the exact age of what was proven long ago costs 60 more.
    Figure("cluster-hit-depth-16-tracking", 16, 64_000, settings={**TRACKING, "MAX_STALENESS": "3s"}, clustered=True,
           beside="hit-depth-16-tracking"),
    Figure("cluster-resp-hit-depth-16", 16, 64_000, command=("GET", "100"), reply=VALUE, clustered=True, beside="resp-hit-depth-16"),
    Figure("cluster-resp-hit-depth-16-tracking", 16, 64_000, settings=TRACKING, command=("GET", "100"), reply=VALUE, clustered=True,
           beside="resp-hit-depth-16-tracking"),
)


class Backends:
    """What is asked behind the program: one Redis, and a cluster of one node."""

    def __init__(self, work):
        self.alone = Redis(work, pinned=False)
        self.clustered = Redis(work, pinned=False, clustered=True)

    def settings(self, figure):
        if figure.clustered:
            return {"REDIS_CLUSTER": f"127.0.0.1:{self.clustered.port}"}
        return {"REDIS_PORT": self.alone.port}

    def end(self):
        self.alone.end()
        self.clustered.end()


def measure(figure, backends, work):
    """Instructions a request."""
    once, twice = (total(figure, count, backends, work) for count in (figure.count, 2 * figure.count))
    return (twice - once) / figure.count


def total(figure, count, backends, work):
    """Instructions of a whole run with `count` requests."""
    port = free_port()
    profile = work / f"{figure.name}-{count}.callgrind"
    resp_port = free_port() if figure.command else "off"
    settings = {"PATH": "/usr/bin:/bin", "PORT": port, "RESP_PORT": resp_port, "ADMIN_PORT": "off", "WORKERS": 1, **backends.settings(figure),
                "GLOBAL_EXPIRY": "1h", "LOG": "warn", "RESP_COHERENCE": "ttl", **LONG, **figure.settings}
    command = [program("valgrind"), "--tool=callgrind", "--quiet", "--separate-threads=yes",
               f"--callgrind-out-file={profile}", PROGRAM]
    process = subprocess.Popen(command, env={name: str(value) for name, value in settings.items()})
    try:
        wait_for(port, process, PATIENCE_SECONDS)
        if "miss" not in figure.name:
            wait_for_hits(port)
        if figure.command:
            ask_resp(resp_port, figure, WARM + count)
        else:
            ask(port, figure, WARM + count)
        process.terminate()
        if process.wait(PATIENCE_SECONDS):
            raise BenchError(f"the program ended with {process.returncode}")
    finally:
        process.kill()
    # A file a thread. The worker is the busiest; what the others do follows the clock and not the requests.
    texts = (thread.read_text() for thread in work.glob(profile.name + "-*"))
    return max(int(re.search(r"^totals: (\d+)", text, re.MULTILINE).group(1)) for text in texts)


def wait_for_hits(port):
    """Returns once the program answers from memory: a link has to be in force before."""
    begun = time.monotonic()
    while b"; hit" not in get(port, "/100"):
        if time.monotonic() - begun > PATIENCE_SECONDS:
            raise BenchError("the program never answers from memory")
        time.sleep(0.05)


def ask(port, figure, count):
    """Makes `count` requests over one connection; returns when all are answered with a value."""
    requests = [f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{figure.fields}\r\n".encode() for target in figure.targets]
    batch = b"".join(requests[number % len(requests)] for number in range(figure.depth))
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(0, count, figure.depth):
            client.sendall(batch if figure.depth > 1 else requests[number % len(requests)])
            answers = b""
            # The last body is complete with its last byte; no body holds the words of a head.
            while answers.count(ANSWER) < figure.depth or not answers.endswith(b"v"):
                part = client.recv(1 << 16)
                if not part:
                    raise BenchError("the program closed the connection")
                answers += part
            if answers.count(ANSWER + b"200 OK") != figure.depth:
                raise BenchError(f"not a value: {answers[:200]!r}")


def ask_resp(port, figure, count):
    """The same over RESP."""
    words = [f"${len(word)}\r\n{word}\r\n" for word in figure.command]
    batch = (f"*{len(words)}\r\n" + "".join(words)).encode() * figure.depth
    expected = figure.reply * figure.depth
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(0, count, figure.depth):
            client.sendall(batch)
            answers = b""
            while len(answers) < len(expected):
                part = client.recv(1 << 16)
                if not part:
                    raise BenchError("the program closed the connection")
                answers += part
            if answers != expected:
                raise BenchError(f"not the reply: {answers[:200]!r}")


def baselines(text):
    """The last figure of each name in a record."""
    rows = (line.split(None, 3) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(count) for _, name, count, _ in rows}


def verdict(name, count, baseline):
    """Whether a figure passes, and what to say of it."""
    if baseline is None:
        return False, f"{name:34} {count:9.0f}   not recorded yet: --record 'why'"
    change = count / baseline - 1
    text = f"{name:34} {count:9.0f}   {change:+7.2%} of {baseline:.0f}"
    if count > baseline * (1 + MOST_RISE):
        return False, f"{text}   more than {MOST_RISE:.0%}"
    return True, f"{text}   record it with its reason" if abs(change) > NOTABLE else text


def judge(figure, baseline, measured):
    """The least of as many measurements as it takes to pass, whether it passes, and what to say of it."""
    count, tries = measured(), 1
    passed, said = verdict(figure.name, count, baseline)
    while figure.steady and baseline is not None and not passed and tries < MOST_TRIES:
        count, tries = min(count, measured()), tries + 1
        passed, said = verdict(figure.name, count, baseline)
    return count, passed, said


def compare(figures, counts):
    """Of each of `figures` that has a like in `counts`: whether it takes little enough more, and what to say of it."""
    for figure in figures:
        if figure.beside and figure.name in counts and figure.beside in counts:
            more = counts[figure.name] / counts[figure.beside] - 1
            within = counts[figure.name] <= counts[figure.beside] * (1 + MOST_BESIDE)
            yield within, f"{figure.name:34} {more:+7.2%} of {figure.beside}, at most {MOST_BESIDE:+.0%}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail where a figure rose by more than 1 %%")
    parser.add_argument("--record", metavar="WHY", help="append the figures to the record: the subject of the commit")
    parser.add_argument("--only", default="", help="names of figures, with commas")
    parser.add_argument("--keep", type=pathlib.Path, help="keep the profiles here, for callgrind_annotate")
    options = parser.parse_args()
    names = set(filter(None, options.only.split(",")))
    if unknown := names - {figure.name for figure in FIGURES}:
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")

    text = RECORD.read_text()
    recorded, lines, failed, counts = baselines(text), [], False, {}
    with tempfile.TemporaryDirectory() as folder:
        work = options.keep or pathlib.Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        backends = Backends(work)
        try:
            wanted = [figure for figure in FIGURES if not names or figure.name in names]

            def judged(figure):
                return judge(figure, recorded.get(figure.name), lambda: measure(figure, backends, work))

            with ThreadPoolExecutor(os.cpu_count()) as at_a_time:
                for figure, (count, passed, said) in zip(wanted, at_a_time.map(judged, wanted)):
                    failed |= figure.steady and not passed
                    counts[figure.name] = count
                    print(said, flush=True)
                    lines.append(f"{datetime.date.today()}  {figure.name:24} {count:7.0f}  {options.record}\n")
        finally:
            backends.end()
    for passed, said in compare(FIGURES, counts):
        failed |= not passed
        print(said)
    if options.record:
        RECORD.write_text(text + "".join(lines))
    return 1 if options.check and failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BenchError, subprocess.TimeoutExpired) as error:
        sys.exit(f"instructions: {error}")
