"""The whole suite, in several pytest processes: `python -m tests [options of pytest]`.

They share the tests file by file (`tests/sharing.py`). Tests share no ports, directories or servers, so the processes
do not meet.

A few tests that failed beside the others are run once more, alone, and loudly: on a machine that is too busy a deadline
passes without a fault of ours. Those that show a promise (no loss, no doubles, order) are not: once is enough.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Thread
from typing import IO

from tests.sharing import TAKEN

ROOT = Path(__file__).parents[1]
FAILED = "FAILED_TESTS_FILE"  # as in conftest.py; with IMESH_ it would be a setting of every system that is started
AGAIN = 5
"""So many at most: more is no accident."""
PROMISES = (
    "faults", "test_model", "quarantine", "group_delivery", "store", "one_history", "rebuild", "backup", "cluster",
)  # fmt: skip
"""In names of tests that are never tried again."""
MORE, MOST = 1, 4
"""Processes beside one for each core, as tests wait half of the time; and in all: each starts its own systems."""


def main() -> int:
    parts = min(MOST, len(os.sched_getaffinity(0)) + MORE)
    with tempfile.TemporaryDirectory(prefix="imesh-tests-") as directory:
        failed = Path(directory) / "failed"
        failed.touch()
        codes = _run_parts(parts, {**os.environ, FAILED: str(failed), TAKEN: directory})
        names = list(dict.fromkeys(failed.read_text().splitlines()))
    worst = max(codes, key=abs)
    if worst != 1 or not 0 < len(names) <= AGAIN or any(promise in name for name in names for promise in PROMISES):
        return worst
    print(f"\n{len(names)} tests failed beside others and are run once more, alone. LOOK AT THEM:", flush=True)
    print("\n".join(names), flush=True)
    return subprocess.run([sys.executable, "-m", "pytest", *names], cwd=ROOT, check=False).returncode


def _run_parts(parts: int, environment: dict[str, str]) -> list[int]:
    """Run all parts beside each other; their exit codes."""
    processes = []
    readers = []
    for part in range(1, parts + 1):
        command = [sys.executable, "-m", "pytest", "-p", "tests.sharing", *sys.argv[1:]]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdout is not None
        reader = Thread(target=_tell, args=(f"{part}/{parts}", process.stdout))
        reader.start()
        processes.append(process)
        readers.append(reader)
    codes = [process.wait() for process in processes]
    for reader in readers:
        reader.join()
    return codes


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
