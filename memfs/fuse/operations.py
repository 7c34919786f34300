"""What each FUSE request means for a tree: bytes of a request in, bytes of the answer out.

No system calls on /dev/fuse here, no threads: kernel.py brings requests and takes answers, from any thread."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import threading
from collections.abc import Callable
from typing import NamedTuple

from memfs.errors import MemfsError
from memfs.facts.naming import from_bytes, to_bytes
from memfs.fuse import protocol as p
from memfs.fuse.inodes import ROOT, Inodes
from memfs.tree.node import Dir, File, Kind, Link, Reader, Stat

_MODES = {Kind.DIR: stat.S_IFDIR | 0o555, Kind.FILE: stat.S_IFREG | 0o444, Kind.LINK: stat.S_IFLNK | 0o777}
_TYPES = {kind: mode >> 12 for kind, mode in _MODES.items()}
_NO_ENTRY = bytes(p.ENTRY_OUT.size)


class Owner(NamedTuple):
    """What every node of a mount has in common."""

    uid: int
    gid: int
    umask: int
    mtime_ns: int


class Handle(NamedTuple):
    """An open file."""

    reader: Reader
    direct: bool


class Operations:
    """A read-only filesystem over a tree."""

    def __init__(self, root: Callable[[], Dir], owner: Owner) -> None:
        """`root` is called once, when it is first looked at."""
        self._inodes = Inodes(root)
        self._owner = owner
        self._handles: dict[int, Handle] = {}
        self._numbers = itertools.count(1)
        seconds, nanoseconds = divmod(owner.mtime_ns, 10**9)
        self._times = (seconds % (1 << 64),) * 3 + (nanoseconds,) * 3
        self._modes = {k: mode if k == Kind.LINK else mode & ~owner.umask for k, mode in _MODES.items()}
        self._buffers = threading.local()
        self.table: dict[int, Callable[[int, memoryview], bytes | memoryview]] = {
            p.LOOKUP: self.lookup,
            p.GETATTR: self.getattr,
            p.READLINK: self.readlink,
            p.OPEN: self.open,
            p.READ: self.read,
            p.RELEASE: self.release,
            p.OPENDIR: self.opendir,
            p.READDIR: self.readdir,
            p.READDIRPLUS: self.readdirplus,
            p.RELEASEDIR: self.nothing,
            p.STATFS: self.statfs,
            p.GETXATTR: self.getxattr,
            p.LISTXATTR: self.listxattr,
            p.LSEEK: self.lseek,
            p.DESTROY: self.nothing,
        }

    def warm(self) -> None:
        """List the root: what that needs is then there when somebody asks."""
        with contextlib.suppress(MemfsError):  # whoever looks gets the error
            self._inodes.base(ROOT)

    # -- attributes ----------------------------------------------------------------------------------------------

    def _attr(self, number: int, info: Stat) -> tuple[int, ...]:
        """The sixteen numbers of struct fuse_attr."""
        size = info.size or 0
        blocks = -(-info.data // 512)
        return (
            number,
            size,
            blocks,
            *self._times,
            self._modes[info.kind],
            2 if info.kind == Kind.DIR else 1,
            self._owner.uid,
            self._owner.gid,
            0,
            4096 if info.kind == Kind.DIR else p.READ_AT_MOST,
            0,
        )

    def _entry(self, number: int, info: Stat) -> bytes:
        return p.ENTRY_OUT.pack(number, 0, p.FOREVER, p.FOREVER, 0, 0, *self._attr(number, info))

    def lookup(self, nodeid: int, body: memoryview) -> bytes:
        """A name is a node; ENOENT is an answer too."""
        number, node = self._inodes.lookup(nodeid, bytes(body).partition(b"\0")[0])
        try:
            return self._entry(number, node.stat())
        except BaseException:
            self._inodes.forget(number, 1)
            raise

    def getattr(self, nodeid: int, body: memoryview) -> bytes:
        info = self._inodes.node(nodeid).stat()
        return p.ATTR_OUT.pack(p.FOREVER, 0, 0, *self._attr(nodeid, info))

    def readlink(self, nodeid: int, body: memoryview) -> bytes:
        node = self._inodes.node(nodeid)
        if not isinstance(node, Link):
            raise MemfsError("not a link", errno=errno.EINVAL)
        return to_bytes(node.target)

    def forget(self, nodeid: int, body: memoryview) -> None:
        """FORGET has no answer."""
        self._inodes.forget(nodeid, p.FORGET_IN.unpack_from(body)[0])

    def batch_forget(self, nodeid: int, body: memoryview) -> None:
        """BATCH_FORGET has no answer."""
        count, _ = p.BATCH_FORGET_IN.unpack_from(body)
        room = (len(body) - p.BATCH_FORGET_IN.size) // p.FORGET_ONE.size
        for index in range(min(count, room)):
            number, references = p.FORGET_ONE.unpack_from(body, p.BATCH_FORGET_IN.size + index * p.FORGET_ONE.size)
            self._inodes.forget(number, references)

    def nothing(self, nodeid: int, body: memoryview) -> bytes:
        return b""

    def statfs(self, nodeid: int, body: memoryview) -> bytes:
        return p.STATFS_OUT.pack(0, 0, 0, 0, 0, 4096, 255, 4096, 0, bytes(24))

    # -- files ---------------------------------------------------------------------------------------------------

    def open(self, nodeid: int, body: memoryview) -> bytes:
        node = self._inodes.node(nodeid)
        if not isinstance(node, File):
            raise MemfsError("not a file", errno=errno.EISDIR if isinstance(node, Dir) else errno.EINVAL)
        direct = node.direct
        number = next(self._numbers)
        self._handles[number] = Handle(node.open(), direct)
        return p.OPEN_OUT.pack(number, (p.DIRECT_IO if direct else p.KEEP_CACHE) | p.NOFLUSH, 0)

    def _handle(self, number: int) -> Handle:
        handle = self._handles.get(number)
        if handle is None:
            raise MemfsError("not open", errno=errno.EBADF)
        return handle

    def read(self, nodeid: int, body: memoryview) -> bytes | memoryview:
        """Bytes of a file. A short answer would cut the file off in the page cache, and fill the page with zeros: only
        direct I/O may have one. A file that is opened for it is read through the cache all the same if it is mapped;
        then a page that is not all there is an error (SIGBUS)."""
        number, offset, size, flags, _, _, _ = p.READ_IN.unpack_from(body)
        reader, direct = self._handle(number)
        size = min(size, reader.size - offset, p.READ_AT_MOST)
        if size <= 0:
            return b""
        view = reader.view(offset, size)
        if view is not None:
            return view
        buffer = self._buffer()[:size]
        got = reader.readinto(offset, buffer)
        if got < size and not direct:
            raise MemfsError(f"{got} of {size} bytes at {offset:#x} could be read")
        if got < size and not flags & p.READ_LOCKOWNER:
            raise MemfsError("a part of a mapped page is absent", errno=errno.ENODATA)
        return buffer[:got]

    def _buffer(self) -> memoryview:
        """A buffer for the largest read, one for each thread."""
        try:
            buffer: memoryview = self._buffers.buffer
        except AttributeError:
            import mmap

            buffer = self._buffers.buffer = memoryview(mmap.mmap(-1, p.READ_AT_MOST))
        return buffer

    def release(self, nodeid: int, body: memoryview) -> bytes:
        handle = self._handles.pop(p.RELEASE_IN.unpack_from(body)[0], None)
        if handle:
            handle.reader.close()
        return b""

    def lseek(self, nodeid: int, body: memoryview) -> bytes:
        number, offset, whence, _ = p.LSEEK_IN.unpack_from(body)
        reader = self._handle(number).reader
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise MemfsError("no such seek", errno=errno.EINVAL)
        return p.LSEEK_OUT.pack((reader.next_data if whence == os.SEEK_DATA else reader.next_hole)(offset))

    # -- extended attributes -------------------------------------------------------------------------------------

    def getxattr(self, nodeid: int, body: memoryview) -> bytes:
        """EOPNOTSUPP for what is not user.*: `ls -l` then asks once for each filesystem, not for each file."""
        size, _ = p.GETXATTR_IN.unpack_from(body)
        name = from_bytes(bytes(body[p.GETXATTR_IN.size :]).partition(b"\0")[0])
        if not name.startswith("user."):
            raise MemfsError("no such attribute", errno=errno.EOPNOTSUPP)
        value = self._inodes.node(nodeid).xattrs().get(name)
        if value is None:
            raise MemfsError("no such attribute", errno=errno.ENODATA)
        return _sized(to_bytes(value), size)

    def listxattr(self, nodeid: int, body: memoryview) -> bytes:
        size, _ = p.GETXATTR_IN.unpack_from(body)
        return _sized(b"".join(name.encode() + b"\0" for name in self._inodes.node(nodeid).xattrs()), size)

    # -- directories ---------------------------------------------------------------------------------------------

    def opendir(self, nodeid: int, body: memoryview) -> bytes:
        self._inodes.directory(nodeid)
        return p.OPEN_OUT.pack(0, p.CACHE_DIR | p.KEEP_CACHE, 0)

    def readdir(self, nodeid: int, body: memoryview) -> bytes:
        return self._list(nodeid, body, plus=False)

    def readdirplus(self, nodeid: int, body: memoryview) -> bytes:
        return self._list(nodeid, body, plus=True)

    def _list(self, nodeid: int, body: memoryview, plus: bool) -> bytes:
        """Entries from an offset on, as many as fit. The offset of an entry is its number plus 3, behind . and .."""
        _, offset, room, _, _, _, _ = p.READ_IN.unpack_from(body)
        directory = self._inodes.directory(nodeid)
        out: list[bytes] = []
        for index, (name, number) in enumerate(((b".", nodeid), (b"..", self._inodes.parent(nodeid)))):
            if offset <= index:
                entry = p.DIRENT.pack(number, index + 1, len(name), _TYPES[Kind.DIR]) + p.padded(name)
                out.append(_NO_ENTRY + entry if plus else entry)
                room -= len(out[-1])
        names = directory.names()
        base = self._inodes.base(nodeid)
        for index in range(max(0, offset - 2), len(names)):
            entry = self._dirent(directory, index, names[index], base + index, plus)
            room -= len(entry)
            if room < 0:
                break
            out.append(entry)
        return b"".join(out)

    def _dirent(self, directory: Dir, index: int, text: str, number: int, plus: bool) -> bytes:
        """One entry; with node id 0 where its size is costly: whoever wants it looks it up."""
        node = directory.child(index)
        name = to_bytes(text)
        entry = p.DIRENT.pack(number, index + 3, len(name), _TYPES[node.kind]) + p.padded(name)
        if not plus:
            return entry
        info = node.stat(exact=False)
        return (_NO_ENTRY if info.size is None else self._entry(number, info)) + entry


def _sized(value: bytes, size: int) -> bytes:
    """A value for a buffer of `size` bytes; its length alone if that is 0. Raises MemfsError (ERANGE)."""
    if not size:
        return p.GETXATTR_OUT.pack(len(value), 0)
    if len(value) > size:
        raise MemfsError("the buffer is too small", errno=errno.ERANGE)
    return value


def default_owner(uid: int | None, gid: int | None, umask: int, mtime_ns: int) -> Owner:
    """Who mounts owns what is mounted, unless the options say otherwise."""
    return Owner(os.getuid() if uid is None else uid, os.getgid() if gid is None else gid, umask, mtime_ns)
