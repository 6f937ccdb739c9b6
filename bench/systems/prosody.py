"""Prosody as Debian packages it, with its archive in the internal store (files, written without fsync)."""

from __future__ import annotations

from bench.dialects.xmpp import HOST as DOMAIN
from bench.dialects.xmpp import ROOMS, Xmpp
from bench.systems import HOST, Private, listens, package_version

PACKAGES = ("prosody",)
_CONFIG = """
run_as_root = true
pidfile = "{directory}/prosody.pid"
data_path = "{directory}/data"
log = {{ warn = "{directory}/prosody-own.log" }}
network_backend = "epoll"
c2s_interfaces = {{ "{host}" }}
c2s_ports = {{ {port} }}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_plain"
allow_registration = true
storage = "internal"
archive_expires_after = "never"
default_archive_policy = true
modules_enabled = {{ "roster", "saslauth", "disco", "smacks", "register_ibr", "offline", "mam" }}
modules_disabled = {{ "s2s", "tls" }}
VirtualHost "{domain}"
Component "{rooms}" "muc"
    modules_enabled = {{ "muc_mam" }}
    muc_room_locking = false
    muc_log_by_default = true
    muc_room_default_history_length = 0
    muc_room_default_presence_broadcast = {{ visitor = false, participant = false, moderator = false }}
"""


class Prosody(Private):
    """A peer."""

    name = "prosody, internal store"
    keeps = True

    def __init__(self) -> None:
        self.dialect = Xmpp()
        super().__init__()

    @staticmethod
    def version() -> str:
        return f"{package_version('prosody')}, {package_version('lua5.4')}"

    def start(self) -> None:
        config = self.directory / "prosody.cfg.lua"
        config.write_text(
            _CONFIG.format(directory=self.directory, host=HOST, port=self.port, domain=DOMAIN, rooms=ROOMS)
        )
        self.run("prosody", ["prosody", "-F", "--config", str(config)], lambda: listens(self.port))
