"""libfuse's callbacks over a tree: paths and C structures in, counts or -errno out.

What is called here, with which structures, is the high-level API of libfuse 2.9 and 3 (include/fuse.h, 3.14)."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from memfs.errors import MemfsError
from memfs.facts.naming import from_bytes, to_bytes
from memfs.fuse.filesystem import BLOCK, MODES, NAME_AT_MOST, Attr, Filesystem
from memfs.fuse.inodes import DYNAMIC, ROOT, own_number
from memfs.fuse.log import Log
from memfs.tree.node import Caller, Kind, Node, Stat, Who

CALLBACKS = (
    "getattr", "readlink", "open", "read", "release", "opendir", "readdir", "releasedir", "statfs", "getxattr",
    "listxattr", "lseek", "init",
)  # fmt: skip
"""The callbacks that a read-only filesystem has."""

_UNLISTED = 4096  # nodes that no listing shows and that keep their number
_ST = ("st_ino", "st_size", "st_blocks", "st_mode", "st_nlink", "st_uid", "st_gid", "st_rdev", "st_blksize")
_ATTR = tuple(Attr._fields.index(name[3:]) for name in _ST)


class Names:
    """Paths as libfuse brings them, turned into nodes and their numbers."""

    def __init__(self, files: Filesystem) -> None:
        self._files = files
        self._inodes = files.inodes
        self._lock = threading.Lock()
        self._unlisted: OrderedDict[int, None] = OrderedDict()

    def find(self, path: bytes, caller: Caller | None) -> tuple[int, Node]:
        """The node at a path from the root. Raises MemfsError (ENOENT, ENOTDIR; EACCES as Filesystem.check)."""
        number, node = ROOT, self._inodes.node(ROOT)
        for name in path.split(b"/"):
            if name:
                self._files.check(node, caller)
                number, node = self._inodes.lookup(number, name)
                if number >= DYNAMIC:
                    self._keep(number)
        return number, node

    def _keep(self, number: int) -> None:
        """libfuse does not say what the kernel forgets: such a node keeps its number while it is among the last."""
        with self._lock:
            known = number in self._unlisted
            self._unlisted[number] = None
            self._unlisted.move_to_end(number)
            oldest = self._unlisted.popitem(last=False)[0] if len(self._unlisted) > _UNLISTED else None
        if known:
            self._inodes.forget(number, 1)
        if oldest is not None:
            self._inodes.forget(oldest, 1)


Fill = Callable[[bytes, Any, int, bool], int]
"""Takes a name, its attributes, the offset of the next, whether the attributes are complete; 1 for "full"."""


class Calls:
    """libfuse's callbacks over a Filesystem: what they return is a count or -errno."""

    def __init__(self, files: Filesystem, ready: Callable[[], None], log: Log, trace: bool) -> None:
        self._files = files
        self._names = Names(files)
        self._ready = ready
        self._log = log
        self._trace = trace
        self._counts: Counter[str] = Counter()
        self._handles = itertools.count(1)
        self._directories: dict[int, tuple[int, int]] = {}  # number of the node, and of its listing
        self.context: Callable[[], tuple[int, int, int]] | None = None  # uid, gid, pid of who asks

    def _caller(self) -> Caller | None:
        if self.context is None or not self._files.live:
            return None
        uid, _, pid = self.context()
        return Caller(uid, pid)

    def call(self, name: str, *arguments: Any) -> int:
        """One callback; every failure is an errno for its caller."""
        self._counts[name] += 1
        if self._trace:
            self._log(f"{name} {next((os.fsdecode(a) for a in arguments if isinstance(a, bytes)), '')}")
        try:
            done: int = getattr(self, name)(*arguments)
        except MemfsError as error:
            if error.errno == errno.EIO:
                self._log(str(error))
            return -error.errno
        except OSError as error:
            self._log(f"{name}: {error}")
            return -(error.errno or errno.EIO)
        except Exception as error:  # the last line of the front: a bug must not hang its caller
            self._log(f"a bug in memfs: {name}: {error!r}")
            return -errno.EIO
        return done

    def init(self) -> int:
        self._ready()
        return 0

    def statistics(self) -> str:
        """How many calls there were, of which kinds; how many files are open."""
        kinds = ", ".join(f"{name} {count}" for name, count in self._counts.most_common())
        return f"{self._counts.total()} requests ({kinds}), {self._files.opened()} files open"

    # -- attributes ----------------------------------------------------------------------------------------------

    def getattr(self, path: bytes, buffer: Any) -> int:
        number, node = self._names.find(path, self._caller())
        ctypes.memset(buffer, 0, ctypes.sizeof(buffer.contents))
        self._fill(buffer.contents, number, node.stat(), node.who)
        return 0

    def _fill(self, stat: Any, number: int, info: Stat, who: Who | None = None) -> None:
        """Fill the binding's struct stat."""
        attr = self._files.attr(number, info, who)
        for name, index in zip(_ST, _ATTR, strict=True):
            setattr(stat, name, attr[index])
        for index, name in enumerate(("st_atimespec", "st_mtimespec", "st_ctimespec")):
            timespec = getattr(stat, name)
            timespec.tv_sec, timespec.tv_nsec = attr[3 + index], attr[6 + index]

    def readlink(self, path: bytes, buffer: Any, size: int) -> int:
        caller = self._caller()
        target = to_bytes(self._files.target(self._names.find(path, caller)[1], caller))[: size - 1] + b"\0"
        ctypes.memmove(buffer, target, len(target))
        return 0

    def statfs(self, path: bytes, buffer: Any) -> int:
        buffer.contents.f_bsize = buffer.contents.f_frsize = BLOCK
        buffer.contents.f_namemax = NAME_AT_MOST
        return 0

    # -- files ---------------------------------------------------------------------------------------------------

    def open(self, path: bytes, info: Any) -> int:
        if info.contents.flags & os.O_ACCMODE != os.O_RDONLY:
            raise MemfsError("this is read-only", errno=errno.EROFS)
        caller = self._caller()
        number, direct = self._files.open(self._names.find(path, caller)[1], caller)
        info.contents.fh = number
        info.contents.direct_io = direct
        info.contents.keep_cache = not direct
        return 0

    def read(self, path: bytes | None, buffer: Any, size: int, offset: int, info: Any) -> int:
        """Without a window on the source (see Reader.view): copying from that here could be SIGBUS."""
        handle = self._files.handle(info.contents.fh)
        size = min(size, handle.reader.size - offset)
        if size <= 0:
            return 0
        into = memoryview((ctypes.c_char * size).from_address(ctypes.addressof(buffer.contents))).cast("B")
        # The kernel names an owner of locks for direct I/O alone (fuse_send_read in fs/fuse/file.c, Linux 6.12).
        return self._files.readinto(handle, offset, into, mapped=not info.contents.lock_owner)

    def release(self, path: bytes | None, info: Any) -> int:
        self._files.release(info.contents.fh)
        return 0

    def lseek(self, path: bytes | None, offset: int, whence: int, info: Any) -> int:
        return self._files.seek(info.contents.fh, offset, whence)

    # -- extended attributes -------------------------------------------------------------------------------------

    def getxattr(self, path: bytes, name: bytes, buffer: Any, size: int) -> int:
        caller = self._caller()
        number, _ = self._names.find(path, caller)
        return _sized(to_bytes(self._files.xattr(number, from_bytes(name), caller)), buffer, size)

    def listxattr(self, path: bytes, buffer: Any, size: int) -> int:
        names = self._names.find(path, self._caller())[1].xattrs()
        return _sized(b"".join(name.encode() + b"\0" for name in names), buffer, size)

    # -- directories ---------------------------------------------------------------------------------------------

    def opendir(self, path: bytes, info: Any) -> int:
        caller = self._caller()
        number, _ = self._names.find(path, caller)
        listing = self._files.open_listing(number, caller)
        info.contents.fh = handle = next(self._handles)
        self._directories[handle] = number, listing
        return 0

    def releasedir(self, path: bytes | None, info: Any) -> int:
        _, listing = self._directories.pop(info.contents.fh, (0, 0))
        self._files.close_listing(listing)
        return 0

    def readdir(self, path: bytes, fill: Fill, stat: Any, handle: int, offset: int) -> int:
        """Hand entries from an offset on to `fill`, until it has had enough. An entry whose size is costly comes
        without attributes: whoever wants them asks."""
        if handle not in self._directories:
            raise MemfsError("not open", errno=errno.EBADF)
        for at, name, child, info in self._entries(*self._directories[handle], offset):
            full = info.size is not None and at > 2
            if full:
                self._fill(stat, child, info)
            else:
                stat.st_ino, stat.st_mode = child, MODES[info.kind]  # of which the type alone goes out
            if fill(name, stat, at, full):
                break
        return 0

    def _entries(self, number: int, listing: int, offset: int) -> Iterator[tuple[int, bytes, int, Stat]]:
        """Entries behind an offset: the offset of the next, name, number, attributes. It is 1 behind `.`, 2 behind
        `..`."""
        inodes = self._files.inodes
        directory = self._files.listing(listing, number)
        for index, (name, known) in enumerate(((b".", number), (b"..", inodes.parent(number)))):
            if offset <= index:
                yield index + 1, name, known, Stat(Kind.DIR, 0, 0)
        names = directory.names()
        wanted = range(max(0, offset - 2), len(names))
        if listing:
            for index in wanted:
                kind = Stat(directory.kind_of(index), None, 0)
                yield index + 3, to_bytes(names[index]), own_number(number, names[index]), kind
            return
        base = inodes.base(number)
        for index in wanted:
            yield index + 3, to_bytes(names[index]), base + index, directory.child(index).stat(exact=False)


def _sized(value: bytes, buffer: Any, size: int) -> int:
    """An attribute for a buffer of `size` bytes; its length alone if there is none. Raises MemfsError (ERANGE)."""
    if buffer and size:
        if len(value) > size:
            raise MemfsError("the buffer is too small", errno=errno.ERANGE)
        ctypes.memmove(buffer, value, len(value))
    return len(value)
