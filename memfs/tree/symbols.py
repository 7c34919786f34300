"""symbols/: the memory behind the symbols of a kernel, a directory for the kernel and for each module, and `kallsyms`.

150,000 names are columns: no symbol has an object until it is looked at, and looking one up lists nothing."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

from memfs.errors import AbsentMemory
from memfs.facts.naming import escape, fit, from_bytes, to_bytes, unique
from memfs.facts.symbols import of_image
from memfs.facts.symbols.columns import ABSOLUTE, MEMORY, PER_CPU, Symbols
from memfs.image import Image, Space, State
from memfs.tree import memory, render
from memfs.tree.node import SIZE_AT_MOST, Dir, File, Generated, Kind, Memory, Node, Reader, Sizes, Stat
from memfs.tree.rows import Context

_CHUNK = 4096
_LOOKUPS_WITHOUT_INDEX = 64
"""A search through all names is 1 ms: who looks up more than this gets an index, which takes memory."""

_SECTIONS = {"t": ".text", "r": ".rodata", "d": ".data", "b": ".bss"}
_PERMISSIONS = {"t": "r-x", "r": "r--", "d": "rw-", "b": "rw-"}
_MARKS = {PER_CPU: "percpu", ABSOLUTE: "absolute"}


class SymbolsDir(Dir):
    """A directory for the kernel and for each module that has symbols, and its table beside it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._made: _Modules | None = None

    def listing(self) -> Dir:
        """The directory of the symbols that there are now: modules of a live kernel come and go."""
        symbols = of_image.found(self._context.image).sure()
        made = self._made
        if made is None or made.symbols is not symbols:
            made = self._made = _Modules(self._context, symbols)
        return made

    def names(self) -> Sequence[str]:
        return self.listing().names()

    def find(self, name: str) -> int | None:
        return self.listing().find(name)

    def kind_of(self, index: int) -> Kind:
        return self.listing().kind_of(index)

    def child(self, index: int) -> Node:
        return self.listing().child(index)

    def lookup(self, name: str) -> Node:
        return self.listing().lookup(name)


class _Modules(Dir):
    """The same for symbols that stay what they are."""

    def __init__(self, context: Context, symbols: Symbols) -> None:
        self._context = context
        self.symbols = symbols
        self._children: dict[int, Node] = {}

    @cached_property
    def _owners(self) -> list[int]:
        return sorted(set(self.symbols.owners))

    @cached_property
    def _names(self) -> list[str]:
        modules = unique((self.symbols.modules[owner] for owner in self._owners), room=len(".json"))
        return [name for module in modules for name in (module, module + ".json")]

    def names(self) -> Sequence[str]:
        return self._names

    def find(self, name: str) -> int | None:
        return self._names.index(name) if name in self._names else None

    def kind_of(self, index: int) -> Kind:
        return Kind.FILE if index % 2 else Kind.DIR

    def child(self, index: int) -> Node:
        owner = self._owners[index // 2]
        made: Node
        if index % 2:
            made = Generated(lambda: table(self.symbols, owner))
        else:
            made = ModuleDir(self._context, self.symbols, owner)
        return self._children.setdefault(index, made)


class ModuleDir(Dir):
    """A file for each symbol of the kernel, or of one of its modules, by address."""

    def __init__(self, context: Context, symbols: Symbols, owner: int) -> None:
        self._context = context
        self._symbols = symbols
        self._owner = owner
        self._lookups = 0

    @cached_property
    def _members(self) -> array[int]:
        return self._symbols.members(self._owner)

    @cached_property
    def _names(self) -> list[str]:
        return file_names(self._symbols, self._members)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self._names)}

    def names(self) -> Sequence[str]:
        return self._names

    def kind_of(self, index: int) -> Kind:
        return Kind.FILE

    def find(self, name: str) -> int | None:
        self._lookups += 1
        if self._lookups > _LOOKUPS_WITHOUT_INDEX or "~" in name or "%" in name:
            return self._index.get(name)
        if fit(escape(name)) != name:
            return None  # no file has such a name
        found = self._symbols.find(to_bytes(name), self._owner)
        return self._members.index(found[0]) if found else None

    def child(self, index: int) -> Node:
        return node(self._context, self._symbols, self._members[index])

    @cached_property
    def _sizes(self) -> Sizes:
        symbols, members = self._symbols, self._members
        lengths = array("Q", (symbols.sizes[index] for index in members))
        return Sizes(lengths, stored(self._context.readable(self._context.image.space), symbols, members))

    def sizes(self) -> Sizes:
        return self._sizes


def node(context: Context, symbols: Symbols, index: int) -> Node:
    """The memory behind a symbol."""
    address, size = symbols.addresses[index], symbols.sizes[index]
    letter = chr(symbols.types[index])
    place = symbols.places[index]

    def xattrs() -> dict[str, str]:
        access = _PERMISSIONS.get(letter.lower()) if place == MEMORY else None
        known: dict[str, Any] = {"type": letter, "section": section(symbols, index)}
        if place == MEMORY:
            known |= {"offset": memory.source_offset(context.image.space, address, size), "origin": "image"}
        return memory.attributes(address, size, access, **known)

    if place != MEMORY:
        return NoMemory(address, xattrs)
    return Memory(context.readable(context.image.space), address, min(size, SIZE_AT_MOST), xattrs)


class NoMemory(File):
    """A symbol whose value is no address: it is listed, and reading it is ENODATA."""

    def __init__(self, value: int, xattrs: Callable[[], dict[str, str]]) -> None:
        self._value = value
        self._xattrs = xattrs

    @property
    def direct(self) -> bool:
        return True

    def stat(self, exact: bool = True) -> Stat:
        return Stat(Kind.FILE, 0, 0)

    def xattrs(self) -> dict[str, str]:
        return self._xattrs()

    def open(self) -> Reader:
        return _NoBytes(self._value)


class _NoBytes(Reader):
    """Any read is an error, so it must not look as if nothing were to be read."""

    size = 1

    def __init__(self, value: int) -> None:
        self._value = value

    def readinto(self, offset: int, buffer: memoryview) -> int:
        raise AbsentMemory(self._value, gap=True)


def file_names(symbols: Symbols, members: Sequence[int]) -> list[str]:
    """The names of files for symbols, in their order."""
    pieces = symbols.names.split(b"\n")
    return list(unique(from_bytes(pieces[index]) for index in members))


def stored(space: Space, symbols: Symbols, members: Sequence[int]) -> array[int]:
    """How many bytes of each symbol (by address) are data of the image: one walk along the space for all of them."""
    out = array("Q", bytes(8 * len(members)))
    places = [index for index in range(len(members)) if symbols.places[members[index]] == MEMORY]
    if not places:
        return out
    last = members[places[-1]]
    low, high = symbols.addresses[members[places[0]]], symbols.addresses[last] + symbols.sizes[last]
    runs = space.runs(low, high)
    run = next(runs)
    before, count = -1, 0
    for place in places:
        start, size = symbols.addresses[members[place]], symbols.sizes[members[place]]
        if start != before:  # else another name of the same bytes
            before, count, position = start, 0, start
            while position < start + size:
                while run.end <= position:
                    run = next(runs)
                end = min(run.end, start + size)
                count += end - position if run.state == State.DATA else 0
                position = end
        out[place] = count
    return out


# -- texts ---------------------------------------------------------------------------------------------------------


def section(symbols: Symbols, index: int) -> str | None:
    """Where a symbol lies, as far as its type says; `percpu` and `absolute` are no places in memory."""
    place = symbols.places[index]
    return _MARKS[place] if place != MEMORY else _SECTIONS.get(chr(symbols.types[index]).lower())


def records(symbols: Symbols, owner: int) -> Iterator[dict[str, Any]]:
    """A module's table: symbols/MODULE.json."""
    members = symbols.members(owner)
    for name, index in zip(file_names(symbols, members), members, strict=True):
        yield {
            "name": name,
            "address": hex(symbols.addresses[index]),
            "size": symbols.sizes[index],
            "type": chr(symbols.types[index]),
            "section": section(symbols, index),
            "demangled": None,
        }


def table(symbols: Symbols, owner: int) -> bytes:
    """The same as JSON. 190,000 objects are never there at the same time."""
    out = bytearray()
    for chunk in _chunks(records(symbols, owner)):
        out += (b",\n" if out else b"") + render.to_json(chunk)[2:-3]
    return b"[\n" + bytes(out) + b"\n]\n"


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk


def kallsyms(image: Image) -> bytes:
    """The symbols as /proc/kallsyms prints them (kernel/kallsyms.c, s_show), in the order of their source."""
    symbols = of_image.found(image).sure()
    line = b"%016x %c %s%s\n" if image.target.bits == 64 else b"%08x %c %s%s\n"
    marks = [b"", *(b"\t[" + to_bytes(module) + b"]" for module in symbols.modules[1:])]
    rows = zip(symbols.addresses, symbols.types, symbols.names.split(b"\n"), symbols.owners, strict=False)
    out = bytearray()
    for chunk in _chunks(rows):
        out += b"".join([line % (address, type_, name, marks[owner]) for address, type_, name, owner in chunk])
    return bytes(out)
