"""ejabberd as Debian packages it, with its archive in mnesia or in MariaDB, or without one.

It is started by `erl` itself: one scheduler, because all servers share one core, and without busy waiting, which would
be counted as CPU time. Accounts keep plain passwords, so that a login does not pay for a key derivation that imesh's
open mode has not either.
"""

from __future__ import annotations

from pathlib import Path

from bench.dialects.xmpp import HOST as DOMAIN
from bench.dialects.xmpp import ROOMS, Xmpp
from bench.systems import HOST, Private, listens, mariadb, package_version

PACKAGES = ("ejabberd",)
ARCHIVES = {"mnesia": PACKAGES, "MariaDB": (*PACKAGES, "erlang-p1-mysql", *mariadb.PACKAGES), "": PACKAGES}
"""What each archive needs; "" is none."""
_SCHEMA = Path("/usr/share/ejabberd/sql/mysql.sql")
_LIBRARIES = "/usr/lib/x86_64-linux-gnu"
_CONFIG = """
hosts: [{domain}]
loglevel: warning
log_rotate_size: infinity
auth_method: internal
auth_password_format: plain
registration_timeout: infinity
disable_sasl_mechanisms: [digest-md5, scram-sha-1, scram-sha-256, scram-sha-512, x-oauth2]
{database}
listen:
  - {{port: {port}, ip: {host}, module: ejabberd_c2s, access: all, shaper: none, backlog: 1024,
     max_stanza_size: infinity}}
shaper_rules:
  max_user_offline_messages: infinity
modules:
  mod_disco: {{}}
  mod_roster: {{}}
  mod_register: {{ip_access: all, access: all, access_from: all}}
  mod_stream_mgmt: {{max_ack_queue: infinity, ack_timeout: infinity}}
  mod_muc:
    host: {rooms}
    history_size: 0
    access_create: all
    max_users: 5000
    min_message_interval: 0
    default_room_options: {{presence_broadcast: [], max_users: 5000, mam: {mam}}}
{modules}
"""
_KEEP = """
  mod_offline: {access_max_user_messages: max_user_offline_messages}
  mod_mam: {default: always, assume_mam_usage: false}
"""
_SQL = """
default_db: sql
auth_method: internal
sql_type: mysql
sql_server: {host}
sql_port: {port}
sql_database: {database}
sql_username: {user}
sql_password: {password}
sql_pool_size: 10
"""


class Ejabberd(Private):
    """`archive`: "mnesia", "MariaDB" or "" for none, in which case nothing is kept for users who are away either."""

    def __init__(self, archive: str) -> None:
        self.name = f"ejabberd, {archive or 'no archive'}"
        self.store = mariadb.GROUP if archive == "MariaDB" else ""
        self.keeps = bool(archive)
        self.dialect = Xmpp()
        self._archive = archive
        super().__init__()

    @staticmethod
    def version() -> str:
        return f"{package_version('ejabberd')}, {package_version('erlang-base')}"

    def start(self) -> None:
        database = "default_db: mnesia"
        if self._archive == "MariaDB":
            database = _SQL.format(
                host=HOST, port=mariadb.start(self, _SCHEMA), database=mariadb.DATABASE, user=mariadb.USER,
                password=mariadb.PASSWORD,
            ).replace("auth_method: internal\n", "")  # fmt: skip
        config = self.directory / "ejabberd.yml"
        config.write_text(_CONFIG.format(
            domain=DOMAIN, rooms=ROOMS, host=HOST, port=self.port, database=database,
            mam=str(self.keeps).lower(), modules=_KEEP if self.keeps else "",
        ))  # fmt: skip
        command = [
            "erl", "+S", "1:1", "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none", "+K", "true", "+P", "250000",
            "-noinput", "-mnesia", "dir", f'"{self.directory}/mnesia"', "-s", "ejabberd",
        ]  # fmt: skip
        self.run(
            "ejabberd", command, lambda: listens(self.port), ERL_LIBS=_LIBRARIES, EJABBERD_CONFIG_PATH=str(config),
            EJABBERD_LOG_PATH=f"{self.directory}/ejabberd-own.log", HOME=str(self.directory),
            ERL_CRASH_DUMP=f"{self.directory}/crash", ERL_MAX_PORTS="32000",
        )  # fmt: skip
