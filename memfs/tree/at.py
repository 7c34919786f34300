"""at/: memory by address. Not listed; every expression that means something is a file.

at/0x7ffd1000          to the end of its region
at/0x7ffd1000:64       64 bytes
at/0x1000-0x2000       the end is not included"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from memfs.facts import regions
from memfs.image import Image, State
from memfs.tree import memory
from memfs.tree.node import SIZE_AT_MOST, Dir, Memory, Node
from memfs.tree.rows import Context

_ADDRESS = re.compile(r"(0x[0-9a-fA-F]{1,16})(?::(0x[0-9a-fA-F]{1,16}|[0-9]{1,19})|-(0x[0-9a-fA-F]{1,16}))?")


class Range(NamedTuple):
    """[start, start + size) of the address space."""

    start: int
    size: int


def parse(image: Image, expression: str) -> Range | None:
    """What an expression means in this image; None for nothing."""
    match = _ADDRESS.fullmatch(expression)
    if match is None:
        return None
    start = int(match[1], 16)
    end = 1 << image.target.bits
    if start >= end:
        return None
    if match[2]:
        size = int(match[2], 0) if match[2].startswith("0x") else int(match[2])
    elif match[3]:
        size = int(match[3], 16) - start
    else:
        region = regions.region_at(image, start)
        size = region.end - start if region else 0
    return Range(start, size) if size > 0 else None


class AtDir(Dir):
    """The directory of all expressions: it lists nothing."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def names(self) -> Sequence[str]:
        return ()

    def find(self, name: str) -> int | None:
        return None

    def unlisted(self, name: str) -> Node | None:
        found = parse(self._context.image, name)
        if found is None or not self._mapped(found.start):
            return None
        image = self._context.image
        size = min(found.size, SIZE_AT_MOST)
        region = regions.region_at(image, found.start)
        if region is not None:
            xattrs = memory.region_xattrs(image, region, found.start, size)
        else:
            xattrs = lambda: memory.attributes(found.start, size, None)  # noqa: E731
        return Memory(self._context.readable(image.space), found.start, size, xattrs, key=("at", found.start, size))

    def _mapped(self, address: int) -> bool:
        """An address in a gap is no file; one whose bytes are absent is."""
        return next(iter(self._context.image.space.runs(address, address + 1))).state != State.GAP
