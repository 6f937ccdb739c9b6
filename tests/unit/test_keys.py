"""Secret keys of hosts, the run directory and the launcher's lock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mesh import directories
from mesh.directories import InUse
from mesh.errors import ConfigError
from mesh.keys import load_keys, make_keys
from mesh.topology import Host, MeshSettings, Topology

needs_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="root may do anything")


def topology(directory: Path, public_key: str = "") -> Topology:
    host = Host("10.0.0.1", public_key=public_key)
    return Topology(
        Path("t.toml"), directory, directory / "run", MeshSettings(), {"a": host}, {}, True, {}, {}, {}
    )  # fmt: skip


def made(directory: Path) -> Topology:
    head, line = make_keys(["a"], directory / "keys")
    assert head == "[host.a]"
    return topology(directory, line.removeprefix('public_key = "').removesuffix('"'))


def test_keys_fit_together(tmp_path: Path) -> None:
    mesh = made(tmp_path)
    secret_file = tmp_path / "keys" / "a.key"
    assert secret_file.stat().st_mode & 0o777 == 0o600
    public, secret = load_keys(mesh, "a", {})
    assert public.decode() == mesh.hosts["a"].public_key
    assert secret == secret_file.read_bytes().strip()
    moved = tmp_path / "elsewhere"
    secret_file.rename(moved)
    assert load_keys(mesh, "a", {"IMESH_CURVE_SECRET_FILE": str(moved)}) == (public, secret)


def test_keys_are_not_replaced_by_chance(tmp_path: Path) -> None:
    make_keys(["b"], tmp_path)
    before = (tmp_path / "b.key").read_bytes()
    with pytest.raises(ConfigError, match=r"b\.key is there already; --force replaces it"):
        make_keys(["a", "b"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["b.key"]
    make_keys(["b"], tmp_path, force=True)
    assert (tmp_path / "b.key").read_bytes() != before
    with pytest.raises(ConfigError, match=r'"\.\./x" is no name for a host'):
        make_keys(["../x"], tmp_path)


def test_keys_that_cannot_be_used(tmp_path: Path) -> None:
    mesh = made(tmp_path)
    secret_file = tmp_path / "keys" / "a.key"
    secret_file.chmod(0o644)
    with pytest.raises(ConfigError, match=r"can be read by others: chmod 600 "):
        load_keys(mesh, "a", {})
    secret_file.chmod(0o600)
    with pytest.raises(ConfigError, match=r"does not belong to the public_key of \[host\.a\]"):
        load_keys(topology(tmp_path, "x" * 40), "a", {})
    secret_file.write_text("nonsense")
    with pytest.raises(ConfigError, match=r"a\.key: not a CURVE secret key"):
        load_keys(mesh, "a", {})
    secret_file.unlink()
    with pytest.raises(ConfigError, match=r"no secret key of host 'a' at .*a\.key: make it with `imesh keys a`"):
        load_keys(mesh, "a", {})
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory"):
        load_keys(mesh, "a", {"IMESH_CURVE_SECRET_FILE": str(tmp_path)})


def test_directories_are_private(tmp_path: Path) -> None:
    mesh = topology(tmp_path / "new" / "data")
    directories.make_data_dir(mesh.data_dir)
    directories.make_run_dir(mesh)
    assert mesh.data_dir.stat().st_mode & 0o777 == 0o700
    mesh.run_dir.chmod(0o755)
    directories.make_run_dir(mesh)
    assert mesh.run_dir.stat().st_mode & 0o777 == 0o700
    directories.check_run_dir(mesh)
    assert list(mesh.data_dir.iterdir()) == [mesh.run_dir]


def test_the_mode_of_an_existing_data_directory_is_not_ours_to_change(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    directories.make_data_dir(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_directories_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=r"cannot be a directory: a file is in the way"):
            directories.make_data_dir(path)
    (tmp_path / "run").symlink_to(tmp_path, target_is_directory=True)
    for use in (directories.make_run_dir, directories.check_run_dir):
        with pytest.raises(ConfigError, match=r"belongs to somebody else \(uid \d+\) or is a link"):
            use(topology(tmp_path))
    with pytest.raises(ConfigError, match=r"cannot (make|write)"):
        directories.make_data_dir(Path("/proc/imesh"))


@needs_permissions
def test_a_data_directory_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match=r"cannot write to the data directory .*: Permission denied"):
        directories.make_data_dir(tmp_path)


def test_one_launcher_per_data_directory(tmp_path: Path) -> None:
    lock = directories.claim(tmp_path)
    with pytest.raises(InUse, match=rf"pid {os.getpid()} already runs on {tmp_path}"):
        directories.claim(tmp_path)
    os.close(lock)
    os.close(directories.claim(tmp_path))


@pytest.mark.parametrize("name", ["alive", "daemons"])
def test_what_still_runs_is_seen(name: str, tmp_path: Path) -> None:
    assert not directories.still_running(tmp_path)
    script = (
        "import fcntl, sys\nf = open(sys.argv[1], 'w')\nfcntl.flock(f, fcntl.LOCK_SH)\n"
        "print('held', flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-I", "-S", "-c", script, str(tmp_path / name)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        assert directories.still_running(tmp_path)
        holder.kill()
    assert not directories.still_running(tmp_path)
