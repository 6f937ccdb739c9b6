"""The HTTP/2 client against a server that limits, refuses, goes away and says nothing."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from push.http2 import Connection, Http2
from push.model import Outcome, VendorError
from tests.simulators import Apns
from tests.simulators.apns import TOPIC
from tests.waiting import wait_until

SECONDS = 5.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Apns]:
    found = Apns(tmp_path)
    yield found
    found.stop()


def client(server: Apns, seconds: float = SECONDS, connections: int = 1) -> Http2:
    return Http2("localhost", server.port, ca_file=server.ca_file, connections=connections, seconds=seconds)


def headers(number: int) -> list[tuple[str, str]]:
    """Of a request without proof of who we are."""
    path = f"/3/device/{number:064x}"
    return [(":method", "POST"), (":scheme", "https"), (":authority", "localhost"), (":path", path),
            ("apns-topic", TOPIC)]  # fmt: skip


def post(http: Http2, number: int = 1, size: int = 10) -> int:
    """The status of such a request (403); its body has `size` bytes."""
    return http.post(headers(number), b"x" * size).status


def crowd(http: Http2, count: int, size: int = 10) -> list[int]:
    jobs = [gevent.spawn(post, http, n, size) for n in range(count)]
    return [g.get(timeout=60) for g in jobs]


def test_more_requests_than_streams_and_more_bytes_than_windows(server: Apns) -> None:
    server.max_streams, server.window, server.delay = 7, 1000, 0.001
    server.start()
    http = client(server, 30.0)
    assert crowd(http, 200, 3000) == [403] * 200
    assert server.connections == 1
    http.close()


def test_many_more_requests_than_one_connection_window_holds(server: Apns) -> None:
    server.start()
    http = client(server, 30.0)
    for _ in range(4):
        assert set(crowd(http, 500, 400)) == {403}
    assert server.connections == 1
    http.close()


def test_what_was_not_looked_at_before_goaway_is_sent_again(server: Apns) -> None:
    server.start()
    server.delay = 0.02
    server.plan.extend([""] * 10 + ["goaway"])
    http = client(server)
    assert crowd(http, 11) == [403] * 11
    assert server.connections == 2
    http.close()


def test_a_request_that_hangs_is_reset_and_gives_its_stream_back(server: Apns) -> None:
    server.max_streams = 2
    server.start()
    http = client(server, 0.5)
    wait_until(lambda: attempt(http) == 403, "connected")
    for _ in range(5):
        server.plan.append("hang")
        with pytest.raises(VendorError) as lost:
            post(http)
        assert lost.value.verdict.outcome is Outcome.LOST
    wait_until(lambda: server.resets >= 5, "all were reset")
    wait_until(lambda: attempt(http) == 403, "and there is a stream again")
    assert server.connections == 1
    http.close()


def test_requests_that_find_no_stream_in_time_were_not_sent(server: Apns) -> None:
    server.max_streams = 1
    server.start()
    context = ssl.create_default_context(cafile=server.ca_file)
    context.set_alpn_protocols(["h2"])
    connection = Connection("localhost", server.port, context)
    server.plan.append("hang")
    hanging = gevent.spawn(connection.request, headers(0), b"x", 60.0)
    wait_until(lambda: not server.plan, "the hanging request has arrived")
    for number in range(4):
        with pytest.raises(VendorError) as error:
            connection.request(headers(number), b"x", 0.1)
        assert error.value.verdict.outcome is Outcome.UNREACHABLE
    hanging.kill()
    wait_until(lambda: connection.request(headers(5), b"x", SECONDS).status == 403, "its stream is free again")
    connection.close()


def test_a_server_that_is_not_there_is_tried_once_a_second(server: Apns) -> None:
    server.start()
    server.stop()
    http = client(server, 0.5)
    start = time.monotonic()
    for _ in range(100):
        with pytest.raises(VendorError) as gone:
            post(http)
        assert gone.value.verdict.outcome is Outcome.UNREACHABLE
    server.start()
    wait_until(lambda: attempt(http) == 403, "it is found again")
    assert server.connections <= 1 + (time.monotonic() - start)
    http.close()


def attempt(http: Http2) -> int:
    try:
        return post(http)
    except VendorError:
        return 0


def test_an_idle_connection_must_answer_pings(server: Apns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("push.http2.PING_IDLE", 0.0)
    monkeypatch.setattr("push.http2.CONNECT_SECONDS", 0.2)
    server.start()
    http = client(server)
    assert post(http) == 403
    http.look()
    wait_until(lambda: http.pings == 0, "the ping was answered")
    server.freeze()
    http.look()
    wait_until(lambda: http.look() or not http.connected, "it is given up")
    server.thaw()
    wait_until(lambda: attempt(http) == 403, "and another one is made")
    assert server.connections == 2
    http.close()
