"""What the figures were measured on."""

import datetime
import os
import pathlib
import platform
import re
import subprocess

from contenders import PROGRAM, ROOT, program


def facts():
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+) kB", pathlib.Path("/proc/meminfo").read_text())
    return {
        "date": f"{datetime.date.today()}",
        "cores": os.cpu_count(),
        "cpu": cpu.group(1) if cpu else platform.machine(),
        "memory_gib": round(int(memory.group(1)) / 2**20) if memory else None,
        "kernel": platform.release(),
        "redis-proxy": _first_line([PROGRAM, "--version"]) + ", commit " + _commit(),
        "nginx": _first_line([program("nginx"), "-v"]),
        "redis": _first_line([program("redis-server"), "--version"]),
        "wrk": _first_line([program("wrk"), "-v"]),
    }


def _commit():
    """With a `+` where the sources are not those of the commit."""
    git = ["git", "-C", str(ROOT)]
    commit = _first_line([*git, "rev-parse", "--short", "HEAD"])
    return commit + ("+" if _first_line([*git, "status", "--porcelain", "crates", "Cargo.lock"]) else "")


def _first_line(command):
    # wrk tells its version with a status of 1, nginx on stderr.
    done = subprocess.run(command, capture_output=True, text=True)
    return ((done.stdout + done.stderr).splitlines() or [""])[0].strip()
