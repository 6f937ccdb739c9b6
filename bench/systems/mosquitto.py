"""mosquitto as Debian packages it: QoS 1 in memory, nothing on disk, no history."""

from __future__ import annotations

from bench.dialects.mqtt import Mqtt
from bench.systems import HOST, Private, listens, package_version

PACKAGES = ("mosquitto",)
_CONFIG = """
user root
listener {port} {host}
allow_anonymous true
persistence false
set_tcp_nodelay true
max_queued_messages 0
log_type error
"""


class Mosquitto(Private):
    """A peer."""

    name = "mosquitto, in memory"
    keeps = True

    def __init__(self) -> None:
        self.dialect = Mqtt()
        super().__init__()

    @staticmethod
    def version() -> str:
        return package_version("mosquitto")

    def start(self) -> None:
        config = self.directory / "mosquitto.conf"
        config.write_text(_CONFIG.format(host=HOST, port=self.port))
        self.run("mosquitto", ["mosquitto", "-c", str(config)], lambda: listens(self.port))
