"""Which tree shows which kind of image: a row for each kind, its module imported when such an image is looked at."""

from importlib import import_module
from typing import NamedTuple

from memfs.image import Image
from memfs.tree.node import Dir
from memfs.tree.rows import Row


class Root(NamedTuple):
    """The module whose `root(image, absent_as_zero)` gives the root directory of such an image; whether what is in it
    changes while it is looked at."""

    kind: str
    module: str
    live: bool = False


ROOTS = (
    Root("process-core", "memfs.tree.process"),
    Root("process", "memfs.tree.live", live=True),
    Root("kernel-core", "memfs.tree.kernel"),
    Root("kernel", "memfs.tree.kernel", live=True),
    Root("processes", "memfs.tree.host", live=True),
)


class Table(NamedTuple):
    """The rows of a tree, where they stand, for whoever prints them."""

    title: str
    module: str
    name: str

    def rows(self) -> tuple[Row, ...]:
        """The rows."""
        found: tuple[Row, ...] = getattr(import_module(self.module), self.name)
        return found


TABLES = (
    Table("a process image: an ELF core, or a live process", "memfs.tree.process", "PROCESS"),
    Table("a kernel image: /proc/kcore, a saved kcore, a vmcore", "memfs.tree.kernel", "KERNEL"),
    Table("a directory of processes: /proc", "memfs.tree.host", "HOST"),
)


def row(kind: str) -> Root:
    """The row of a kind of image."""
    return next(row for row in ROOTS if row.kind == kind)


def root(image: Image, absent_as_zero: bool = False) -> Dir:
    """The root directory of any image."""
    made: Dir = import_module(row(image.kind).module).root(image, absent_as_zero)
    return made
