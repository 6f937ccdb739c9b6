"""Every route, generated from what the API says of itself: wrong key, wrong scope, wrong body, unknown id."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nodes.http import HttpNode
from tests.system import System, running, topology_text
from tests.web import Web

UNKNOWN = {
    "user": "nobody-at-all", "friend": "nobody-else", "group": "GC_0000", "session": "SC_nobody-at-all_nobody-else",
    "seq_id": "12345", "id": "0000",
}  # fmt: skip
QUERY = {"since": "1", "until": "2"}
"""What is asked of routes that must be asked something."""
PATTERNED = {"user": "a%20b", "friend": "a%2Fb", "group": "GC_!", "session": "XX_a_b", "seq_id": "-1"}


class Named(NamedTuple):
    """A route as the document has it."""

    method: str
    path: str
    operation: dict[str, Any]

    def at(self, **values: str) -> str:
        """The path with ids in it."""
        return self.path.format(**{**UNKNOWN, **values})

    @property
    def names(self) -> list[str]:
        return [p["name"] for p in self.operation["parameters"] if p["in"] == "path"]


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running(topology_text(tables={"hooks": {"record": True}})) as found, found.unharmed():
        yield found


@pytest.fixture(scope="module")
def web(system: System) -> Web:
    return Web(system.http(), system.first_key)


@pytest.fixture(scope="module")
def routes(web: Web) -> list[Named]:
    document = web.get("/openapi.json").json
    found = [
        Named(method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    assert len(found) > 40
    return found


@pytest.fixture(scope="module")
def powerless(system: System) -> Web:
    done = system.run("apikey", "create", "powerless", "--scope", "presence:read")
    assert done.returncode == 0, done.stderr
    return Web(system.http(), done.stdout.strip())


def body_for(route: Named, document: dict[str, Any]) -> Any:
    """A body that its schema allows: required fields only."""
    schema = route.operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    return None if schema is None else example(schema, document)


def example(schema: dict[str, Any], document: dict[str, Any]) -> Any:
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    kind = schema.get("type")
    if kind == "object":
        wanted = schema.get("required", [])
        return {name: example(schema["properties"][name], document) for name in wanted}
    if kind == "array":
        return [example(schema["items"], document)] * schema.get("minItems", 0)
    if kind == "integer":
        return max(schema.get("minimum", 1), 1)
    pattern = schema.get("pattern", "")
    return "GC_0000" if pattern.startswith("^GC") else "someone"


def test_without_a_key_with_a_wrong_one_or_without_the_scope_nothing_happens(
    web: Web, powerless: Web, routes: list[Named]
) -> None:
    keyed = [route for route in routes if route.operation["security"]]
    assert len(routes) - len(keyed) <= 6
    document = web.get("/openapi.json").json
    wrong = Web(web.address, web.key[:-1] + ("A" if web.key[-1] != "A" else "B"))
    stranger = Web(web.address, web.key.replace("imk_", "imk_x"))
    for route in keyed:
        body = body_for(route, document)
        for caller in (Web(web.address), wrong, stranger):
            reply = caller.ask(route.method, route.at(), body)
            assert (reply.status, reply.error) == (401, "unauthorized"), route
            assert "www-authenticate" in reply.headers
        if "presence:read" not in route.operation["description"]:
            reply = powerless.ask(route.method, route.at(), body)
            assert (reply.status, reply.error) == (403, "missing_scope"), route


def test_a_wrong_body_is_refused_and_the_field_named(web: Web, routes: list[Named]) -> None:
    document = web.get("/openapi.json").json
    with_body = [route for route in routes if "requestBody" in route.operation]
    assert len(with_body) > 15
    for route in with_body:
        good = body_for(route, document)
        for raw in (b"", b"{", b"[]", b"\xff", b'"x"', b"nul", b"[" * 100_000):
            reply = web.ask(route.method, route.at(), raw=raw)
            assert reply.status == 400 and reply.error in ("bad_json", "bad_request"), (route, raw[:10], reply)
        for name in good:
            reply = web.ask(route.method, route.at(), {**good, name: {"x": []}})
            assert (reply.status, reply.error) == (400, "bad_request"), (route, name)
            assert reply.json["error"]["details"]["field"].startswith(name)
            missing = {key: value for key, value in good.items() if key != name}
            reply = web.ask(route.method, route.at(), missing)
            assert (reply.status, reply.json["error"]["details"]["field"]) == (400, name), (route, reply)
        if route.operation["tags"] != ["classic"]:
            reply = web.ask(route.method, route.at(), {**good, "unheard_of": 1})
            assert (reply.status, reply.json["error"]["details"]["field"]) == (400, "unheard_of"), route
            reply = web.ask(route.method, route.at(), raw=json.dumps(good).encode(), Content_Type="text/plain")
            assert (reply.status, reply.error) == (415, "unsupported_type"), route


def test_an_id_that_is_malformed_or_unknown(web: Web, routes: list[Named]) -> None:
    document = web.get("/openapi.json").json
    for route in routes:
        body = body_for(route, document)
        needed = {p["name"] for p in route.operation["parameters"] if p["in"] == "query" and p["required"]}
        query = "?" + "&".join(f"{name}={QUERY.get(name, 'someone')}" for name in sorted(needed))
        for name in route.names:
            reply = web.ask(route.method, route.at(**{name: PATTERNED[name]}) + query, body)
            assert (reply.status, reply.error) == (400, "bad_request"), (route, name, reply)
            assert reply.json["error"]["details"]["field"] == name
        if ("{group}" in route.path or "{seq_id}" in route.path) and route.operation["tags"] != ["statistics"]:
            reply = web.ask(route.method, route.at() + query, body)
            assert reply.status in (403, 404), (route, reply)


def test_what_no_route_takes(web: Web, routes: list[Named]) -> None:
    paths = {route.path: {r.method for r in routes if r.path == route.path} for route in routes}
    for path, methods in paths.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE"} - methods:
            reply = web.ask(method, path.format(**UNKNOWN))
            assert reply.status == 405, (method, path)
            assert set(reply.headers["allow"].split(", ")) == methods
    assert web.get("/v1/nothing").error == "no_such_route"
    assert web.get("/v1/../healthz").status == 404
    assert web.get("/healthz?x=1").json["error"]["details"]["field"] == "x"
    assert web.get("/v1/users/a/friends?limit=1&limit=2").json["error"]["details"]["field"] == "limit"
    assert web.get("/v1/users/a/friends?limit=0").json["error"]["details"]["field"] == "limit"
    assert web.get("/v1/users/a/sessions?cursor=x").status == 422


def test_every_route_has_one_scope_and_is_described(web: Web, routes: list[Named]) -> None:
    names = [route.operation["operationId"] for route in routes]
    assert len(names) == len(set(names))
    assert all(route.operation["summary"] for route in routes)
    page = web.get("/docs")
    assert page.status == 200 and page.headers["content-type"].startswith("text/html")
    text = page.body.decode()
    assert "<script" not in text and "src=" not in text and "http://" not in text.replace("http://127", "")
    for route in routes:
        assert route.path in text
    assert HttpNode.Settings().listen == "127.0.0.1:7180"


@pytest.mark.seconds(240)
def test_schemathesis_finds_nothing(web: Web, tmp_path: Path) -> None:
    """It makes requests from the document, good and bad, and checks every answer against it. Left out is its check that
    whatever the schema allows succeeds: rules like "either from or app" are not in it."""
    host, port = web.address
    options = "--phases coverage,fuzzing --max-examples 5 --seed 1 --no-color --exclude-checks positive_data_acceptance"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"http://{host}:{port}/openapi.json"]
    done = subprocess.run(
        [*command, "-H", f"Authorization: Bearer {web.key}", *options.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Tested: " in done.stdout
