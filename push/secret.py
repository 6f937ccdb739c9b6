"""Secrets are named in a topology, they never stand there: `file:PATH` or `env:NAME`."""

from __future__ import annotations

import os
from pathlib import Path


def read_secret(value: str, directory: Path = Path()) -> str:
    """The text that it stands for, "" for ""; paths begin at `directory`.

    Raises `ValueError`, without a secret in it, when there is none.
    """
    kind, _, name = value.partition(":")
    if not value:
        return ""
    if kind == "env":
        if not os.environ.get(name):
            raise ValueError(f"the environment has no {name}")
        return os.environ[name]
    if kind != "file":
        raise ValueError("a secret is given as file:PATH or env:NAME")
    try:
        text = (directory / Path(name).expanduser()).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{name} cannot be read: {type(error).__name__}") from None
    if not text:
        raise ValueError(f"{name} is empty")
    return text
