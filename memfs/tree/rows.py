"""A tree is a table of rows; this makes directories of them.

A row is a path, what makes its node, and one line of help. In a path, `{segment}` stands for every name of a
listing: `threads/{tid}/registers` is a row for each thread. A row whose `make` returns None does not exist."""

import errno
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from memfs.errors import MemfsError, not_found
from memfs.image import Image, Space
from memfs.io.sparse import ZeroFilled
from memfs.tree.node import Dir, Kind, Node, Refused, Sizes


class Context(NamedTuple):
    """What a row is made for: an image, the options, and in a listing the record that the row shows."""

    image: Image
    absent_as_zero: bool = False
    subject: Any = None

    def readable(self, space: Space) -> Space:
        """The space as files show it: `-o absent=zero` fills what is absent."""
        return ZeroFilled(space) if self.absent_as_zero else space


Make = Callable[[Context], "Node | None"]


class Row(NamedTuple):
    """A line of a tree's table."""

    path: str
    make: Make | None  # None for a directory that the rows below it fill
    help: str
    listed: bool = True


class Listing(NamedTuple):
    """Many entries of one kind: their file names, and the records behind them, in the same order; and if the rows are
    files of memory, their sizes and how many bytes of them are data, where that is cheap."""

    names: Callable[[Image], Sequence[str]]
    subjects: Callable[[Image], Sequence[Any]]
    sizes: Callable[[Image], tuple[Sequence[int], Sequence[int]] | None] = lambda image: None
    kind: Kind = Kind.FILE  # of an entry that no rows are below


class RowDir(Dir):
    """The directory that a group of rows makes. Looking one name up makes that row alone."""

    def __init__(self, context: Context, rows: Sequence[Row], listings: dict[str, Listing]) -> None:
        self._context = context
        self._listings = listings
        self._hidden: dict[str, Row] = {row.path: row for row in rows if not row.listed}
        self._groups: dict[str, list[Row]] = {}  # by the first component of their paths
        for row in rows:
            if row.listed:
                first, _, rest = row.path.partition("/")
                self._groups.setdefault(first if rest or "{" not in first else _placeholder(first), []).append(row)
        self._made: dict[str, _Single | _Table | None] = {}
        self._names: list[str] | None = None

    def _part(self, first: str) -> "_Single | _Table | None":
        """What a group of rows makes; None where it does not exist."""
        if first not in self._made:
            rows = self._groups[first]
            table = first.startswith("{")
            self._made[first] = (
                _Table(self._context, first[1:-1], rows, self._listings) if table else self._single(first, rows)
            )
        return self._made[first]

    def _single(self, first: str, rows: Sequence[Row]) -> "_Single | None":
        leaf = next((row for row in rows if row.path == first), None)
        below = [row._replace(path=row.path[len(first) + 1 :]) for row in rows if row is not leaf]
        if below:
            directory = RowDir(self._context, below, self._listings)
            return _Single(first, directory) if leaf is not None or directory.names() else None
        if leaf is None or leaf.make is None:
            return _Single(first, RowDir(self._context, (), {}))
        try:
            node = leaf.make(self._context)
        except MemfsError as error:
            if error.errno not in (errno.EACCES, errno.EPERM):
                raise
            node = Refused(error)  # it is there; whoever opens it is told why not
        return _Single(first, node) if node is not None else None

    def _parts(self) -> "Iterator[_Single | _Table]":
        for first in self._groups:
            part = self._part(first)
            if part is not None:
                yield part

    def names(self) -> Sequence[str]:
        if self._names is None:
            self._names = [name for part in self._parts() for name in part.names()]
        return self._names

    def _place(self, index: int) -> "tuple[_Single | _Table, int]":
        for part in self._parts():
            if index < len(part.names()):
                return part, index
            index -= len(part.names())
        raise IndexError(index)

    def child(self, index: int) -> Node:
        part, place = self._place(index)
        return part.child(place)

    def kind_of(self, index: int) -> Kind:
        part, place = self._place(index)
        return part.kind_of(place)

    def find(self, name: str) -> int | None:
        base = 0
        for part in self._parts():
            index = part.find(name)
            if index is not None:
                return base + index
            base += len(part.names())
        return None

    def lookup(self, name: str) -> Node:
        for first in self._groups:
            if first == name or first.startswith("{"):
                part = self._part(first)
                index = part.find(name) if part is not None else None
                if part is not None and index is not None:
                    return part.child(index)
        node = self.unlisted(name)
        if node is None:
            raise not_found(name)
        return node

    def sizes(self) -> Sizes | None:
        parts = list(self._parts())
        return parts[0].sizes() if len(parts) == 1 and isinstance(parts[0], _Table) else None

    def unlisted(self, name: str) -> Node | None:
        row = self._hidden.get(name)
        return row.make(self._context) if row and row.make else None


class _Single:
    """One name."""

    def __init__(self, name: str, node: Node) -> None:
        self._name = name
        self._node = node

    def names(self) -> Sequence[str]:
        return (self._name,)

    def child(self, index: int) -> Node:
        return self._node

    def kind_of(self, index: int) -> Kind:
        return self._node.kind

    def find(self, name: str) -> int | None:
        return 0 if name == self._name else None


class _Table:
    """The names of a listing, each with every suffix that the rows have; nodes are made when they are asked for."""

    def __init__(self, context: Context, listing: str, rows: Sequence[Row], listings: dict[str, Listing]) -> None:
        self._context = context
        self._listing = listings[listing]
        self._listings = listings
        self._suffixes: list[str] = []
        self._below: dict[str, list[Row]] = {}
        for row in rows:
            first, _, rest = row.path.partition("/")
            suffix = first.partition("}")[2]
            if suffix not in self._below:
                self._suffixes.append(suffix)
                self._below[suffix] = []
            self._below[suffix].append(row._replace(path=rest))
        self._names: Sequence[str] | None = None
        self._index: dict[str, int] | None = None

    def names(self) -> Sequence[str]:
        if self._names is None:
            names = self._listing.names(self._context.image)
            plain = self._suffixes == [""]
            self._names = names if plain else [name + suffix for name in names for suffix in self._suffixes]
        return self._names

    def child(self, index: int) -> Node:
        subject = self._listing.subjects(self._context.image)[index // len(self._suffixes)]
        rows = self._below[self._suffixes[index % len(self._suffixes)]]
        context = self._context._replace(subject=subject)
        if rows[0].path:
            return RowDir(context, rows, self._listings)
        node = rows[0].make(context) if rows[0].make else None
        if node is None:
            raise LookupError(f"a row of a listing without a node: {rows[0]}")
        return node

    def kind_of(self, index: int) -> Kind:
        below = self._below[self._suffixes[index % len(self._suffixes)]]
        return Kind.DIR if below[0].path else self._listing.kind

    def sizes(self) -> Sizes | None:
        found = self._listing.sizes(self._context.image) if self._suffixes == [""] else None
        return Sizes(*found) if found else None

    def find(self, name: str) -> int | None:
        if self._index is None:
            self._index = {name: index for index, name in enumerate(self.names())}
        return self._index.get(name)


def _placeholder(component: str) -> str:
    """ "{note}.txt" -> "{note}"."""
    return component.partition("}")[0] + "}"
