"""Look through everything that an image has: for cores that are damaged on purpose."""

import itertools

from memfs.errors import MemfsError
from memfs.tree.node import Dir, File, Generated, Link

ENTRIES_AT_MOST = 400


def look_through(directory: Dir) -> int:
    """List all, render every generated file, read the beginning and the end of every memory file.

    MemfsError is the only exception that may be raised, and only by a read. Returns the number of nodes."""
    count = 0
    buffer = memoryview(bytearray(4096))
    for _, node in itertools.islice(directory.entries(), ENTRIES_AT_MOST):
        count += 1
        node.xattrs()
        node.stat(exact=False)
        if isinstance(node, Dir):
            count += look_through(node)
        elif isinstance(node, Link):
            assert "\0" not in node.target or node.target
        elif isinstance(node, Generated):
            reader = node.open()
            assert reader.size == node.stat().size
        elif isinstance(node, File):
            reader = node.open()
            for offset in (0, max(0, reader.size - 10)):
                for ask in (
                    reader.readinto,
                    lambda o, _, r=reader: r.next_data(o),
                    lambda o, _, r=reader: r.next_hole(o),
                ):
                    try:
                        ask(offset, buffer)
                    except MemfsError as error:
                        assert error.errno
    return count
