"""`imesh` and `python -m mesh`. The standard library is patched here, before anything else, and nowhere else."""

from __future__ import annotations

from gevent import events, monkey

# Plugins of other packages are not asked: to look for them, 25 times, takes a quarter of a start.
events.notify_and_call_entry_points = events.notify
monkey.patch_all()

import sys  # noqa: E402

from mesh.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
