"""Look through everything that an image has: for cores that are damaged on purpose."""

import itertools
import json
from collections.abc import Callable, Sequence

from memfs.errors import MemfsError
from memfs.tree.node import Dir, File, Generated, Link, Node, Policy, Reader

ENTRIES_AT_MOST = 400
_BLOCK = 4096


def look_through(directory: Dir, entries: int | None = ENTRIES_AT_MOST) -> int:
    """List all, render every generated file, read the beginning and the end of every memory file.

    MemfsError is the only exception that may be raised, and only by a read. `entries` is for directories of
    20,000, None looks at every one. Returns the number of nodes."""
    count = 0
    _names_are_sound(directory.names())
    sizes = directory.sizes()
    for index, (name, node) in enumerate(itertools.islice(directory.entries(), entries)):
        count += 1
        moves = directory.policy is Policy.LIVE  # it may be another by now
        assert index >= ENTRIES_AT_MOST or moves or directory.find(name) == index
        assert all("\0" not in value for value in node.xattrs().values())
        info = node.stat(exact=False)
        assert sizes is None or (info.size, info.data) == (sizes.sizes[index], sizes.data[index])
        if isinstance(node, Dir):
            count += look_through(node, entries)
        else:
            next(look for kind, look in _LOOKS if isinstance(node, kind))(name, node)
    return count


def _names_are_sound(names: Sequence[str]) -> None:
    """What readdir(3) may give: no name leads out of the directory, none is there twice."""
    assert len(set(names)) == len(names)
    for name in names:
        assert name not in ("", ".", "..")
        assert "/" not in name
        assert "\0" not in name
        assert len(name.encode("utf-8", "surrogateescape")) <= 255


def _look_at_link(name: str, node: Node) -> None:
    assert isinstance(node, Link)
    assert "\0" not in node.target
    assert 0 < len(node.target.encode("utf-8", "surrogateescape")) < 4096, "readlink(2) must be able to give it"


def _look_at_text(name: str, node: Node) -> None:
    assert isinstance(node, Generated)
    reader = node.open()
    assert reader.size == node.stat().size
    data = bytearray(reader.size)
    assert reader.readinto(0, memoryview(data)) == reader.size
    if name.endswith(".json"):
        json.loads(data)


def _look_at_memory(name: str, node: Node) -> None:
    assert isinstance(node, File)
    reader = node.open()
    buffer = memoryview(bytearray(_BLOCK))
    for offset, ask in itertools.product((0, max(0, reader.size - 10)), _QUESTIONS):
        try:
            ask(reader, offset, buffer)
        except MemfsError as error:
            assert error.errno


_QUESTIONS: tuple[Callable[[Reader, int, memoryview], int], ...] = (
    lambda reader, offset, buffer: reader.readinto(offset, buffer),
    lambda reader, offset, buffer: reader.next_data(offset),
    lambda reader, offset, buffer: reader.next_hole(offset),
)
_LOOKS: tuple[tuple[type[Node], Callable[[str, Node], None]], ...] = (
    (Link, _look_at_link),
    (Generated, _look_at_text),
    (File, _look_at_memory),
)
