"""What Debian packages: peers are installed, with their services kept from starting; Redis 7 is only unpacked.

A `redis-server` on PATH would change what every mesh of this machine runs, so that one gets a folder of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bench.measure import progress

BUILD = Path(__file__).parents[2] / "build"
_REDIS = ("redis-server", "redis-tools", "liblzf1", "libjemalloc2")
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_POLICY = Path("/usr/sbin/policy-rc.d")


def install(packages: Iterable[str]) -> None:
    """Install what is missing, and start no service. Raises `RuntimeError` where that cannot be."""
    missing = sorted(name for name in set(packages) if not installed(name))
    if not missing:
        return
    if shutil.which("apt-get") is None or os.getuid() != 0:
        raise RuntimeError(f"missing packages, to be installed by root on Debian: {' '.join(missing)}")
    progress(f"installing {' '.join(missing)}")
    quiet = not _POLICY.exists()
    if quiet:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")  # no service may start: what invoke-rc.d asks
        _POLICY.chmod(0o755)
    try:
        _apt("update", "-qq")
        _apt("install", "-y", "-qq", "--no-install-recommends", *missing)
    finally:
        if quiet:
            _POLICY.unlink()


def installed(name: str) -> bool:
    """Whether a package is installed."""
    found = subprocess.run(["dpkg-query", "-W", "-f", "${Status}", name], capture_output=True, text=True, check=False)
    return found.stdout == "install ok installed"


def redis_7() -> dict[str, str]:
    """The environment in which `redis-server` is Debian's Redis 7. Raises `RuntimeError` where there is no apt."""
    root = BUILD / "redis-7"
    if not (root / "usr/bin/redis-server").exists():
        if shutil.which("apt-get") is None:
            raise RuntimeError("no apt-get to fetch Redis 7 with")
        progress("fetching Redis 7")
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            _apt("download", "-qq", *_REDIS, folder=folder)
            for package in Path(folder).glob("*.deb"):
                subprocess.run(["dpkg", "-x", package, root], check=True)
    return {"PATH": f"{root}/usr/bin:{os.environ['PATH']}", "LD_LIBRARY_PATH": str(root / _LIBRARIES)}


def _apt(*arguments: str, folder: str = "/") -> None:
    """Raises `RuntimeError` with what it said."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        ["apt-get", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"apt-get {' '.join(arguments)}: {done.stderr[-2000:]}")
