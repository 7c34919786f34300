"""A mount whose files a, b, ... block on a pipe, and whose file `cut` is a mapping of a file that can be cut off.

stuck.py MOUNTPOINT PIPE FILE"""

import mmap
import os
import sys
from typing import ClassVar

from memfs.fuse import daemon, mount
from memfs.fuse.filesystem import Filesystem, default_owner
from memfs.fuse.log import Log
from memfs.fuse.transport import Mounting
from memfs.tree.node import Dir, File, Generated, Kind, Reader, Stat

POINT, PIPE, FILE = sys.argv[1], int(sys.argv[2]), sys.argv[3]
SIZE = os.stat(FILE).st_size
STUCK = 24


class StuckReader(Reader):
    """Each read ends when the pipe has a byte for it."""

    size = 4096

    def readinto(self, offset: int, buffer: memoryview) -> int:
        return os.readv(PIPE, (buffer[:1],))


class StuckFile(File):
    direct = True  # type: ignore[assignment]

    def stat(self, exact: bool = True) -> Stat:
        return Stat(Kind.FILE, 4096, 4096)

    def open(self) -> Reader:
        return StuckReader()


class MappedReader(Reader):
    """A window on a mapping that nobody checks: what a source is that is cut off after it was checked."""

    size = SIZE

    def __init__(self) -> None:
        with open(FILE, "rb") as file:
            self.window = memoryview(mmap.mmap(file.fileno(), SIZE, mmap.MAP_SHARED, mmap.PROT_READ))

    def view(self, offset: int, size: int) -> memoryview:
        return self.window[offset : offset + size]


class MappedFile(File):
    def stat(self, exact: bool = True) -> Stat:
        return Stat(Kind.FILE, SIZE, SIZE)

    def open(self) -> Reader:
        return MappedReader()


class Bug(Generated):
    """A file whose reading is a bug of ours."""

    def __init__(self) -> None:
        super().__init__(lambda: b"bug" * (1 // 0))

    def stat(self, exact: bool = True) -> Stat:
        return Stat(Kind.FILE, 3, 3)


class Root(Dir):
    files: ClassVar[dict[str, File]] = {
        **{f"stuck{index}": StuckFile() for index in range(STUCK)},
        "free": Generated(lambda: b"free" * 1000),
        "cut": MappedFile(),
        "bug": Bug(),
    }

    def names(self) -> list[str]:
        return list(self.files)

    def child(self, index: int) -> File:
        return list(self.files.values())[index]

    def find(self, name: str) -> int | None:
        return self.names().index(name) if name in self.files else None


point = mount.check_point(POINT)
files = Filesystem(Root, default_owner(None, None, 0o077, 0))
sys.exit(daemon.run(Mounting(files, point, "stuck", False, False), "kernel", Log(None), True))
