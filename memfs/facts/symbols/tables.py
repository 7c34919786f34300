"""The kallsyms tables of a kernel, out of its memory: the symbols that its /proc/kallsyms prints without a module.

    kallsyms_num_syms      u32: how many
    kallsyms_names         for each: a length (a byte; since 6.1 two where the first has bit 7: its low 7 bits, then
                           the next byte << 7), and so many tokens of a byte. The first character is the type
    kallsyms_token_table   256 strings that end in NUL; kallsyms_token_index: 256 u16, where each begins
    kallsyms_offsets       for each an i32, and kallsyms_relative_base; or kallsyms_addresses, a word for each

Source: scripts/kallsyms.c and kernel/kallsyms.c, Linux 4.6 to 6.18 and, by test, 5.10 and 6.1. What an offset means
depends on the configuration, and is decided by _stext, whose place VMCOREINFO knows."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from operator import le
from typing import NamedTuple

from memfs.errors import MemfsError
from memfs.facts.symbols.columns import Symbols

Read = Callable[[int, int], bytes]
"""(address, size) -> what lies there; fewer bytes where the rest is absent, none where the first is."""

NONE = "no symbols in the kernel's own memory"
"""What is wrong, where nothing can be made of the tables."""

SYMBOLS_AT_MOST = 1 << 22
"""A kernel with everything has 300,000."""

_NAME_AT_MOST = 1 << 10
_TOKENS_AT_MOST = 1 << 16
_PIECE = 1 << 20


class Machine(NamedTuple):
    """What the tables were made for: bytes of a word (4 or 8), and "little" or "big"."""

    word: int
    order: str


class Layout(NamedTuple):
    """Addresses of the tables; None for one that this kernel has not."""

    total: int  # symbols
    names: int
    names_end: int  # no name lies behind it
    token_table: int
    token_index: int
    offsets: int | None
    relative_base: int | None
    addresses: int | None


def located(read: Read, machine: Machine, info: Mapping[str, int]) -> Layout | None:
    """The layout that VMCOREINFO tells (6.0 and later), by its SYMBOL()s; None where it does not."""
    want = ("kallsyms_num_syms", "kallsyms_names", "kallsyms_token_table", "kallsyms_token_index")
    if not all(name in info for name in want):
        return None
    number, names, table, index = (info[name] for name in want)
    count = number_at(read, machine, number, 4)
    end = table if names < table <= names + _NAME_AT_MOST * count else names + 64 * count
    rest = (info.get(f"kallsyms_{name}") for name in ("offsets", "relative_base", "addresses"))
    return Layout(count, names, end, table, index, *rest)


def symbols(
    read: Read, machine: Machine, layout: Layout, stext: int | None, text: Sequence[tuple[int, int]] = ()
) -> Symbols:
    """The symbols of the tables. `stext` is where _stext is; where nobody knows, it must be in a range of `text`.

    Raises MemfsError where the tables make no sense."""
    if not 0 < layout.total <= SYMBOLS_AT_MOST:
        raise _damaged(f"there are {layout.total} symbols in them")
    tokens = _tokens(read, machine, layout)
    types, names = expand(gather(read, layout.names, layout.names_end), layout.total, tokens)
    for addresses in _schemes(read, machine, layout):
        made = Symbols(names, addresses, types)
        own = made.value(b"_stext")
        if own is not None and (own == stext if stext is not None else _in_order(addresses, own, text)):
            return made
    raise _damaged("no scheme of their offsets puts _stext where it is")


def _in_order(addresses: array[int], stext: int, text: Sequence[tuple[int, int]]) -> bool:
    """Whether these may be addresses: sorted, as the kernel needs them, and _stext where it may be."""
    return any(low <= stext < high for low, high in text) and all(map(le, addresses, islice(addresses, 1, None)))


# -- names ----------------------------------------------------------------------------------------------------------


def expand(data: bytes, count: int, tokens: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The types and the names (joined by newlines, with one at the end) of `count` names of tokens."""
    out: list[bytes] = []
    position, size, token, join = 0, len(data), tokens.__getitem__, b"".join
    try:
        for _ in range(count):
            length = data[position]
            position += 1
            if length & 0x80:
                length = (length & 0x7F) | data[position] << 7
                position += 1
            end = position + length
            if end > size:
                raise IndexError
            out.append(join(map(token, data[position:end])))
            position = end
    except IndexError as error:
        raise _damaged(f"the image has the names of {len(out)} of {count} symbols") from error
    types = join([full[:1] for full in out])
    if len(types) != count:
        raise _damaged("a name is empty")
    names = b"\n".join([full[1:] for full in out])
    return types, names + b"\n"


def _tokens(read: Read, machine: Machine, layout: Layout) -> list[bytes]:
    """The 256 tokens."""
    starts = _array("H", exactly(read, layout.token_index, 512), machine.order)
    distance = layout.token_index - layout.token_table
    table = gather(read, layout.token_table, layout.token_table + min(abs(distance), _TOKENS_AT_MOST))
    out = []
    for start in starts:
        end = table.find(b"\0", start)
        if end < 0:
            raise _damaged("a token has no end")
        out.append(table[start:end])
    if any(b"\n" in token for token in out):
        raise _damaged("a token has a newline")
    return out


# -- addresses ---------------------------------------------------------------------------------------------------


def _schemes(read: Read, machine: Machine, layout: Layout) -> Iterable[array[int]]:
    """The addresses that the tables may mean, by every scheme there is."""
    mask = (1 << 8 * machine.word) - 1
    word = "Q" if machine.word == 8 else "I"
    if layout.addresses is not None:  # CONFIG_KALLSYMS_BASE_RELATIVE=n
        yield array("Q", _array(word, exactly(read, layout.addresses, layout.total * machine.word), machine.order))
    if layout.offsets is None:
        return
    offsets = _array("i", exactly(read, layout.offsets, 4 * layout.total), machine.order)
    if layout.relative_base is not None:
        base = number_at(read, machine, layout.relative_base, machine.word)
        # CONFIG_KALLSYMS_ABSOLUTE_PERCPU (x86-64 up to 6.14): what is not negative is a number
        yield array("Q", [offset if offset >= 0 else (base - 1 - offset) & mask for offset in offsets])
        yield array("Q", [(base + (offset & 0xFFFFFFFF)) & mask for offset in offsets])
    slot = layout.offsets  # 7.x: relative to the offset itself
    yield array("Q", [(slot + 4 * index + offset) & mask for index, offset in enumerate(offsets)])


# -- bytes ----------------------------------------------------------------------------------------------------------


def gather(read: Read, start: int, end: int) -> bytes:
    """The bytes from `start` on, to `end` or to the first that is absent: memory is taken for what is there."""
    out = bytearray()
    while start < end:
        piece = read(start, min(_PIECE, end - start))
        out += piece
        start += len(piece)
        if not piece:
            break
    return bytes(out)


def number_at(read: Read, machine: Machine, address: int, size: int) -> int:
    """An integer of `size` bytes. Raises MemfsError where one is absent."""
    return int.from_bytes(exactly(read, address, size), "little" if machine.order == "little" else "big")


def exactly(read: Read, address: int, size: int) -> bytes:
    """All of a table. Raises MemfsError where a byte is absent."""
    out = gather(read, address, address + size)
    if len(out) < size:
        raise _damaged(f"no bytes at {address + len(out):#x}")
    return out


def _array(code: str, raw: bytes, order: str) -> array[int]:
    out = array(code, raw)
    if order != sys.byteorder:
        out.byteswap()
    return out


def _damaged(why: str) -> MemfsError:
    return MemfsError(NONE, f"its kallsyms tables cannot be read: {why}")
