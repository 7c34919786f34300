"""Names for the kernel addresses in a text: what klogd did for an oops.

Every address that lies in a symbol is followed by ` name+0xoffset/0xsize [module]`; all else is left as it is, byte
for byte. The forms, and the kernels that print them:

    [<c03441a0>]                            i386 from 2.0 on, arm, all others up to 4.9
    EIP:    0010:[<c03441a0>]               2.4 and 2.6
    <ffffffff80212345>{name+5}              x86-64, early 2.6: has a name
    [<ffffffff81471251>] name+0x11/0x90     has a name, as has (name+0x0/0x10), ? name+0x1/0x2, [name+1/2], <name+1/2>
    [c000000000012345]                      powerpc
    0xffffffff81234567, ffffffff81234567    registers, stack words, %px"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from memfs.facts.naming import to_bytes
from memfs.facts.symbols.columns import Place, Symbols

_DIGIT = b"[0-9a-fA-F]"
_END = rb"(?![\w\x80-\xff]|[.+\-/@][\w\x80-\xff])(?:>\]|>|\])?"
"""Where an address ends: with the brackets behind it, as the name is to stand behind those."""

_ADDRESS = re.compile(b"(" + _DIGIT + b"{8,16})" + _END)

_BEFORE = re.compile(rb"(?:^|[^\w.+\-/@%\\\x80-\xff])(?:0[xX])?\Z")
_PLAIN_BEFORE = b"< :[(=,\n\t"
"""What mostly stands before an address: _BEFORE allows it."""

_TAKEN = re.compile(
    rb"[ \t]*(?:(?:\? ?)?[\[({<]?(?:[\w.$]+:)?[A-Za-z_.$][\w.$@:]*\+(?:0x)?[0-9a-fA-F]"
    rb"|\[<(?:0[xX])?([0-9a-fA-F]+)>\])"
)
"""A name, or once more an address (RIP: 0010:[<...>]  [<...>] name), which takes the name if it is the same."""

_REMEMBERED = 1 << 16


class Found(NamedTuple):
    """An address in a text: its digits begin at `start`; its name is to stand at `end`."""

    start: int
    end: int
    address: int
    place: Place | None  # None where it lies in no symbol


class Symbolizer:
    """A map of symbols, and what it has answered before."""

    def __init__(self, symbols: Symbols) -> None:
        self.symbols = symbols
        self._digits = 16 if symbols.span()[1] >> 32 else 8  # of an address
        self._marks = [b"", *(b" [%s]" % to_bytes(module) for module in symbols.modules[1:])]
        self._known = _pattern(symbols.span(), self._digits)
        self._answers: dict[bytes, bytes | None] = {}
        self._floor = 0xFFFF << 48 if self._digits == 16 else symbols.span()[0]

    def text(self, text: bytes) -> bytes:
        """Whole lines with their addresses named."""
        pieces: list[bytes] = []
        done = 0
        for match in self._known.finditer(text):
            word = match[1]
            try:
                suffix = self._answers[word]
            except KeyError:
                suffix = self._remember(word)
            if suffix is None or not self._wants_name(text, match):
                continue
            insert = match.end()
            pieces.append(text[done:insert])
            pieces.append(suffix)
            done = insert
        if not pieces:
            return text
        pieces.append(text[done:])
        return b"".join(pieces)

    def unnamed(self, text: bytes) -> int:
        """How many kernel addresses of a text lie in no symbol."""
        return sum(found.place is None for found in self.addresses(text))

    def addresses(self, text: bytes) -> Iterator[Found]:
        """Every kernel address of a text that has no name yet."""
        for match in _ADDRESS.finditer(text):
            address = int(match[1], 16)
            place = self.symbols.at(address)
            kernel = place is not None or self._floor <= address < (1 << 4 * self._digits) - 1
            if kernel and self._wants_name(text, match):
                yield Found(match.start(), match.end(), address, place)

    def suffix(self, place: Place) -> bytes:
        """` name+0xoffset/0xsize [module]`"""
        symbols, index = self.symbols, place.symbol
        mark = self._marks[symbols.owners[index]]
        return b" %s+0x%x/0x%x%s" % (symbols.name(index), place.offset, place.size, mark)

    def _remember(self, word: bytes) -> bytes | None:
        place = self.symbols.at(int(word, 16))
        if len(self._answers) >= _REMEMBERED:
            self._answers.clear()
        suffix = self._answers[word] = self.suffix(place) if place else None
        return suffix

    def _wants_name(self, text: bytes, match: re.Match[bytes]) -> bool:
        """Whether digits are an address by what stands around them, and one without a name."""
        start, length = match.start(), len(match[1])
        if length != self._digits and (length > self._digits or text[start - 2 : start] not in (b"0x", b"0X")):
            return False
        if start and text[start - 1] not in _PLAIN_BEFORE and not _BEFORE.search(text, max(0, start - 3), start):
            return False
        taken = _TAKEN.match(text, match.end())
        return not taken or (taken[1] is not None and taken[1].lower() != match[1].lower())


def _pattern(span: tuple[int, int], digits: int) -> re.Pattern[bytes]:
    """Addresses between two, and what looks like one: to look for the digits that all of them have is twice as fast."""
    low, high = (f"{address:0{digits}x}" for address in (span[0], span[1] | 0xFFF))
    common = next((low[:length] for length in range(digits, 0, -1) if high.startswith(low[:length])), "")
    if not common or common[0] == "0":
        return _ADDRESS  # it may be written with fewer digits
    begin = "".join(f"[{digit}{digit.upper()}]" for digit in common).encode()
    return re.compile(b"(" + begin + _DIGIT + b"{%d})" % (digits - len(common)) + _END)
