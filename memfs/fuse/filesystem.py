"""What a mounted tree answers, whoever asks: attributes, open files, reads, seeks, extended attributes.

No protocol here, no threads: a transport brings numbers of nodes and takes values, from any thread."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from memfs.errors import MemfsError
from memfs.fuse.inodes import Inodes
from memfs.tree.node import Dir, File, Kind, Link, Node, Reader, Stat

MODES = {Kind.DIR: stat.S_IFDIR | 0o555, Kind.FILE: stat.S_IFREG | 0o444, Kind.LINK: stat.S_IFLNK | 0o777}
BLOCK, NAME_AT_MOST = 4096, 255
READ_AT_MOST = 256 * 4096
"""The largest read that a kernel asks for."""


class Owner(NamedTuple):
    """What every node of a mount has in common."""

    uid: int
    gid: int
    umask: int
    mtime_ns: int


class Attr(NamedTuple):
    """The attributes of a node, in the order of the kernel's struct fuse_attr."""

    ino: int
    size: int
    blocks: int
    atime: int
    mtime: int
    ctime: int
    atimensec: int
    mtimensec: int
    ctimensec: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    blksize: int
    flags: int


class Handle(NamedTuple):
    """An open file."""

    reader: Reader
    direct: bool


class Filesystem:
    """A read-only filesystem over a tree."""

    def __init__(self, root: Callable[[], Dir], owner: Owner) -> None:
        """`root` is called once, when it is first looked at."""
        self.inodes = Inodes(root)
        self._owner = owner
        self._handles: dict[int, Handle] = {}
        self._numbers = itertools.count(1)
        seconds, nanoseconds = divmod(owner.mtime_ns, 10**9)
        self._times = (seconds % (1 << 64),) * 3 + (nanoseconds,) * 3
        self._modes = {k: mode if k == Kind.LINK else mode & ~owner.umask for k, mode in MODES.items()}

    def attr(self, number: int, info: Stat) -> tuple[int, ...]:
        """The fields of Attr. A plain tuple: this is called for every name of a listing."""
        return (
            number,
            info.size or 0,
            -(-info.data // 512),
            *self._times,
            self._modes[info.kind],
            2 if info.kind == Kind.DIR else 1,
            self._owner.uid,
            self._owner.gid,
            0,
            BLOCK if info.kind == Kind.DIR else READ_AT_MOST,
            0,
        )

    def target(self, node: Node) -> str:
        """Where a link leads. Raises MemfsError (EINVAL)."""
        if not isinstance(node, Link):
            raise MemfsError("not a link", errno=errno.EINVAL)
        return node.target

    def open(self, node: Node) -> tuple[int, bool]:
        """The number of a new open file, and whether the page cache must stay out. Raises MemfsError."""
        if not isinstance(node, File):
            raise MemfsError("not a file", errno=errno.EISDIR if isinstance(node, Dir) else errno.EINVAL)
        direct = node.direct
        number = next(self._numbers)
        self._handles[number] = Handle(node.open(), direct)
        return number, direct

    def opened(self) -> int:
        """How many files are open."""
        return len(self._handles)

    def handle(self, number: int) -> Handle:
        """An open file. Raises MemfsError (EBADF)."""
        handle = self._handles.get(number)
        if handle is None:
            raise MemfsError("not open", errno=errno.EBADF)
        return handle

    def readinto(self, handle: Handle, offset: int, buffer: memoryview, mapped: bool) -> int:
        """Fill `buffer`, which must not reach beyond the end of the file.

        A short answer would cut the file off in the page cache, and fill the page with zeros: only direct I/O may have
        one. A file that is opened for it is read through the cache all the same if it is mapped; then a page that is
        not all there is an error (SIGBUS). Raises MemfsError (EIO, ENODATA)."""
        got = handle.reader.readinto(offset, buffer)
        if got < len(buffer) and not handle.direct:
            raise MemfsError(f"{got} of {len(buffer)} bytes at {offset:#x} could be read")
        if got < len(buffer) and mapped:
            raise MemfsError("a part of a mapped page is absent", errno=errno.ENODATA)
        return got

    def release(self, number: int) -> None:
        """Close an open file."""
        handle = self._handles.pop(number, None)
        if handle:
            handle.reader.close()

    def seek(self, number: int, offset: int, whence: int) -> int:
        """SEEK_DATA and SEEK_HOLE. Raises MemfsError (ENXIO, EINVAL)."""
        reader = self.handle(number).reader
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise MemfsError("no such seek", errno=errno.EINVAL)
        return (reader.next_data if whence == os.SEEK_DATA else reader.next_hole)(offset)

    def xattr(self, number: int, name: str) -> str:
        """An extended attribute. Raises MemfsError: EOPNOTSUPP for what is not user.*, as `ls -l` then asks once for
        each filesystem and not for each file; ENODATA for what a node does not have."""
        if not name.startswith("user."):
            raise MemfsError("no such attribute", errno=errno.EOPNOTSUPP)
        value = self.inodes.node(number).xattrs().get(name)
        if value is None:
            raise MemfsError("no such attribute", errno=errno.ENODATA)
        return value


def default_owner(uid: int | None, gid: int | None, umask: int, mtime_ns: int) -> Owner:
    """Who mounts owns what is mounted, unless the options say otherwise."""
    return Owner(os.getuid() if uid is None else uid, os.getgid() if gid is None else gid, umask, mtime_ns)
