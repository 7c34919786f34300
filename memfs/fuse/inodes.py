"""Node numbers: which number stands for which node, without an object for each of 131,070 entries.

A static directory gets a range of numbers when it is first looked into, and its children are counted through: such
a number can be turned into its node at any time, so nothing is kept for it but what was lately used. A node that no
listing shows (at/...) gets a number of its own, and keeps it until the kernel forgets it."""

from __future__ import annotations

import errno
import threading
from bisect import bisect_right
from collections.abc import Callable, Hashable

from memfs.errors import MemfsError
from memfs.facts.naming import from_bytes
from memfs.tree.node import Dir, Node

ROOT = 1
DYNAMIC = 1 << 62
"""Numbers from here on are of nodes that no listing shows."""


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
        self._dynamic: dict[int, tuple[Node, Hashable, int]] = {}  # number: node, key, references of the kernel
        self._by_key: dict[Hashable, int] = {}
        self._next_dynamic = DYNAMIC

    def node(self, number: int) -> Node:
        """The node with a number. Raises MemfsError (ESTALE)."""
        node = self._nodes.get(number)
        if node is not None:
            return node
        if number == ROOT:
            return self._nodes.setdefault(ROOT, self._root())
        if number >= DYNAMIC:
            with self._lock:
                if number in self._dynamic:
                    return self._dynamic[number][0]
        else:
            index = bisect_right(self._bases, number) - 1
            if index >= 0:
                owner = self.directory(self._owners[index])
                place = number - self._bases[index]
                if place < len(owner.names()):
                    return self._nodes.setdefault(number, owner.child(place))
        raise MemfsError("no such node", errno=errno.ESTALE)

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
        index = bisect_right(self._bases, number) - 1
        return self._owners[index] if ROOT < number < DYNAMIC and index >= 0 else ROOT

    def lookup(self, parent: int, name: bytes) -> tuple[int, Node]:
        """A child by name, and its number. Raises MemfsError (ENOENT)."""
        directory = self.directory(parent)
        text = from_bytes(name)
        index = directory.find(text)
        if index is not None:
            number = self.base(parent) + index
            return number, self.node(number)
        node = directory.lookup(text)
        key = (parent, node.key if node.key is not None else text)
        with self._lock:
            number = self._by_key.get(key, 0)
            if not number:
                number = self._next_dynamic
                self._next_dynamic += 1
                self._by_key[key] = number
                self._dynamic[number] = (node, key, 0)
            known, _, count = self._dynamic[number]
            self._dynamic[number] = (known, key, count + 1)
        return number, known

    def forget(self, number: int, count: int) -> None:
        """The kernel dropped `count` references."""
        if number < DYNAMIC:
            if number != ROOT and number not in self._base_of:
                self._nodes.pop(number, None)
            return
        with self._lock:
            if number in self._dynamic:
                node, key, held = self._dynamic[number]
                if held > count:
                    self._dynamic[number] = (node, key, held - count)
                else:
                    del self._dynamic[number], self._by_key[key]
