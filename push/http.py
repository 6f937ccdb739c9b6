"""HTTP/1.1 requests to one vendor, over connections that are kept: urllib3 under gevent (`docs/push.md` has why).

A request has one deadline for all of it. Proxies and other settings of the environment are not looked at.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import gevent
import msgspec
import urllib3
from urllib3 import exceptions as e

from push.model import Outcome, VendorError

MAX_RETRY_AFTER = 3600.0


class Reply(NamedTuple):
    """An answer, whatever its status."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty when it is none, as with pages of proxies."""
        try:
            found = msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def retry_after(self) -> float:
        """Seconds of a Retry-After header, 0 without one."""
        return parse_retry_after(self.headers.get("retry-after", ""))


class Api:
    """Requests to one address."""

    def __init__(self, url: str, *, ca_file: str, connections: int, seconds: float) -> None:
        """`ca_file`: PEM with the authorities to trust, "" for the system's."""
        parts = urlsplit(url)
        self._prefix = parts.path.rstrip("/")
        self._seconds = seconds
        options: dict[str, Any] = {"maxsize": connections, "block": True, "retries": False}
        if parts.scheme == "https":
            options |= {"ca_certs": ca_file or None, "cert_reqs": "CERT_REQUIRED"}
        self._pool = urllib3.connection_from_url(
            f"{parts.scheme}://{parts.netloc}", timeout=urllib3.Timeout(seconds), **options
        )

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """POST. Raises `VendorError`: UNREACHABLE when it was not sent, LOST when nobody knows."""
        try:
            with gevent.Timeout(self._seconds):
                found = self._pool.urlopen("POST", self._prefix + path, body, headers, redirect=False)
                return Reply(found.status, found.headers, found.data)
        except gevent.Timeout:
            raise VendorError(Outcome.LOST, "timeout") from None
        except (e.NewConnectionError, e.ConnectTimeoutError, e.NameResolutionError, e.SSLError) as error:
            raise VendorError(Outcome.UNREACHABLE, type(error).__name__) from None
        except (e.HTTPError, OSError) as error:
            raise VendorError(Outcome.LOST, type(error).__name__) from None

    def close(self) -> None:
        self._pool.close()


def parse_retry_after(text: str) -> float:
    """Seconds: a number, or a date. 0 for anything else; an hour at most."""
    text = text.strip()
    if text.isdigit():
        return min(float(text), MAX_RETRY_AFTER)
    try:
        when = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError):
        return 0.0
    return max(0.0, min(when - time.time(), MAX_RETRY_AFTER))
