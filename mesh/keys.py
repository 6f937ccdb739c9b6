"""CURVE keys of hosts, for links between machines.

A host's public key stands in the topology; its secret key lies in a file on that host only: `<data>/keys/<host>.key`,
or wherever IMESH_CURVE_SECRET_FILE says. Only hosts whose public keys stand in the topology can connect.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mesh.errors import ConfigError
from mesh.topology import NAME, Topology

SECRET_VARIABLE = "IMESH_CURVE_SECRET_FILE"


def secret_path(topology: Topology, host: str, environ: Mapping[str, str] | None = None) -> Path:
    """Where the secret key of `host` lies."""
    given = (os.environ if environ is None else environ).get(SECRET_VARIABLE)
    return Path(given) if given else topology.data_dir / "keys" / f"{host}.key"


def load_keys(topology: Topology, host: str, environ: Mapping[str, str] | None = None) -> tuple[bytes, bytes]:
    """(public, secret) of `host`, in Z85. Raises `ConfigError` when they are missing or do not fit the topology."""
    from mesh.link import curve_public

    path = secret_path(topology, host, environ)
    hint = f"make it with `imesh keys {host}` and put it there, or name its place in {SECRET_VARIABLE}"
    try:
        secret = path.read_bytes().strip()
    except FileNotFoundError:
        raise ConfigError(f"no secret key of host {host!r} at {path}: {hint}") from None
    except OSError as error:
        raise ConfigError(f"the secret key of host {host!r}, {path}, cannot be read: {error.strerror}") from None
    if SECRET_VARIABLE not in (os.environ if environ is None else environ) and path.stat().st_mode & 0o077:
        raise ConfigError(f"the secret key of host {host!r} can be read by others: chmod 600 {path}")
    try:
        public = curve_public(secret)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if public != topology.hosts[host].public_key.encode():
        raise ConfigError(f"{path} does not belong to the public_key of [host.{host}] in {topology.path}")
    return public, secret


def make_keys(hosts: Sequence[str], directory: Path, force: bool = False) -> list[str]:
    """Make a key pair per host; secret keys go to files, the lines for the topology are returned.

    Raises `ConfigError` before anything is made, when a name is wrong or a file is there and not `force`.
    """
    from mesh.link import curve_keypair

    for host in hosts:
        if not NAME.fullmatch(host):
            raise ConfigError(f'"{host}" is no name for a host: expected {NAME.pattern}')
        if not force and (directory / f"{host}.key").exists():
            raise ConfigError(f"{directory / f'{host}.key'} is there already; --force replaces it")
    lines: list[str] = []
    for host in hosts:
        public, secret = curve_keypair()
        _write_secret(directory / f"{host}.key", secret)
        lines += [f"[host.{host}]", f'public_key = "{public.decode()}"']
    return lines


def _write_secret(path: Path, secret: bytes) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret + b"\n")
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
