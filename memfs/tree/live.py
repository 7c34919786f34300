"""Directories of what is alive: at each look they are those of the present moment.

The tables say what there is at one moment, and know nothing of time. A LiveDir looks at the same place of the table's
tree again whenever it is asked, and makes nodes live: texts are LiveTexts, memory is never cached."""

from __future__ import annotations

import errno
from collections.abc import Callable, Hashable, Iterator, Sequence

from memfs.errors import MemfsError
from memfs.image import Image
from memfs.tree import process
from memfs.tree.node import Dir, Generated, Kind, LiveText, Node, Policy, Who


class LiveDir(Dir):
    """A directory that is looked up again at each look."""

    policy = Policy.LIVE

    def __init__(self, now: Callable[[], Dir], key: Hashable = None, who: Who | None = None) -> None:
        """`now` gives the directory of this moment. Raises MemfsError where it is no more."""
        self._now = now
        self.key = key
        self.who = who

    def listing(self) -> Dir:
        return self._now()

    def names(self) -> Sequence[str]:
        return self._now().names()

    def find(self, name: str) -> int | None:
        return self._now().find(name)

    def child(self, index: int) -> Node:
        now = self._now()
        return self._live(now.names()[index], now.child(index))

    def kind_of(self, index: int) -> Kind:
        return self._now().kind_of(index)

    def lookup(self, name: str) -> Node:
        return self._live(name, self._now().lookup(name))

    def entries(self) -> Iterator[tuple[str, Node]]:
        for name, node in self._now().entries():
            try:
                live = self._live(name, node)
            except MemfsError as error:
                if error.errno not in (errno.ENOENT, errno.ESRCH):
                    raise
                continue  # it ended while others were listed
            yield name, live

    def _live(self, name: str, node: Node) -> Node:
        if isinstance(node, LiveDir):
            return node
        if isinstance(node, Dir):
            return LiveDir(lambda: self._directory(name), who=self.who)
        if isinstance(node, Generated):
            node = LiveText(lambda: self._text(name))
        node.policy = Policy.LIVE
        node.who = self.who
        return node

    def _directory(self, name: str) -> Dir:
        node = self._now().lookup(name)
        if not isinstance(node, Dir):
            raise MemfsError("not a directory any more", errno=errno.ENOTDIR, subject=name)
        return node

    def _text(self, name: str) -> bytes:
        node = self._now().lookup(name)
        if isinstance(node, Generated):
            return node.make()
        raise MemfsError("no such process", "it is another now", errno=errno.ESRCH, subject=name)


def root(image: Image, absent_as_zero: bool = False) -> Dir:
    """The root directory of a live process."""
    return LiveDir(lambda: process.root(image.now(), absent_as_zero))
