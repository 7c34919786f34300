"""memfs: any memory image is a directory.

    import memfs
    with memfs.open("crash.core") as image:
        image.read(0x7ffd1000, 64)
        for region in image.regions:
            print(region.name, hex(region.start), region.size)

Nothing is imported before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memfs.api import OpenImage as OpenImage
    from memfs.api import open as open
    from memfs.errors import AbsentMemory as AbsentMemory
    from memfs.errors import MemfsError as MemfsError

__version__ = "0.1.0"
__all__ = ["AbsentMemory", "MemfsError", "OpenImage", "__version__", "open"]

_HOMES = {
    "open": "memfs.api",
    "OpenImage": "memfs.api",
    "AbsentMemory": "memfs.errors",
    "MemfsError": "memfs.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'memfs' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
