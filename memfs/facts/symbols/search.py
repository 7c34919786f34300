"""The kallsyms tables by their look, where VMCOREINFO does not tell where they are (before 6.0).

The digits are tokens of their own: `0\\0 1\\0 ... 9\\0` in a row is a token table, if its index follows. The
names lie before it, and the offsets before those (up to 6.3) or behind the index. See tables.py."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence

from memfs.facts.symbols.tables import Layout, Machine, Read

_SIGNATURE = b"".join(b"%d\0" % digit for digit in range(10))
_WINDOW = 4 << 20
_OVERLAP = 1 << 16
_BEFORE = 12 << 20
"""So far before the token table the names may begin."""

_FEWEST, _MOST = 2_000, 2_000_000
_SAMPLE = 64
_TYPES = frozenset(b"aAbBdDtTrRwWvVuUnNiIsSgGC?")
_PAGE = 4096


def layouts(read: Read, machine: Machine, ranges: Iterable[tuple[int, int]]) -> Iterator[Layout]:
    """Every layout that the memory of `ranges` (start, end) may have, most plausible first."""
    for low, high in ranges:
        for table, index, tokens in _token_tables(read, machine, low, high):
            start = max(low, table - _BEFORE) & ~(machine.word - 1)
            before = filled(read, start, table)
            for at, names, count, end in _names(before, machine, tokens):
                yield from _around(machine, start + at, start + names, start + end, count, table, index)


def filled(read: Read, start: int, end: int) -> bytes:
    """[start, end) with zeros for what is absent: good enough to look for something in, and for nothing else."""
    out = bytearray(end - start)
    position = start
    while position < end:
        piece = read(position, min(_WINDOW, end - position))
        out[position - start : position - start + len(piece)] = piece
        position += len(piece)
        if position < end and not piece:
            position = (position // _PAGE + 1) * _PAGE
    return bytes(out)


def _token_tables(read: Read, machine: Machine, low: int, high: int) -> Iterator[tuple[int, int, Sequence[bytes]]]:
    """Token tables in [low, high): the address of each, that of its index, and the tokens."""
    for start in range(low, high, _WINDOW - _OVERLAP):
        window = filled(read, start, min(start + _WINDOW, high))
        position = -1
        while (position := window.find(_SIGNATURE, position + 1)) >= 0:
            found = _token_table(window, position, machine)
            if found and (position < _WINDOW - _OVERLAP or start + _WINDOW >= high):
                table, index, tokens = found
                yield start + table, start + index, tokens


def _token_table(window: bytes, digits: int, machine: Machine) -> tuple[int, int, list[bytes]] | None:
    """The table whose token 48 (`0`) is at `digits`: its offset, that of its index, and the tokens."""
    table = digits
    for _ in range(ord("0")):
        if table <= 0:
            return None
        table = window.rfind(b"\0", 0, table - 1) + 1
    tokens = window[table : table + _OVERLAP].split(b"\0", 256)[:256]
    if len(tokens) < 256:
        return None
    starts = array("H", [0])
    for token in tokens[:-1]:
        if (following := starts[-1] + len(token) + 1) > 0xFFFF:
            return None
        starts.append(following)
    if machine.order != sys.byteorder:
        starts.byteswap()
    end = table + sum(map(len, tokens)) + 256
    index = window.find(starts.tobytes(), end, end + 512 + 64)
    return (table, index, tokens) if index >= 0 else None


def _names(before: bytes, machine: Machine, tokens: Sequence[bytes]) -> Iterator[tuple[int, int, int, int]]:
    """Where a count is followed by so many names: offsets of the count and of the names, the count, and their end."""
    good = bytes(bool(token) and token[0] in _TYPES for token in tokens)
    numbers = array("I", before[: len(before) & ~3])
    if machine.order != sys.byteorder:
        numbers.byteswap()
    size = len(before)
    for position, count in enumerate(numbers):
        if _FEWEST < count < _MOST and 4 * position + 2 * count < size:
            for distance in (4, 8):
                names = 4 * position + distance
                if _walk(before, names, _SAMPLE, good) and (end := _walk(before, names, count, good)):
                    yield 4 * position, names, count, end
                    break


def _walk(data: bytes, position: int, count: int, good: bytes) -> int:
    """The end of `count` names that begin at `position`; 0 if that are none."""
    size = len(data)
    try:
        for _ in range(count):
            length = data[position]
            position += 1
            if length & 0x80:
                length = (length & 0x7F) | data[position] << 7
                position += 1
            if not 1 <= length <= 512 or not good[data[position]]:
                return 0
            position += length
    except IndexError:
        return 0
    return position if position <= size else 0


def _around(
    machine: Machine, number: int, names: int, end: int, count: int, table: int, index: int
) -> Iterator[Layout]:
    """Where the offsets may be, given the rest."""
    word = machine.word
    behind = index + 512

    def layout(offsets: int | None, base: int | None, addresses: int | None = None) -> Layout:
        return Layout(count, names, end, table, index, offsets, base, addresses)

    def aligned(address: int) -> int:
        return (address + word - 1) & -word

    base = number - word
    yield layout((base - 4 * count) & -word, base)  # 4.6 to 6.3
    yield layout(aligned(behind), aligned(aligned(behind) + 4 * count))  # 6.4 on
    yield layout((behind + 3) & ~3, None)  # 7.x
    yield layout(None, None, (number - word * count) & -word)  # CONFIG_KALLSYMS_BASE_RELATIVE=n
