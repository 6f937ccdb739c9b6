"""The seven push vendors, simulated on real sockets with TLS, as faithfully as their documents allow."""

from __future__ import annotations

from tests.simulators.apns import Apns
from tests.simulators.fcm import Fcm
from tests.simulators.huawei import Huawei, HuaweiV3
from tests.simulators.meizu import Meizu
from tests.simulators.oppo import Oppo
from tests.simulators.server import Simulator
from tests.simulators.vivo import Vivo
from tests.simulators.xiaomi import Xiaomi

SIMULATORS: tuple[type[Simulator], ...] = (Apns, Fcm, Huawei, HuaweiV3, Xiaomi, Meizu, Vivo, Oppo)
