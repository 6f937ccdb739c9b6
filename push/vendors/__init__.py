"""The vendors. Each module here defines one `Vendor`; its name is the service type that registrations name."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from push.vendor import Vendor


@cache
def all_vendors() -> dict[str, type[Vendor]]:
    """Every vendor by name."""
    found: dict[str, type[Vendor]] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for thing in vars(module).values():
            if isinstance(thing, type) and issubclass(thing, Vendor) and thing.__module__ == module.__name__:
                found[thing.name] = thing
    return found
