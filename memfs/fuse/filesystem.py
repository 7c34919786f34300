"""What a mounted tree answers, whoever asks: attributes, open files, reads, seeks, extended attributes.

No protocol here, no threads: a transport brings numbers of nodes and takes values, from any thread."""

import errno
import itertools
import os
import stat
from collections.abc import Callable
from typing import NamedTuple, ParamSpec

from memfs.errors import MemfsError
from memfs.fuse.inodes import Inodes
from memfs.tree.node import Caller, Dir, File, Kind, Link, Node, Policy, Reader, Stat, Who

MODES = {Kind.DIR: stat.S_IFDIR | 0o555, Kind.FILE: stat.S_IFREG | 0o444, Kind.LINK: stat.S_IFLNK | 0o777}
BLOCK, NAME_AT_MOST = 4096, 255
READ_AT_MOST = 256 * 4096
"""The largest read that any kernel asks for (FUSE_MAX_MAX_PAGES in fs/fuse/fuse_i.h, Linux 6.12)."""


P = ParamSpec("P")


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
    """An open file, and who opened it, if that is one who may look only while the kernel would let them."""

    reader: Reader
    direct: bool
    who: Who | None = None
    uid: int = 0

    def guarded(self, look: Callable[P, int], *arguments: P.args, **named: P.kwargs) -> int:
        """Look, if that is allowed, and if it still was when it was done. Raises MemfsError (EACCES)."""
        if self.who is None:
            return look(*arguments, **named)
        _let(self.who, self.uid)
        found = look(*arguments, **named)
        _let(self.who, self.uid)
        return found


class Filesystem:
    """A read-only filesystem over a tree."""

    def __init__(self, root: Callable[[], Dir], owner: Owner, live: bool = False) -> None:
        """`root` is called once, when it is first looked at; `live` says that what is in it changes."""
        self.inodes = Inodes(root)
        self.live = live
        self.read_at_most = READ_AT_MOST  # in bytes; a transport may want fewer
        self._owner = owner
        self._handles: dict[int, Handle] = {}
        self._listings: dict[int, Dir] = {}
        self._numbers = itertools.count(1)
        self._mounter = os.getuid()
        self._times = _times(owner.mtime_ns)
        self._modes = {k: mode if k == Kind.LINK else mode & ~owner.umask for k, mode in MODES.items()}

    def attr(self, number: int, info: Stat, who: Who | None = None) -> tuple[int, ...]:
        """The fields of Attr. A plain tuple: this is called for every name of a listing."""
        return (
            number,
            info.size or 0,
            -(-info.data // 512),
            *(_times(who.mtime_ns) if who else self._times),
            self._modes[info.kind],
            2 if info.kind == Kind.DIR else 1,
            who.uid if who else self._owner.uid,
            who.gid if who else self._owner.gid,
            0,
            BLOCK if info.kind == Kind.DIR else self.read_at_most,
            0,
        )

    def check(self, node: Node, caller: Caller | None) -> None:
        """Others than who mounted see no more of a process than the kernel lets them. Raises MemfsError (EACCES)."""
        if node.who is not None and caller is not None and caller.uid != self._mounter:
            _let(node.who, caller.uid)

    def target(self, node: Node, caller: Caller | None = None) -> str:
        """Where a link leads whoever asks. Raises MemfsError (EINVAL)."""
        if not isinstance(node, Link):
            raise MemfsError("not a link", errno=errno.EINVAL)
        self.check(node, caller)
        return node.target_for(caller)

    def open(self, node: Node, caller: Caller | None = None) -> tuple[int, bool]:
        """The number of a new open file, and whether the page cache must stay out. Raises MemfsError."""
        self.check(node, caller)
        if not isinstance(node, File):
            raise MemfsError("not a file", errno=errno.EISDIR if isinstance(node, Dir) else errno.EINVAL)
        handle = Handle(node.open(), node.direct)
        if node.who is not None and caller is not None and caller.uid != self._mounter:
            handle = handle._replace(who=node.who, uid=caller.uid)
            try:
                _let(node.who, caller.uid)  # it may have become another's while it was opened
            except BaseException:
                handle.reader.close()
                raise
        number = next(self._numbers)
        self._handles[number] = handle
        return number, handle.direct

    def open_listing(self, number: int, caller: Caller | None = None) -> int:
        """The number of a listing, which stays as it is now; 0 for that of a directory which never changes."""
        node = self.inodes.directory(number)
        self.check(node, caller)
        if node.policy is Policy.STATIC:
            return 0
        listing = node.listing()
        listing.names()
        handle = next(self._numbers)
        self._listings[handle] = listing
        return handle

    def listing(self, handle: int, number: int) -> Dir:
        """What a number of open_listing stands for. Raises MemfsError (EBADF)."""
        if not handle:
            return self.inodes.directory(number)
        if handle not in self._listings:
            raise MemfsError("not open", errno=errno.EBADF)
        return self._listings[handle]

    def close_listing(self, handle: int) -> None:
        """It is not asked for any more."""
        self._listings.pop(handle, None)

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
        not all there is an error (SIGBUS). Raises MemfsError (EIO, ENODATA; EACCES where a process has become another
        user's since it was opened, by executing a setuid program)."""
        got = handle.guarded(handle.reader.readinto, offset, buffer)
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
        """SEEK_DATA and SEEK_HOLE. Raises MemfsError (ENXIO, EINVAL; EACCES as readinto)."""
        handle = self.handle(number)
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise MemfsError("no such seek", errno=errno.EINVAL)
        seek = handle.reader.next_data if whence == os.SEEK_DATA else handle.reader.next_hole
        return handle.guarded(seek, offset)

    def xattr(self, number: int, name: str, caller: Caller | None = None) -> str:
        """An extended attribute. Raises MemfsError: EOPNOTSUPP for what is not user.*, as `ls -l` then asks once for
        each filesystem and not for each file; ENODATA for what a node does not have; EACCES as check()."""
        if not name.startswith("user."):
            raise MemfsError("no such attribute", errno=errno.EOPNOTSUPP)
        node = self.inodes.node(number)
        self.check(node, caller)
        value = node.xattrs().get(name)
        if value is None:
            raise MemfsError("no such attribute", errno=errno.ENODATA)
        return value


def _let(who: Who, uid: int) -> None:
    """Raises MemfsError (EACCES) if a user may not look at what it is about."""
    if not who.may(uid):
        raise MemfsError("not allowed to look into this process", errno=errno.EACCES)


def _times(mtime_ns: int) -> tuple[int, ...]:
    """atime, mtime, ctime: seconds of each, then nanoseconds of each."""
    seconds, nanoseconds = divmod(mtime_ns, 10**9)
    return (seconds % (1 << 64),) * 3 + (nanoseconds,) * 3


def default_owner(uid: int | None, gid: int | None, umask: int, mtime_ns: int) -> Owner:
    """Who mounts owns what is mounted, unless the options say otherwise."""
    return Owner(os.getuid() if uid is None else uid, os.getgid() if gid is None else gid, umask, mtime_ns)
