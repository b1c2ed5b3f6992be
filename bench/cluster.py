#!/usr/bin/env python3
"""What a Redis Cluster of three nodes costs the program, beside one node: its CPU a miss, over both fronts.

Pipelines of GET over random keys, none of which is held, are asked of two programs in turn: one before a redis-server, one before a cluster
of three. The figure is the CPU of all threads (schedstat) over the requests, and the ratio that of each round. Beside them the relay
(bench/src/relay.rs), which does nothing but hand batches on to one server or three: what the kernel takes for that.

    cargo build --release && python3 bench/cluster.py [--rounds 7] [--out bench/record/NAME.txt]
"""

import argparse
import os
import pathlib
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from contenders import BUILT, PROGRAM, BenchError, Redis, free_port, program, wait_for, wait_for_cluster
from measure import times

KEYS = 20_000
VALUE = b"v" * 20
REPLY = b"$%d\r\n%s\r\n" % (len(VALUE), VALUE)
REQUESTS = 10_000
# Depth and clients.
BATCHES = ((16, 1), (16, 8), (64, 1), (64, 8))


def key(number):
    return b"key:%06d" % number


def resp_get(number):
    return b"*2\r\n$3\r\nGET\r\n$10\r\n%s\r\n" % key(number)


def http_get(number):
    return b"GET /%s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % key(number)


class Client:
    """One connection that asks in batches."""

    def __init__(self, port, front):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.front = front

    def send(self, numbers):
        self.count = len(numbers)
        request = resp_get if self.front == "resp" else http_get
        self.socket.sendall(b"".join(request(number) for number in numbers))

    def receive(self):
        answer = b""
        while not self._is_whole(answer):
            more = self.socket.recv(1 << 16)
            if not more:
                raise BenchError(f"closed after {answer[-200:]}")
            answer += more
        if answer.count(VALUE) != self.count:
            raise BenchError(f"not what was asked for: {answer[:500]}")

    def _is_whole(self, answer):
        if self.front == "resp":
            return len(answer) >= self.count * len(REPLY) or answer.startswith(b"-")
        return answer.count(b"HTTP/1.1 ") == self.count and answer.endswith(VALUE)


class Proxy:
    """The program before one node or a cluster, with next to no room."""

    def __init__(self, mode, nodes):
        self.ports = {"http": free_port(), "resp": free_port()}
        admin = free_port()
        settings = {"PATH": os.environ["PATH"], "PORT": self.ports["http"], "RESP_PORT": self.ports["resp"], "ADMIN_PORT": admin,
                    "CAPACITY": 16, "WORKERS": 1, "COHERENCE": mode, "RESP_COHERENCE": "off" if mode == "ttl" else mode, "LOG": "error"}
        addresses = [f"127.0.0.1:{node.port}" for node in nodes]
        settings |= {"REDIS_CLUSTER": ",".join(addresses)} if len(nodes) > 1 else {"REDIS_PORT": nodes[0].port}
        self.process = subprocess.Popen([PROGRAM], env={name: str(value) for name, value in settings.items()})
        wait_for(self.ports["http"], self.process)
        for front in self.ports:
            client = self.client(front)
            # Each slot is known to be its node's before anything is measured.
            for number in range(0, KEYS, 16):
                client.send(range(number, number + 16))
                client.receive()

    def client(self, front):
        return Client(self.ports[front], front)


class Relay:
    """The floor before one server or several, for as many clients."""

    def __init__(self, nodes, count):
        port = free_port()
        words = [BUILT / "relay", port, count, len(resp_get(0)), len(REPLY), *(node.port for node in nodes)]
        self.process = subprocess.Popen([str(word) for word in words])
        self.clients = iter([self._connect(port), *(Client(port, "resp") for _ in range(count - 1))])

    def _connect(self, port):
        # Each connection is one of its clients, so none is made to see whether it is there.
        for _ in range(200):
            try:
                return Client(port, "resp")
            except ConnectionRefusedError:
                time.sleep(0.025)
        raise BenchError("the relay does not come up")

    def client(self, _):
        return next(self.clients)


def ask(contender, clients, depth, seed):
    """Nanoseconds of the contender's CPU a request."""
    choice = random.Random(seed)
    before = times([contender.process.pid]).ran
    rounds = max(1, REQUESTS // depth // len(clients))
    for _ in range(rounds):
        for client in clients:
            client.send([choice.randrange(KEYS) for _ in range(depth)])
        for client in clients:
            client.receive()
    return (times([contender.process.pid]).ran - before) / (rounds * depth * len(clients))


def compare(label, one, three, front, depth, count, rounds):
    """A line: CPU a request of both, and the ratio of each round."""
    contenders = {"one": one, "three": three}
    clients = {name: [contender.client(front) for _ in range(count)] for name, contender in contenders.items()}
    spent = {name: [] for name in contenders}
    for number in range(rounds):
        for name in sorted(contenders, reverse=number % 2 == 1):
            spent[name].append(ask(contenders[name], clients[name], depth, number))
    ratios = sorted(three / one for one, three in zip(spent["one"], spent["three"]))
    middle = {name: statistics.median(values) for name, values in spent.items()}
    return (f"{label:10} {front:5} {depth:5} {count:7} {middle['one']:10.0f} {middle['three']:12.0f} "
            f"{statistics.median(ratios):8.2f}   {ratios[0]:.2f}-{ratios[-1]:.2f}")


def fill(node, clustered=False):
    words = [program("redis-cli"), "-p", str(node.port), *(["-c"] if clustered else [])]
    commands = b"".join(b"SET %s %s\n" % (key(number), VALUE) for number in range(KEYS))
    subprocess.run(words, input=commands, stdout=subprocess.DEVNULL, check=True)


def make_cluster(nodes):
    addresses = [f"127.0.0.1:{node.port}" for node in nodes]
    subprocess.run([program("redis-cli"), "--cluster", "create", *addresses, "--cluster-yes"], stdout=subprocess.DEVNULL, check=True)
    for node in nodes:
        wait_for_cluster(node.port)
    fill(nodes[0], clustered=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    lines = ["           front depth clients   ns, one    ns, three    ratio   spread"]
    with tempfile.TemporaryDirectory() as work:
        single, started = Redis(work, pinned=False), []
        started.append(single)
        try:
            nodes = [Redis(work, pinned=False, clustered="empty") for _ in range(3)]
            others = [Redis(work, pinned=False) for _ in range(2)]
            started += nodes + others
            make_cluster(nodes)
            for server in [single, *others]:
                fill(server)
            for depth, count in BATCHES:
                pair = Relay([single], count), Relay([single, *others], count)
                started += pair
                lines.append(compare("relay", *pair, "resp", depth, count, options.rounds))
            for mode in ("ttl", "tracking"):
                pair = Proxy(mode, [single]), Proxy(mode, nodes)
                started += pair
                for front in ("http", "resp"):
                    for depth, count in ((1, 1), (1, 8), *BATCHES):
                        lines.append(compare(mode, *pair, front, depth, count, options.rounds))
        finally:
            for one in started:
                one.process.kill()
                one.process.wait()
    text = "\n".join(lines)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(f"bench: {error}")
