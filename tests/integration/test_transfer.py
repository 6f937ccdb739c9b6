"""Export and import: what comes out goes in again as it was, on each kind of database; a wrong file harms nothing."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from packs import structs as s
from packs.message import stored_payload
from store import entries
from store.archive import messages, migrations, poison
from store.archive.database import Archive
from store.archive.url import parse_archive
from store.entries import DELETED, OVERRIDDEN, Entry
from store.log import Row
from tests.archives import cold_rows
from tests.system import topology_text

NOW = 1_790_000_000_000_000
HOUR = 3_600_000_000


def entry(seq: int, content: str = "text", **more: object) -> bytes:
    payload = stored_payload(s.MsgReq(sender="ann", to="ben", content=content))
    return entries.build(Entry(seq, seq - 1, 1, 14, 4, f"p{seq}", payload, **more))  # type: ignore[arg-type]


class Place:
    """An archive, and the command line that works on it."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        directory.mkdir()
        self.topology = directory / "topology.toml"
        self.topology.write_text(topology_text(tables={"store": {"archive": url}}))
        self.archive = Archive(parse_archive(url, directory))
        self.directory = directory

    def run(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "mesh", *arguments, "--topology", str(self.topology)]
        return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)

    def rows(self) -> dict[Any, Any]:
        return cold_rows(self.url, self.directory)


@pytest.fixture
def place(archive_url: str, tmp_path: Path) -> Iterator[Place]:
    made = Place(archive_url, tmp_path / "place")
    yield made
    made.archive.close()


@pytest.fixture
def filled(place: Place) -> Place:
    texts = ["plain", "ü ∂ 😀 \"'\\ \0 \u202e %s {}", "中文", "x" * 60_000]
    stored = [("SC_ann_ben", entry(NOW + i * HOUR, text), "") for i, text in enumerate(texts)]
    changed = {"state": OVERRIDDEN, "revision": 2, "changed": NOW // 1000, "content": "新 %s"}
    stored += [("GC_g", entry(NOW + 1, **changed), "ben"), ("GC_g", entry(NOW + 2, state=DELETED, revision=1), "ann")]
    stored += [
        ("GC_h", entries.build(Entry(NOW + i, 0, i, 15, 0, f"q{i}", b"\x81\xa4from\xa3ann")), "") for i in range(2500)
    ]
    stored.append(
        ("GC_odd", entries.build(Entry(NOW, 0, 1, 15, 0, "odd", b"\x82\xa4from\xa3ann\xa1b\xc4\x02\xff\xfe")), "")
    )
    place.archive.write(migrations.migrate)
    place.archive.write(messages.put, [messages.row_of(*row) for row in stored])
    place.archive.write(poison.put, [(Row("{s01}", b"1-1", (b"s", b"\xff")), ValueError("wrong"))])
    return place


def test_what_is_exported_is_imported_as_it_was(filled: Place, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Into a database of the other kind."""
    file = tmp_path / "all.jsonl.gz"
    exported = filled.run("export", str(file))
    assert exported.returncode == 0 and b"export: 2,508 rows in" in exported.stderr, exported.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    to_mariadb = filled.url.startswith("sqlite")
    url = request.getfixturevalue("mariadb").make("other") if to_mariadb else f"sqlite:///{tmp_path}/other.db"
    target = Place(url, tmp_path / "other")
    for _ in range(2):  # twice does no harm
        imported = target.run("import", str(file))
        assert imported.returncode == 0 and b"import: 2,508 rows in" in imported.stderr, imported.stderr
    assert target.rows() == filled.rows() and len(filled.rows()) == 2507
    found = target.archive.read(messages.find, "SC_ann_ben", "ann", f"p{NOW}", NOW)
    assert found is not None and found.seq == NOW  # what is derived is there, too
    again = tmp_path / "again.jsonl"
    assert target.run("export", str(again)).returncode == 0
    lines = [gzip.decompress(file.read_bytes()).splitlines(), again.read_bytes().splitlines()]
    assert lines[0][1:] == lines[1][1:]
    target.archive.close()


def test_an_export_is_readable_and_can_be_narrowed(filled: Place) -> None:
    chosen = ["--session", "SC_ann_ben", "--since", "2026-09-21T15:00", "--until", "2026-09-21T16:00"]
    done = filled.run("export", "-", *chosen)
    head, *rows, end = map(json.loads, done.stdout.splitlines())
    assert head["rows"] == end["rows"] == {"messages": 1} and head["format"] == 1, done.stderr
    assert [row["payload"]["content"] for row in rows] == ["ü ∂ 😀 \"'\\ \0 \u202e %s {}"]
    odd = filled.run("export", "-", "--table", "messages", "--session", "GC_odd").stdout.splitlines()
    assert "payload_base64" in json.loads(odd[1])


def test_a_later_revision_stays(filled: Place) -> None:
    before = filled.run("export", "-", "--session", "SC_ann_ben").stdout
    changed = entry(NOW, state=OVERRIDDEN, revision=1, changed=1, content="newer")
    filled.archive.write(messages.put, [messages.row_of("SC_ann_ben", changed, "ann")])
    rows = filled.rows()
    assert filled.run("import", "-", stdin=before).returncode == 0
    assert filled.rows() == rows


def test_wrong_files_say_what_is_wrong_and_write_nothing(filled: Place, tmp_path: Path) -> None:
    whole = filled.run("export", "-", "--session", "SC_ann_ben").stdout.splitlines(keepends=True)
    rows = filled.rows()
    for lines, text in [
        ([], "line 1: no JSON object"),
        ([b"{}\n"], "line 1: this is no export of imesh"),
        ([whole[0].replace(b'"format":1', b'"format":9')], "line 1: format 9, this version reads 1"),
        (whole[:-1], f"line {len(whole) - 1}: the end is missing: the export is not complete"),
        ([*whole[:2], b"[1]\n", whole[-1]], "line 3: no JSON object"),
        ([whole[0], b'{"table": "nothing"}\n', whole[-1]], "line 2: no table 'nothing'"),
        ([whole[0], b'{"table": "messages", "session": "x"}\n', whole[-1]], "line 2: KeyError: 'payload'"),
        ([whole[0], whole[1].replace(b'"seq":', b'"seq":"x","s":'), whole[-1]], "line 2: error: required argument"),
    ]:
        done = filled.run("import", "-", stdin=b"".join(lines))
        assert done.returncode == 1 and text in done.stderr.decode() and b"Traceback" not in done.stderr, done.stderr
    assert filled.rows() == rows
    for arguments, code, text in [
        (("export", "-", "--table", "nothing"), 2, "--table: no table 'nothing'; there are: messages"),
        (("export", "-", "--since", "yesterday"), 2, "expected a date like 2026-11-01"),
        (("export", str(filled.topology)), 1, "is there already: --force replaces it"),
        (("export", str(tmp_path / "no" / "folder")), 1, "No such file or directory"),
        (("import", str(tmp_path / "nothing")), 1, "No such file or directory"),
    ]:
        done = filled.run(*arguments)
        assert done.returncode == code and text in done.stderr.decode() and b"Traceback" not in done.stderr, done.stderr


def test_there_must_be_an_archive_to_export(place: Place, tmp_path: Path) -> None:
    done = place.run("export", str(tmp_path / "x"))
    assert done.returncode == 1 and b"there is no archive yet" in done.stderr and not (tmp_path / "x").exists()
