"""`imesh` and `python -m mesh`. The standard library is patched here, before anything else, and nowhere else."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402

from mesh.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
