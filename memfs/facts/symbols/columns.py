"""Symbols as columns: 190,000 of them are four arrays and one piece of bytes, not 190,000 objects.

Addresses and sizes are ints in bytes; names are bytes, as the kernel has them. Nothing here knows where they came
from. A `Symbols` is immutable; what is worked out of it is worked out once, by whichever thread asks first."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate, islice
from typing import NamedTuple

KERNEL = "vmlinux"
"""What the kernel itself is called among its modules."""

_PAGE = 4096

MEMORY, PER_CPU, ABSOLUTE = range(3)
"""What the value of a symbol is: an address, an offset into every CPU's area, a number."""


class Place(NamedTuple):
    """An address as a symbol and the rest: `size` is that of the symbol, 0 <= offset < size."""

    symbol: int
    offset: int
    size: int


class Symbols:
    """Symbols in the order of their source.

    `names` are joined by newlines and end in one; `types` has nm's letter of each; `owners` has the index into
    `modules` of each, 0 being the kernel itself."""

    def __init__(
        self,
        names: bytes,
        addresses: array[int],
        types: bytes,
        modules: Sequence[str] = (KERNEL,),
        owners: array[int] | None = None,
    ) -> None:
        self.names = names
        self.addresses = addresses
        self.types = types
        self.modules = modules
        self.owners = owners if owners is not None else array("I", bytes(4 * len(addresses)))
        if not (len(addresses) == len(types) == len(self.owners) == names.count(b"\n")):
            raise ValueError("columns of different lengths")

    def __len__(self) -> int:
        return len(self.addresses)

    # -- names ---------------------------------------------------------------------------------------------------

    @cached_property
    def _starts(self) -> array[int]:
        """Where each name begins in `names`, and the end of the last."""
        lengths = map(len, self.names.split(b"\n")[:-1])
        return array("I", accumulate((length + 1 for length in lengths), initial=0))

    def name(self, index: int) -> bytes:
        """A name as the kernel has it."""
        return self.names[self._starts[index] : self._starts[index + 1] - 1]

    def find(self, name: bytes, owner: int | None = None) -> list[int]:
        """Every symbol of a name, by address; of one module if `owner` is given. No index is made: a search is 1 ms."""
        if not name or b"\n" in name:
            return []
        found, want, position = [], name + b"\n", 0
        while (position := self.names.find(want, position)) >= 0:
            if position == 0 or self.names[position - 1] == 10:
                index = bisect_left(self._starts, position)
                if owner is None or self.owners[index] == owner:
                    found.append(index)
            position += len(want)
        return sorted(found, key=self.addresses.__getitem__)

    def value(self, name: bytes) -> int | None:
        """The address of the kernel's own symbol, the first of that name."""
        found = self.find(name, 0)
        return self.addresses[found[0]] if found else None

    def members(self, owner: int) -> array[int]:
        """The symbols of a module, by address."""
        return array("I", [index for index in self.order if self.owners[index] == owner])

    # -- what the values are ---------------------------------------------------------------------------------------

    @cached_property
    def places(self) -> bytes:
        """MEMORY, PER_CPU or ABSOLUTE for each.

        What lies between __per_cpu_start and __per_cpu_end is a template that the kernel frees, or (x86-64 up to 6.14)
        an offset from 0 on. Type A is a number, unless it lies among the addresses (`_end` of an old System.map)."""
        low, high = self.value(b"__per_cpu_start"), self.value(b"__per_cpu_end")
        first, last = (low, high) if low is not None and high is not None else (0, 0)
        bottom, top = self._bounds
        out = bytearray(len(self))
        for index, (address, type_, owner) in enumerate(zip(self.addresses, self.types, self.owners, strict=True)):
            if first <= address < last and owner == 0:
                out[index] = PER_CPU
            elif type_ in b"Aa" and (not bottom <= address <= top or self.name(index).startswith(b"__crc_")):
                out[index] = ABSOLUTE
        return bytes(out)

    @cached_property
    def _bounds(self) -> tuple[int, int]:
        """The lowest and the highest address that is certainly one."""
        low, high = (1 << 64) - 1, 0
        if b"a" not in self.types and b"A" not in self.types:
            return 0, low
        for address, type_ in zip(self.addresses, self.types, strict=True):
            if type_ not in b"Aa":
                low, high = min(low, address), max(high, address)
        return low, high

    # -- addresses ---------------------------------------------------------------------------------------------------

    @cached_property
    def order(self) -> array[int]:
        """The symbols by address; where several share one, in the order of the source."""
        return array("I", sorted(range(len(self)), key=self.addresses.__getitem__))

    @cached_property
    def _memory(self) -> tuple[array[int], array[int]]:
        """What has an address, by address: the addresses, each once, and the first symbol of each."""
        starts, first, here = array("Q"), array("I"), -1
        addresses, places = self.addresses, self.places
        for index in self.order:
            if (address := addresses[index]) != here and places[index] == MEMORY:
                starts.append(address)
                first.append(index)
                here = address
        return starts, first

    def _length(self, position: int) -> int:
        """How far it is from an address of `_memory` to the next.

        Between two modules, and between a module's text and data, nobody knows where the first ends: at the end of its
        page. The last symbol ends there too."""
        starts, first = self._memory
        start, owner = starts[position], self.owners[first[position]]
        page_end = (start // _PAGE + 1) * _PAGE
        if position + 1 == len(starts):
            return page_end - start
        end, following = starts[position + 1], first[position + 1]
        same = self.owners[following] == owner and (
            owner == 0 or (self.types[following] in b"Tt") == (self.types[first[position]] in b"Tt")
        )
        return (end if same else min(end, page_end)) - start

    @cached_property
    def sizes(self) -> array[int]:
        """The size of each symbol: how far it is to the next higher address, 0 for what has no address."""
        starts, _ = self._memory
        places, addresses = self.places, self.addresses
        out = array("Q", bytes(8 * len(self)))
        position, length = -1, 0
        for index in self.order:
            if places[index] == MEMORY:
                if position < 0 or addresses[index] != starts[position]:
                    position += 1
                    length = self._length(position)
                out[index] = length
        return out

    def at(self, address: int) -> Place | None:
        """The symbol that an address lies in: the first of those that share its address, as the kernel prints it."""
        starts, first = self._memory
        position = bisect_right(starts, address) - 1
        if position < 0:
            return None
        offset, size = address - starts[position], self._length(position)
        return Place(first[position], offset, size) if offset < size else None

    def span(self) -> tuple[int, int]:
        """The lowest and the highest address of memory; (0, 0) for none."""
        starts, _ = self._memory
        return (starts[0], starts[-1]) if starts else (0, 0)


def names_of(symbols: Symbols, indexes: Sequence[int]) -> list[bytes]:
    """The names of many symbols at once."""
    pieces = symbols.names.split(b"\n")
    if len(indexes) == len(symbols) and all(map(int.__eq__, indexes, range(len(indexes)))):
        return pieces[:-1]
    return [pieces[index] for index in islice(indexes, None)]
