"""Exactly once over HTTP: callers repeat with the same Idempotency-Key while processes are killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import random

import gevent
import pytest

from tests.system import ERRORS, free_port, running, topology_text
from tests.waiting import wait_until
from tests.web import Reply, Web

CALLERS, KILLS, BATCH = 12, 8, 4


class Caller:
    """Sends numbered texts to one user, a few per request, one request after the other; repeats what is not answered,
    and now and then hangs up before the answer."""

    def __init__(self, web: Web, number: int, rng: random.Random) -> None:
        self.user, self.other, self.app = f"from{number}", f"to{number}", f"app{number}"
        self.answered: list[tuple[str, int]] = []  # content and seqId of texts
        self.notices: list[int] = []
        self.repeats = self.requests = 0
        self.stopping = False
        self._web = web
        self._rng = rng
        self._texts = 0

    def run(self) -> None:
        while not self.stopping:
            self.requests += 1
            if self._rng.random() < 0.2:
                body = {"app": self.app, "to": [self.other], "content": str(self.requests)}
                (result,) = self._until_known("/v1/messages/broadcast", body)["results"]
                self.notices.append(result["message"]["seq_id"])
                continue
            contents = [str(self._texts + n) for n in range(self._rng.choice((1, BATCH)))]
            self._texts += len(contents)
            messages = [{"from": self.user, "to": self.other, "content": content} for content in contents]
            results = self._until_known("/v1/messages/batch", {"messages": messages})["results"]
            self.answered += zip(contents, (r["message"]["seq_id"] for r in results), strict=True)

    def _until_known(self, path: str, body: dict[str, object]) -> dict[str, list[dict[str, dict[str, int]]]]:
        key = f"{self.user}-{self.requests}"
        while True:
            if self._rng.random() < 0.1:
                self._hang_up(path, body, key)
            reply = self._ask(path, body, key)
            if reply is not None and reply.status not in (429, 503):
                assert reply.status == 200, reply
                found = reply.json
                if all(result["status"] == 201 for result in found["results"]):
                    return found  # type: ignore[no-any-return]
                assert {r["status"] for r in found["results"]} <= {201, 429, 503}, reply
            self.repeats += 1
            gevent.sleep(0.05)

    def _ask(self, path: str, body: dict[str, object], key: str) -> Reply | None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self._web.post(path, body, Idempotency_Key=key)
        return None

    def _hang_up(self, path: str, body: dict[str, object], key: str) -> None:
        connection = http.client.HTTPConnection(*self._web.address, timeout=5)
        head = {"Authorization": f"Bearer {self._web.key}", "Content-Type": "application/json", "Idempotency-Key": key}
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("POST", path, json.dumps(body).encode(), head)
        connection.close()


@pytest.mark.seconds(150)
def test_repeats_with_the_same_key_are_done_once_while_processes_die() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    tables = {"node.http": {"listen": f"127.0.0.1:{free_port()}"}}
    with running(topology_text("edge and core", tables=tables)) as system:
        web = Web(system.http(), system.first_key)
        callers = [Caller(web, n, random.Random(rng.random())) for n in range(CALLERS)]
        running_ = [gevent.spawn(caller.run) for caller in callers]

        def answered() -> int:
            return sum(len(caller.answered) for caller in callers)

        wait_until(lambda: answered() > 50, "the load to run")
        targets = ["edge-1", "core-1", "redis"]
        for target in [*targets, *(rng.choice(targets) for _ in range(KILLS - len(targets)))]:
            gevent.sleep(rng.uniform(0.05, 0.4))
            before = answered()
            pid = system.kill(target)
            wait_until(lambda t=target, p=pid: system.is_new(t, p), "it to be started again")  # type: ignore[misc]
            system.wait_serving()
            wait_until(lambda b=before: answered() > b, "the load to go on")  # type: ignore[misc]
        for caller in callers:
            caller.stopping = True
        gevent.joinall(running_, timeout=30, raise_error=True)
        assert all(greenlet.successful() for greenlet in running_)
        for caller in callers:
            session = f"SC_{caller.user}_{caller.other}"
            assert stored(web, caller.other, session) == caller.answered  # each once, in order, as answered
            notices = stored(web, caller.other, f"BM_{caller.app}_{caller.other}")
            assert [seq for _, seq in notices] == caller.notices
        assert not ERRORS.search(system.log), system.log
        repeats = sum(caller.repeats for caller in callers)
        print(f"{answered()} texts, {repeats} repeats")
        assert repeats > KILLS


def stored(web: Web, user: str, session: str) -> list[tuple[str, int]]:
    """Content and number of all messages of a session, oldest first."""
    found: list[tuple[str, int]] = []
    cursor = ""
    while True:
        page = web.get(f"/v1/users/{user}/sessions/{session}/messages?limit=200&cursor={cursor}").json
        found += [(m["content"], m["seq_id"]) for m in page["messages"]]
        cursor = page["next"]
        if not cursor:
            return found[::-1]
