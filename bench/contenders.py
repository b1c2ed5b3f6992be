"""The servers that take part: how each is started, which of its processes do the work, how it is ended.

All answer with as many bytes as redis-proxy does: the no-op server with its very answer, nginx with the same body and
with headers within 10 % of it.
"""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

from workloads import FLASK, LUA, NGINX, NOOP, OURS, VALUES

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
PROGRAM = pathlib.Path(os.environ.get("PROGRAM", BUILT / "redis-proxy"))
SERVER_CORE, LOAD_CORE = "0", "1"
# What nginx says by itself.
NGINX_HEADERS = {"content-type", "content-length", "connection", "date", "server"}


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


def get(port, target):
    """All bytes of the answer to one GET, after which the connection ends."""
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
        parts = []
        while chunk := client.recv(1 << 20):
            parts.append(chunk)
    return b"".join(parts)


def hit(port, value):
    """The answer for a value of this size, from memory, as it is on a connection that stays."""
    get(port, target_of(value))
    return get(port, target_of(value)).replace(b"Connection: close\r\n", b"")


def target_of(value):
    """The path of the key whose value has this many bytes."""
    return f"/{value}"


class Redis:
    """A private redis-server, on the load's core unless told otherwise, with the values that are asked for."""

    def __init__(self, work, keys, pinned=True):
        self.port = free_port()
        pin = ["taskset", "-c", LOAD_CORE] if pinned else []
        self.process = subprocess.Popen(
            [*pin, program("redis-server"), "--port", str(self.port), "--save", "",
             "--dir", str(work), "--enable-debug-command", "local"], stdout=subprocess.DEVNULL)
        wait_for(self.port, self.process)
        for size in (100, *VALUES.values()):
            self.command("eval", f"redis.call('SET', '{size}', string.rep('v', {size}))", "0")
        if keys:
            self.command("debug", "populate", str(keys), "key", "100")

    def command(self, *words):
        done = subprocess.run([program("redis-cli"), "-p", str(self.port), *words], capture_output=True, text=True)
        if done.returncode or "ERR" in done.stdout:
            raise BenchError(f"redis-cli {words[0]}: {done.stdout}{done.stderr}")

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
        self.admin_port = None
        # Where the server answers only what has the length of the load's requests.
        self.answer_bytes = None
        wait_for(port, process)
        # A master that does no work leaves it to its children.
        self.pids = _children(process.pid) if is_parent else [process.pid]

    def end(self):
        self.process.terminate()
        self.process.wait()


def _children(pid):
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def start(server, redis, answer, work):
    """Starts `server`. `answer` gives redis-proxy's answer for a size of value, which the constant ones imitate."""
    port = free_port()
    pinned = ["taskset", "-c", SERVER_CORE] if server.pinned else []
    if server.kind == OURS:
        return _ours(server, redis, port, pinned)
    if server.kind == NOOP:
        file = work / f"answer-{server.value}"
        answer_bytes = file.write_bytes(answer(server.value))
        length = len(f"GET {target_of(server.value)} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n")
        command = [*pinned, BUILT / "noop", str(port), str(length), file]
        contender = Contender(subprocess.Popen(command, stdout=subprocess.DEVNULL), port)
        contender.answer_bytes = answer_bytes
        return contender
    if server.kind in (NGINX, LUA):
        config = work / f"nginx-{port}.conf"
        config.write_text(_nginx_config(server, redis, port, answer(server.value), work))
        process = subprocess.Popen([*pinned, program("nginx"), "-c", config, "-e", work / "nginx-error.log"])
        return Contender(process, port, is_parent=True)
    if server.kind == FLASK:
        python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
        settings = dict(os.environ, PORT=str(port), REDIS_PORT=str(redis.port), CAPACITY=str(server.capacity))
        command = [*pinned, python, HERE / "peers" / "flask_lru.py"]
        return Contender(subprocess.Popen(command, env=settings, stdout=subprocess.DEVNULL), port)
    raise BenchError(f"no such contender: {server.kind}")


def _ours(server, redis, port, pinned):
    admin_port = free_port()
    # A user's own settings would be measured with it.
    settings = {
        "PATH": os.environ["PATH"], "REDIS_PORT": redis.port, "PORT": port, "ADMIN_PORT": admin_port, "RESP_PORT": "off",
        "WORKERS": server.workers, "CAPACITY": server.capacity, "GLOBAL_EXPIRY": "1h", "LOG": "warn",
    }
    process = subprocess.Popen([*pinned, PROGRAM], env={name: str(value) for name, value in settings.items()})
    contender = Contender(process, port)
    contender.admin_port = admin_port
    return contender


def _nginx_config(server, redis, port, answer_like, work):
    head = answer_like.split(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    headers = "".join(
        "add_header {} '{}';".format(*line.split(": ", 1)) for line in head
        if line.split(":")[0].lower() not in NGINX_HEADERS
    )
    modules, prepare = "", ""
    answers = f"return 200 '{'v' * server.value}';"
    if server.kind == LUA:
        modules = "".join(
            f"load_module /usr/lib/nginx/modules/{name}_module.so;" for name in ("ndk_http", "ngx_http_lua"))
        prepare = (
            f"lua_package_path '{HERE}/peers/?.lua;/usr/share/lua/5.1/?.lua;;';"
            f"init_worker_by_lua_block {{ require('lrucache').start({server.capacity}, {redis.port}) }}"
        )
        answers = "content_by_lua_block { require('lrucache').answer() }"
    return f"""{modules}
worker_processes 1; daemon off; pid {work}/nginx-{port}.pid; error_log {work}/nginx-error.log;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600; tcp_nodelay on;
  default_type 'text/plain; charset=utf-8';
  client_body_temp_path {work}; proxy_temp_path {work}; fastcgi_temp_path {work}; uwsgi_temp_path {work};
  scgi_temp_path {work};
  {prepare}
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ {headers} {answers} }} }}
}}
"""
