"""What the figures were measured on."""

import datetime
import os
import pathlib
import platform
import re
import shutil
import socket
import subprocess

from contenders import PROGRAM, ROOT, program, valkey_server


def facts():
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+) kB", pathlib.Path("/proc/meminfo").read_text())
    return {
        "date": f"{datetime.date.today()}",
        "cores": os.cpu_count(),
        "cpu": cpu.group(1) if cpu else platform.machine(),
        "memory_gib": round(int(memory.group(1)) / 2**20) if memory else None,
        "kernel": platform.release(),
        "congestion control": _read("/proc/sys/net/ipv4/tcp_congestion_control") or "unknown",
        "connection tracking": connection_tracking(),
        "load average at the start": round(os.getloadavg()[0], 1),
        "redis-proxy": _first_line([PROGRAM, "--version"]) + ", commit " + _commit(),
        "nginx": _first_line([program("nginx"), "-v"]),
        "redis": _first_line([program("redis-server"), "--version"]),
        "valkey": _first_line([valkey_server(), "--version"]),
        "haproxy": _first_line([program("haproxy"), "-v"]),
    }


def connection_tracking():
    """Whether the kernel tracks connections, ours among them, and which tables of rules it asks: each is a part of the floor."""
    counted = "/proc/sys/net/netfilter/nf_conntrack_count"
    if (before := _read(counted)) is None:
        return "nf_conntrack is not there"
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        is_tracked = int(_read(counted)) > int(before)
    tables = (_read("/proc/net/ip_tables_names") or "").split()
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout if shutil.which("nft") else None
    said = "nf_conntrack is there; a connection on the loopback " + ("is tracked" if is_tracked else "is not tracked")
    said += f"; tables of iptables: {', '.join(tables) or 'none'}"
    return said + ("; nft is not installed" if rules is None else f"; {len(rules.splitlines())} lines of nft rules")


def _read(path):
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return None


def _commit():
    """With a `+` where the sources are not those of the commit."""
    git = ["git", "-C", str(ROOT)]
    commit = _first_line([*git, "rev-parse", "--short", "HEAD"])
    return commit + ("+" if _first_line([*git, "status", "--porcelain", "crates", "Cargo.lock"]) else "")


def _first_line(command):
    # nginx tells it on stderr.
    done = subprocess.run(command, capture_output=True, text=True)
    return ((done.stdout + done.stderr).splitlines() or [""])[0].strip()
