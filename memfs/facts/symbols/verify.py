"""Whether a map belongs to a kernel: one of another build names the wrong bytes, and looks as good as the right one."""

from __future__ import annotations

from array import array
from collections.abc import Mapping

from memfs.errors import MemfsError
from memfs.facts.symbols.columns import ABSOLUTE, MEMORY, Symbols
from memfs.facts.symbols.tables import Read

_BANNER = b"Linux version "
_ENOUGH = 3
"""So many symbols of VMCOREINFO, besides _stext, in their places say that a map is right."""

_NO_ADDRESSES = ("mem_section",)
"""SYMBOL()s that are values of pointers (VMCOREINFO_SYMBOL_ARRAY of what is no array, kernel/vmcore_info.c)."""

_PAGE = 4096


def fitted(symbols: Symbols, read: Read, info: Mapping[str, str], bits: int) -> Symbols:
    """The symbols at the addresses of the kernel that `info` (VMCOREINFO) and `read` are of.

    A kernel that moved at boot (KASLR) has them elsewhere than its System.map. Raises MemfsError unless it is certain
    that the map is this kernel's: by linux_banner, or by the symbols that VMCOREINFO names."""
    named = symbol_addresses(info)
    stext = named.get("_stext")
    own = symbols.value(b"_stext")
    slide = stext - own if stext is not None and own is not None else 0
    _check_slide(slide, info)
    moved = shifted(symbols, slide, bits)
    agree = 0
    for name, address in named.items():
        found = moved.find(name.encode(), 0) if name not in _NO_ADDRESSES else []
        if found and all(moved.addresses[index] != address for index in found):
            raise wrong(f"{name} is at {address:#x} in this kernel, at {moved.addresses[found[0]]:#x} in the map")
        agree += bool(found) and name != "_stext"
    if not _banner_agrees(moved, read, info) and agree < _ENOUGH:
        raise wrong("neither linux_banner nor VMCOREINFO shows that it belongs to this kernel")
    return moved


def check_build(build_id: str | None, info: Mapping[str, str]) -> None:
    """Raises MemfsError for the build-id of another kernel than VMCOREINFO is of; where one is not known, it proves
    nothing."""
    own = info.get("BUILD-ID", "").lower()
    if build_id is not None and own and build_id != own:
        raise wrong(f"its build-id is {build_id}, and this kernel's {own}")


def _check_slide(slide: int, info: Mapping[str, str]) -> None:
    """Raises MemfsError for a slide that no boot makes, or another than VMCOREINFO has."""
    offset = info.get("KERNELOFFSET")
    if slide and offset is not None and slide != _hex(offset):
        raise wrong(f"_stext is {slide:#x} away from where the map has it, and this kernel moved by 0x{offset}")
    if slide % _PAGE:
        raise wrong(f"_stext is {slide:#x} away from where the map has it")


def _banner_agrees(symbols: Symbols, read: Read, info: Mapping[str, str]) -> bool:
    """Whether linux_banner is where the map says; False where that cannot be told."""
    address = symbols.value(b"linux_banner")
    release = info.get("OSRELEASE", "").encode()
    want = _BANNER + release + b" " if release else _BANNER
    got = read(address, len(want)) if address is not None else b""
    if len(got) == len(want) and got != want:
        raise wrong("linux_banner is not where the map has it")
    return got == want


def shifted(symbols: Symbols, slide: int, bits: int) -> Symbols:
    """The same symbols, `slide` bytes further on; numbers and offsets stay what they are."""
    if not slide:
        return symbols
    mask = (1 << bits) - 1
    bottom = symbols.span()[0]
    addresses = array(
        "Q",
        [
            (address + slide) & mask if place == MEMORY or (place != ABSOLUTE and address >= bottom) else address
            for address, place in zip(symbols.addresses, symbols.places, strict=True)
        ],
    )
    return Symbols(symbols.names, addresses, symbols.types, symbols.modules, symbols.owners)


def symbol_addresses(info: Mapping[str, str]) -> dict[str, int]:
    """The SYMBOL()s of VMCOREINFO: hex, without 0x."""
    out = {}
    for key, value in info.items():
        if key.startswith("SYMBOL(") and key.endswith(")") and (address := _hex(value)) is not None:
            out[key[7:-1]] = address
    return out


def _hex(text: str) -> int | None:
    try:
        number = int(text, 16)
    except ValueError:
        return None
    return number if 0 <= number < 1 << 64 else None


def wrong(why: str) -> MemfsError:
    """A map of another kernel."""
    return MemfsError("this is not the map of this kernel", why, "name the System.map or vmlinux of this very build")
