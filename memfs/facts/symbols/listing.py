"""Symbols out of text: /proc/kallsyms, a copy of it, System.map.

A line is `ADDRESS TYPE NAME`, and a tab and `[MODULE]` for what is not the kernel's own; addresses have 16 or 8 hex
digits (kernel/kallsyms.c, s_show, Linux 6.1; System.map is what nm -n prints)."""

from __future__ import annotations

import re
import sys
from array import array
from typing import NamedTuple

from memfs.errors import MemfsError, printable
from memfs.facts.symbols.columns import KERNEL, Symbols

_LINE = re.compile(rb"([0-9a-fA-F]{1,16})[ ]+(\S)[ \t]+(\S+)(?:[ \t]+\[(\S+)\])?\s*")
_START = re.compile(rb"\s*[0-9a-fA-F]{8}(?:[0-9a-fA-F]{8})? \S ")


class _Columns(NamedTuple):
    addresses: array[int]
    types: bytes
    names: bytes  # joined by newlines, with one at the end
    modules: list[bytes]  # of each, empty for the kernel's own


def looks_like(head: bytes) -> bool:
    """Whether the beginning of a file is that of a list of symbols."""
    return _START.match(head) is not None


def parse(text: bytes) -> Symbols:
    """The symbols of a list. Raises MemfsError for a stub, for addresses that are hidden, for what is no list."""
    tab = text.find(b"\t")
    cut = text.rfind(b"\n", 0, tab) + 1 if tab >= 0 else len(text)
    parts = [_read(text[:cut], 3, 0)]
    if cut < len(text):
        parts.append(_read(text[cut:], 4, text.count(b"\n", 0, cut)))
    addresses = array("Q")
    for part in parts:
        addresses += part.addresses
    modules, owners = _owners([(len(part.addresses), part.modules) for part in parts])
    if not addresses:
        raise MemfsError("this is no list of symbols", "it is empty", "name a System.map or /proc/kallsyms")
    symbols = Symbols(
        b"".join(part.names for part in parts), addresses, b"".join(part.types for part in parts), modules, owners
    )
    _refuse_hidden(symbols)
    return symbols


def _refuse_hidden(symbols: Symbols) -> None:
    """Raises MemfsError where kptr_restrict has made all addresses zero: names without places are no map."""
    start = symbols.value(b"_stext")
    if start == 0 or (start is None and not any(symbols.addresses)):
        raise MemfsError(
            "all addresses of these symbols are zero",
            "the kernel hides them (kernel.kptr_restrict), or the copy was made without CAP_SYSLOG",
            "read /proc/kallsyms as root",
        )


def _owners(parts: list[tuple[int, list[bytes]]]) -> tuple[tuple[str, ...], array[int]]:
    """The names of all modules, and the index of each symbol's."""
    known: dict[bytes, int] = {b"": 0}
    owners = array("I")
    for count, modules in parts:
        if modules:
            owners.extend([known.setdefault(module, len(known)) for module in modules])
        else:
            owners.frombytes(bytes(4 * count))
    names = [module.decode("utf-8", "surrogateescape") for module in known]
    return (KERNEL, *names[1:]), owners


def _read(text: bytes, width: int, lines_before: int) -> _Columns:
    """A part of a list whose lines have `width` words: all at once, or line by line where some line is odd."""
    return _read_columns(text, width) or _read_lines(text, lines_before)


def _read_columns(text: bytes, width: int) -> _Columns | None:
    """Every word by its column, 188,000 lines in 0.2 s; None if anything is unlike that."""
    words = text.split()
    lines = text.count(b"\n") + (not text.endswith(b"\n") and bool(text))
    if not words or len(words) != width * lines:
        return None
    numbers, types = words[0::width], b"".join(words[1::width])
    digits = len(numbers[0])
    joined = b"".join(numbers)
    if digits not in (8, 16) or len(joined) != digits * lines or len(types) != lines:
        return None
    if set(map(len, numbers)) != {digits}:
        return None
    del numbers
    modules: list[bytes] = []
    if width == 4:
        marks = words[3::4]
        if not all(mark[:1] == b"[" and mark[-1:] == b"]" for mark in marks):
            return None
        modules = [mark[1:-1] for mark in marks]
    names = b"\n".join(words[2::width]) + b"\n"
    del words
    try:
        values = array("Q" if digits == 16 else "I", bytes.fromhex(joined.decode("ascii")))
    except ValueError:
        return None
    if sys.byteorder == "little":
        values.byteswap()
    return _Columns(values if digits == 16 else array("Q", values), types, names, modules)


def _read_lines(text: bytes, lines_before: int) -> _Columns:
    """The same line by line. Raises MemfsError with the number of the line that is none."""
    addresses, types, names, modules = array("Q"), bytearray(), [], []
    for number, line in enumerate(text.split(b"\n"), lines_before + 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise _no_symbol(number, line)
        addresses.append(int(match[1], 16))
        types += match[2]
        names.append(match[3])
        modules.append(match[4] or b"")
    return _Columns(addresses, bytes(types), b"".join(name + b"\n" for name in names), modules)


def _no_symbol(number: int, line: bytes) -> MemfsError:
    """Why a line is none; Debian's stubs name the package that has the map itself."""
    text = printable(line[:120].decode("utf-8", "surrogateescape"))
    if b"System.map is in" in line:
        package = line.partition(b"System.map is in")[2].decode("utf-8", "replace").strip()
        return MemfsError("this System.map is a stub", "it has no symbols", f"the real one is in {printable(package)}")
    return MemfsError(
        "this is no list of symbols",
        f"line {number} is not `ADDRESS TYPE NAME`: {text}",
        "name a System.map or /proc/kallsyms",
    )
