"""VMCOREINFO: what a kernel tells crash tools about itself, as lines of `KEY=value`.

Source: Documentation/admin-guide/kdump/vmcoreinfo.rst, Linux 6.12. The bases are mixed: SYMBOL and KERNELOFFSET are
hex without 0x, NUMBER is decimal (and may be negative) or hex with 0x. What does not fit its key is
taken for not there."""

from __future__ import annotations

from collections.abc import Mapping

OWNER = "VMCOREINFO"
SIZE_AT_MOST = 1 << 20
"""The kernel has one page for it; more is not looked at."""


class Vmcoreinfo:
    """The lines, by their keys. Immutable."""

    def __init__(self, raw: bytes) -> None:
        text = raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
        pairs = (line.partition("=") for line in text.split("\n"))
        self.values: Mapping[str, str] = {key: value for key, mark, value in pairs if mark}

    def text(self, key: str) -> str | None:
        """OSRELEASE, BUILD-ID, CONFIG_X86_PAE."""
        return self.values.get(key)

    def number(self, name: str) -> int | None:
        """NUMBER(name)."""
        return _integer(self.values.get(f"NUMBER({name})"), 0)

    def symbol(self, name: str) -> int | None:
        """SYMBOL(name): an address."""
        return _integer(self.values.get(f"SYMBOL({name})"), 16)

    def offset(self, name: str) -> int | None:
        """OFFSET(structure.field): bytes."""
        return _integer(self.values.get(f"OFFSET({name})"), 0)

    def hexadecimal(self, key: str) -> int | None:
        """A key whose value is hex without 0x: KERNELOFFSET."""
        return _integer(self.values.get(key), 16)

    def page_size(self) -> int | None:
        """PAGESIZE, if it can be one."""
        size = _integer(self.values.get("PAGESIZE"), 0)
        return size if size and 1 << 12 <= size <= 1 << 16 and not size & (size - 1) else None


def _integer(text: str | None, base: int) -> int | None:
    if text is None or len(text) > 20:
        return None
    try:
        value = int(text, base)
    except ValueError:
        return None
    return value if -1 << 63 <= value < 1 << 64 else None
