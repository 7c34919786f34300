"""Node numbers: which number stands for which node, without an object for each of 131,070 entries.

A static directory gets a range of numbers when it is first looked into, and its children are counted through: such
a number can be turned into its node at any time, so nothing is kept for it but what was lately used. A node that no
listing shows (at/...), or that is in a directory which changes, gets a number of its own, made of its directory's and
its key, and keeps it until the kernel forgets it."""

import errno
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple

from memfs.errors import MemfsError, not_found
from memfs.facts.naming import from_bytes
from memfs.tree.node import Dir, Node, Policy

ROOT = 1
DYNAMIC = 1 << 62
"""Numbers from here on are of nodes that no listing shows, or no listing for long."""


_KEPT = 128
"""Files of directories that change are made again when they are asked for, but for so many: the kernel refers to what
was looked up long ago, and each may hold a descriptor of its process."""


class _Held(NamedTuple):
    """A node with a number of its own; the kernel has `references` to it. None is a node that is made when needed."""

    node: Node | None
    parent: int
    name: str
    references: int


def own_number(parent: int, key: Hashable) -> int:
    """The number of a node in a directory that changes: the same whenever it is asked for, as listings show it, too.

    Python's hash of a string is keyed at random, so that nobody can choose names for one number; hashlib would load
    OpenSSL, which is a part of the time that a mount takes to come up."""
    return DYNAMIC | hash(repr((parent, key))) & (DYNAMIC - 1)


class Inodes:
    """Numbers of nodes, thread-safe. The root is 1."""

    def __init__(self, root: Callable[[], Dir]) -> None:
        self._lock = threading.Lock()
        self._root = root
        self._nodes: dict[int, Node] = {}
        self._bases: list[int] = []  # first number of each range, ascending
        self._owners: list[int] = []  # the directory that each range belongs to
        self._base_of: dict[int, int] = {}
        self._next = ROOT + 1
        self._dynamic: dict[int, _Held] = {}
        self._kept: OrderedDict[int, None] = OrderedDict()  # files of live directories that are not None above

    def node(self, number: int) -> Node:
        """The node with a number. Raises MemfsError (ESTALE)."""
        node = self._nodes.get(number)
        if node is not None:
            return node
        if number == ROOT:
            return self._nodes.setdefault(ROOT, self._root())
        if number >= DYNAMIC:
            with self._lock:
                held = self._dynamic.get(number)
            if held is not None:
                return held.node or self._again(number, held)
        else:
            index = bisect_right(self._bases, number) - 1
            if index >= 0:
                owner = self.directory(self._owners[index])
                place = number - self._bases[index]
                if place < len(owner.names()):
                    return self._nodes.setdefault(number, owner.child(place))
        raise MemfsError("no such node", errno=errno.ESTALE)

    def _again(self, number: int, held: _Held) -> Node:
        """Make a node that was not kept. Raises MemfsError (ESTALE if it is another, or no more)."""
        try:
            node = self.directory(held.parent).lookup(held.name)
        except MemfsError as error:
            if error.errno not in (errno.ENOENT, errno.ESRCH):
                raise
            raise MemfsError("no such node any more", errno=errno.ESTALE) from error
        if own_number(held.parent, node.key if node.key is not None else held.name) != number:
            raise MemfsError("it is another node now", errno=errno.ESTALE)
        with self._lock:
            now = self._dynamic.get(number, held)
            if now.node is None:
                self._dynamic[number] = now._replace(node=node)
                self._keep(number, node)
            return now.node or node

    def _keep(self, number: int, node: Node) -> None:
        """Under the lock: a file of a live directory is held. The oldest that are not pinned are let go."""
        if isinstance(node, Dir):
            return
        self._kept[number] = None
        self._kept.move_to_end(number)
        for oldest in list(self._kept)[: max(0, len(self._kept) - _KEPT)]:
            held = self._dynamic.get(oldest)
            if held is None or held.node is None or not held.node.pinned:
                del self._kept[oldest]
                if held is not None:
                    self._dynamic[oldest] = held._replace(node=None)

    def directory(self, number: int) -> Dir:
        """The directory with a number. Raises MemfsError (ESTALE, ENOTDIR)."""
        node = self.node(number)
        if not isinstance(node, Dir):
            raise MemfsError("not a directory", errno=errno.ENOTDIR)
        return node

    def base(self, number: int) -> int:
        """The number of a directory's first child; the others follow."""
        if number not in self._base_of:
            count = len(self.directory(number).names())
            with self._lock:
                if number not in self._base_of:
                    self._bases.append(self._next)
                    self._owners.append(number)
                    self._base_of[number] = self._next
                    self._next += count
        return self._base_of[number]

    def parent(self, number: int) -> int:
        """The directory that a directory is in."""
        if number >= DYNAMIC:
            with self._lock:
                held = self._dynamic.get(number)
            return held.parent if held else ROOT
        index = bisect_right(self._bases, number) - 1
        return self._owners[index] if number > ROOT and index >= 0 else ROOT

    def lookup(self, parent: int, name: bytes) -> tuple[int, Node]:
        """A child by name, and its number. Raises MemfsError (ENOENT)."""
        directory = self.directory(parent)
        text = from_bytes(name)
        if directory.policy is Policy.STATIC:
            index = directory.find(text)
            if index is not None:
                number = self.base(parent) + index
                return number, self.node(number)
        try:
            node = directory.lookup(text)
        except MemfsError as error:
            if error.errno != errno.ESRCH:
                raise
            raise not_found(text) from error  # its process is gone, and so is the name
        number = own_number(parent, node.key if node.key is not None else text)
        with self._lock:
            held = self._dynamic.get(number)
            if held is not None and held.node is not None and (directory.policy is Policy.STATIC or held.node.pinned):
                node = held.node
            self._dynamic[number] = _Held(node, parent, text, held.references + 1 if held else 1)
            if directory.policy is not Policy.STATIC:
                self._keep(number, node)
        return number, node

    def forget(self, number: int, count: int) -> None:
        """The kernel dropped `count` references."""
        if number < DYNAMIC:
            if number != ROOT and number not in self._base_of:
                self._nodes.pop(number, None)
            return
        with self._lock:
            held = self._dynamic.get(number)
            if held is not None:
                if held.references > count:
                    self._dynamic[number] = held._replace(references=held.references - count)
                else:
                    del self._dynamic[number]
                    self._kept.pop(number, None)
