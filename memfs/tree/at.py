"""at/: memory by address. Not listed; every expression that means something is a file.

at/0x7ffd1000          to the end of its region
at/0x7ffd1000:64       64 bytes
at/0x1000-0x2000       the end is not included
at/jiffies             a kernel's symbol; also jiffies~2, MODULE!NAME
at/jiffies+0x4         from there to the end of the symbol
at/jiffies+0x4:64      64 bytes"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from memfs.facts import regions
from memfs.facts.naming import to_bytes
from memfs.facts.symbols.columns import MEMORY, Symbols
from memfs.image import Image, State
from memfs.tree import memory
from memfs.tree.node import SIZE_AT_MOST, Dir, Memory, Node
from memfs.tree.rows import Context

_ADDRESS = re.compile(r"(0x[0-9a-fA-F]{1,16})(?::(0x[0-9a-fA-F]{1,16}|[0-9]{1,19})|-(0x[0-9a-fA-F]{1,16}))?")

_NUMBER = "(?:0x[0-9a-fA-F]{1,16}|[0-9]{1,19})"
_SYMBOLS = tuple(
    re.compile(f"(?P<name>.+){rest}", re.DOTALL)
    for rest in ("", f":(?P<length>{_NUMBER})", rf"\+(?P<offset>{_NUMBER})(?::(?P<length>{_NUMBER}))?")
)
_AGAIN = re.compile("(.+)~([1-9][0-9]{0,6})", re.DOTALL)
_KERNELS = ("kernel", "kernel-core")


class Range(NamedTuple):
    """[start, start + size) of the address space."""

    start: int
    size: int


def parse(image: Image, expression: str) -> Range | None:
    """What an expression means in this image; None for nothing."""
    match = _ADDRESS.fullmatch(expression)
    if match is None:
        return _of_symbol(image, expression) if image.kind in _KERNELS else None
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


def _of_symbol(image: Image, expression: str) -> Range | None:
    """NAME, NAME+OFFSET, NAME:LENGTH, NAME+OFFSET:LENGTH: the longest name that exists is the one that is meant."""
    from memfs.facts.symbols import of_image

    symbols = of_image.found(image).symbols
    if symbols is None:
        return None
    for pattern in _SYMBOLS:
        match = pattern.fullmatch(expression)
        index = _named(symbols, match["name"]) if match else None
        if match is None or index is None or symbols.places[index] != MEMORY:
            continue
        fields = match.groupdict()
        offset, length = _number(fields.get("offset")) or 0, _number(fields.get("length"))
        start = symbols.addresses[index] + offset
        if length is None and offset < symbols.sizes[index]:
            length = symbols.sizes[index] - offset
        elif length is None:
            region = regions.region_at(image, start)
            length = region.end - start if region else 0
        return Range(start, length) if length > 0 and start < 1 << image.target.bits else None
    return None


def _named(symbols: Symbols, name: str) -> int | None:
    """The symbol of a name: of the kernel before its modules, the Nth with ~N, of one module behind MODULE!"""
    module, mark, rest = name.partition("!")
    if mark and module in symbols.modules:
        index = _numbered(symbols, rest, symbols.modules.index(module))
        if index is not None:
            return index
    return _numbered(symbols, name, None)


def _numbered(symbols: Symbols, name: str, owner: int | None) -> int | None:
    found = symbols.find(to_bytes(name), owner)
    if found:
        return min(found, key=lambda index: (symbols.owners[index], symbols.addresses[index]))
    match = _AGAIN.fullmatch(name)
    again = symbols.find(to_bytes(match[1]), owner or 0) if match else []
    number = int(match[2]) if match else 0
    return again[number - 1] if 0 < number <= len(again) else None


def _number(text: str | None) -> int | None:
    """A decimal number, or a hexadecimal one behind 0x."""
    return None if text is None else int(text, 16) if text.startswith("0x") else int(text)


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
