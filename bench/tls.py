#!/usr/bin/env python3
"""A hit over TLS 1.3 with keep-alive beside nginx, which answers the same body from its configuration; and both in plain.

Server CPU (schedstat) a request, one worker each, one contender after the other in each round; wrk asks, with one connection and with 16. The
certificate is a fresh one on P-256.

    cargo build --release && scripts/deps bench && python3 bench/tls.py [--rounds 7] [--out bench/record/NAME.txt]
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

from contenders import PROGRAM, BenchError, Redis, free_port, program, wait_for
from measure import times

SECONDS = 2
BODY = "v" * 20
NGINX = """worker_processes 1; daemon off; error_log {work}/nginx.log; pid {work}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000; default_type text/plain;
  client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/fastcgi;
  uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
  server {{ listen 127.0.0.1:{tls} ssl; ssl_certificate {work}/certificate.pem; ssl_certificate_key {work}/key.pem;
    ssl_protocols TLSv1.3; location / {{ return 200 "{body}"; }} }}
  server {{ listen 127.0.0.1:{plain}; location / {{ return 200 "{body}"; }} }}
}}
"""


def make_certificate(work):
    command = [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9",
               "-keyout", work / "key.pem", "-out", work / "certificate.pem", "-subj", "/CN=localhost"]
    subprocess.run(command, check=True, capture_output=True)


def start_nginx(work):
    ports = {"tls": free_port(), "plain": free_port()}
    (work / "nginx.conf").write_text(NGINX.format(work=work, body=BODY, **ports))
    process = subprocess.Popen([program("nginx"), "-c", work / "nginx.conf"], stderr=subprocess.DEVNULL)
    wait_for(ports["plain"], process)
    return process, ports


def start_ours(redis, work, over_tls):
    port = free_port()
    settings = {"PATH": os.environ["PATH"], "PORT": port, "RESP_PORT": "off", "ADMIN_PORT": free_port(), "WORKERS": 1, "GLOBAL_EXPIRY": "1h",
                "REDIS_PORT": redis.port, "LOG": "error"}
    if over_tls:
        settings |= {"TLS_CERT": work / "certificate.pem", "TLS_KEY": work / "key.pem", "TLS_PORTS": "http"}
    process = subprocess.Popen([PROGRAM], env={name: str(value) for name, value in settings.items()})
    wait_for(port, process)
    return process, port


def workers(pid):
    """Of nginx the process that answers."""
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ask(pids, url, connections):
    """Nanoseconds of CPU a request."""
    before = times(pids).ran
    done = subprocess.run([program("wrk"), "-t1", f"-c{connections}", f"-d{SECONDS}s", url], capture_output=True, text=True, check=True)
    if "Non-2xx" in done.stdout:
        raise BenchError(f"{url} does not answer as it should:\n{done.stdout}")
    return (times(pids).ran - before) / int(re.search(r"(\d+) requests in", done.stdout).group(1))


def measure(contenders, connections, rounds):
    spent = {name: [] for name in contenders}
    for number in range(rounds):
        for name in sorted(contenders, reverse=number % 2 == 1):
            spent[name].append(ask(*contenders[name], connections))
    for way in ("tls", "plain"):
        ours, nginx = spent[f"redis-proxy {way}"], spent[f"nginx {way}"]
        ratios = sorted(one / other for one, other in zip(ours, nginx))
        yield (f"{way:6} {connections:11} {statistics.median(ours):12.0f} {statistics.median(nginx):9.0f} "
               f"{statistics.median(ratios):8.2f}   {ratios[0]:.2f}-{ratios[-1]:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    lines = ["       connections  redis-proxy     nginx    ratio   spread   (ns a request)"]
    with tempfile.TemporaryDirectory() as folder:
        work, started = pathlib.Path(folder), []
        make_certificate(work)
        redis = Redis(work, pinned=False)
        redis.command("set", "key", BODY)
        try:
            nginx, ports = start_nginx(work)
            started.append(nginx)
            tls, tls_port = start_ours(redis, work, True)
            started.append(tls)
            plain, plain_port = start_ours(redis, work, False)
            started.append(plain)
            contenders = {
                "nginx tls": (workers(nginx.pid), f"https://127.0.0.1:{ports['tls']}/key"),
                "redis-proxy tls": ([tls.pid], f"https://127.0.0.1:{tls_port}/key"),
                "nginx plain": (workers(nginx.pid), f"http://127.0.0.1:{ports['plain']}/key"),
                "redis-proxy plain": ([plain.pid], f"http://127.0.0.1:{plain_port}/key"),
            }
            for connections in (1, 16):
                lines += measure(contenders, connections, options.rounds)
        finally:
            for process in started:
                process.terminate()
                process.wait()
            redis.end()
    text = "\n".join(lines)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(f"bench: {error}")
