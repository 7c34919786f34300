"""A tree is a table of rows; this makes directories of them.

A row is a path, what makes its node, and one line of help. In a path, `{segment}` stands for every name of a
listing: `threads/{tid}/registers` is a row for each thread. A row whose `make` returns None does not exist."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from memfs.image import Image, Space
from memfs.io.sparse import ZeroFilled
from memfs.tree.node import Dir, Node, Sizes


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


class RowDir(Dir):
    """The directory that a group of rows makes."""

    def __init__(self, context: Context, rows: Sequence[Row], listings: dict[str, Listing]) -> None:
        self._context = context
        self._listings = listings
        self._rows = rows
        self._parts: list[_Single | _Table] | None = None
        self._hidden: dict[str, Row] = {row.path: row for row in rows if not row.listed}
        self._names: list[str] | None = None

    def _made(self) -> list[_Single | _Table]:
        if self._parts is None:
            self._parts = list(self._make_parts())
        return self._parts

    def _make_parts(self) -> Iterator[_Single | _Table]:
        """Rows grouped by the first component of their paths."""
        groups: dict[str, list[Row]] = {}
        for row in self._rows:
            if row.listed:
                first, _, rest = row.path.partition("/")
                groups.setdefault(first if rest or "{" not in first else _placeholder(first), []).append(row)
        for first, rows in groups.items():
            if first.startswith("{"):
                yield _Table(self._context, first[1:-1], rows, self._listings)
                continue
            leaf = next((row for row in rows if row.path == first), None)
            below = [row._replace(path=row.path[len(first) + 1 :]) for row in rows if row is not leaf]
            if below:
                directory = RowDir(self._context, below, self._listings)
                if leaf is not None or directory.names():
                    yield _Single(first, directory)
            elif leaf is not None:
                node = RowDir(self._context, (), {}) if leaf.make is None else leaf.make(self._context)
                if node is not None:
                    yield _Single(first, node)

    def names(self) -> Sequence[str]:
        if self._names is None:
            self._names = [name for part in self._made() for name in part.names()]
        return self._names

    def child(self, index: int) -> Node:
        for part in self._made():
            if index < len(part.names()):
                return part.child(index)
            index -= len(part.names())
        raise IndexError(index)

    def find(self, name: str) -> int | None:
        base = 0
        for part in self._made():
            index = part.find(name)
            if index is not None:
                return base + index
            base += len(part.names())
        return None

    def sizes(self) -> Sizes | None:
        parts = self._made()
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
