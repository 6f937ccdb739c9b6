"""The whole suite, in as many pytest processes as there are cores: `python -m tests [options of pytest]`.

Each process gets every second (third, …) test, in order, so the parts take about as long. Tests share no ports,
directories or servers, so the parts do not meet.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import IO

ROOT = Path(__file__).parents[1]
MOST = 4
"""More parts than this save little: each starts its own systems."""


def main() -> int:
    parts = min(MOST, len(os.sched_getaffinity(0)))
    processes = []
    readers = []
    for part in range(1, parts + 1):
        share = ["--splits", str(parts), "--group", str(part), "--splitting-algorithm", "least_duration"]
        command = [sys.executable, "-m", "pytest", *share, *sys.argv[1:]]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout is not None
        reader = Thread(target=_tell, args=(f"{part}/{parts}", process.stdout))
        reader.start()
        processes.append(process)
        readers.append(reader)
    codes = [process.wait() for process in processes]
    for reader in readers:
        reader.join()
    return max(codes, key=abs)


def _tell(part: str, output: IO[bytes]) -> None:
    """Pass lines on, each with the name of its part."""
    for line in output:
        sys.stdout.write(f"{part}  {line.decode(errors='replace')}")
        sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # the parts got it too and have told
        sys.exit(130)
