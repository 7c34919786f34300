"""A mount whose files stuck0, stuck1, ... block on a pipe, and whose others do not: `cut` is pieces of FILE, which
can be cut off, `plain` is FILE by direct I/O.

stuck.py mount TRANSPORT PIPE FILE MOUNTPOINT"""

import os
import sys
from typing import ClassVar

from memfs.fuse import daemon, mount
from memfs.fuse.filesystem import Filesystem, default_owner
from memfs.fuse.log import Log
from memfs.fuse.transport import Mounting
from memfs.image import Piece
from memfs.tree.node import Dir, File, Generated, Kind, Reader, Stat

TRANSPORT, PIPE, FILE, POINT = sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]
SIZE = os.stat(FILE).st_size
STUCK = 24


class StuckReader(Reader):
    """Each read ends when the pipe has a byte for it."""

    size = 4096

    def readinto(self, offset: int, buffer: memoryview) -> int:
        return os.readv(PIPE, (buffer[:1],))


class StuckFile(File):
    direct = True

    def stat(self, exact: bool = True) -> Stat:
        return Stat(Kind.FILE, 4096, 4096)

    def open(self) -> Reader:
        return StuckReader()


class PieceReader(Reader):
    """Pieces of a file that nobody checks: what a source is that is cut off after it was checked."""

    size = SIZE

    def __init__(self) -> None:
        self.fd = os.open(FILE, os.O_RDONLY)

    def view(self, offset: int, size: int) -> Piece:
        return Piece(self.fd, offset, size)

    def close(self) -> None:
        os.close(self.fd)


class PieceFile(File):
    def stat(self, exact: bool = True) -> Stat:
        return Stat(Kind.FILE, SIZE, SIZE)

    def open(self) -> Reader:
        return PieceReader()


class PlainReader(Reader):
    """The file, as far as it goes."""

    size = SIZE

    def __init__(self) -> None:
        self.fd = os.open(FILE, os.O_RDONLY)

    def readinto(self, offset: int, buffer: memoryview) -> int:
        return os.preadv(self.fd, (buffer,), offset)

    def close(self) -> None:
        os.close(self.fd)


class PlainFile(File):
    direct = True

    def stat(self, exact: bool = True) -> Stat:
        return Stat(Kind.FILE, SIZE, SIZE)

    def open(self) -> Reader:
        return PlainReader()


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
        "cut": PieceFile(),
        "plain": PlainFile(),
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
sys.exit(daemon.run(Mounting(files, point, "stuck", False, False), TRANSPORT, Log(None), True))
