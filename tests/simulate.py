"""Runs a simulated vendor in a process of its own, for benchmarks: its settings on stdout, until stdin ends.

python -m tests.simulate NAME [seconds that each answer takes]
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

import gevent  # noqa: E402

from tests.simulators import SIMULATORS  # noqa: E402


def main(name: str, delay: str = "0") -> None:
    kind = next(kind for kind in SIMULATORS if kind.name == name)
    with tempfile.TemporaryDirectory(prefix="imesh-vendor-") as directory:
        simulator = kind(Path(directory))
        simulator.delay = float(delay)
        simulator.start()
        print(json.dumps(simulator.settings()), flush=True)
        gevent.get_hub().threadpool.apply(sys.stdin.read)
        simulator.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
