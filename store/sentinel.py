"""Finds the master of which sentinels know."""

from __future__ import annotations

from collections.abc import Callable

import hiredis

from store.address import Address, SentinelAddress
from store.connection import query
from store.errors import StoreRefused


def finder(address: SentinelAddress) -> Callable[[], Address]:
    """What looks up where the master is now, in a greenlet, and sees that it is one. Raises `OSError`, `StoreRefused`,
    `hiredis.HiredisError`. The sentinel that answered is asked first the next time."""
    sentinels = list(address.sentinels)

    def find() -> Address:
        troubles = []
        for sentinel in list(sentinels):
            try:
                (found,) = query(sentinel, ("SENTINEL", "get-master-addr-by-name", address.name))
            except (OSError, hiredis.HiredisError, StoreRefused) as error:
                troubles.append(f"{sentinel.host}:{sentinel.port}: {error}")
                continue
            if not found:
                troubles.append(f"{sentinel.host}:{sentinel.port} knows no master {address.name}")
                continue
            sentinels.remove(sentinel)
            sentinels.insert(0, sentinel)
            host, port = found
            master = address.master.at(host.decode(), int(port))
            (role,) = query(master, ("ROLE",))
            if role[0] != b"master":
                raise StoreRefused(f"{master} is no master any more, and the sentinels do not know yet")
            return master
        raise StoreRefused("; ".join(troubles))

    return find
