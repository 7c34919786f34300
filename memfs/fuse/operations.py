"""What each FUSE request means for a tree: bytes of a request in, bytes of the answer out.

No system calls on /dev/fuse here, no threads: kernel.py brings requests and takes answers, from any thread."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from memfs.errors import MemfsError
from memfs.facts.naming import from_bytes, to_bytes
from memfs.fuse import protocol as p
from memfs.fuse.filesystem import BLOCK, MODES, NAME_AT_MOST, READ_AT_MOST, Filesystem
from memfs.fuse.inodes import ROOT, own_number
from memfs.image import Piece
from memfs.io.buffers import room
from memfs.tree.node import Caller, Dir, Kind, Node, Policy, Sizes, Stat

_TYPES = {kind: mode >> 12 for kind, mode in MODES.items()}
_NO_ENTRY = bytes(p.ENTRY_OUT.size)


_Chunk = tuple[int, int, int]
"""A part of a listing: the directory's number, the first entry, the room for entries in bytes."""

_LISTED = 32768
"""How much readdir(3) of the common C libraries asks for at a time."""


class _Own(threading.local):
    """What each thread has of its own: a buffer for the largest read, and who sent the request that it answers."""

    asking: tuple[int, int] | None = None  # uid and pid

    @cached_property
    def buffer(self) -> memoryview:
        return room(READ_AT_MOST)


class Operations:
    """The FUSE requests that a read-only filesystem answers."""

    def __init__(self, filesystem: Filesystem) -> None:
        self._files = filesystem
        self._inodes = filesystem.inodes
        self._own = _Own()
        self.live = filesystem.live
        self.read_at_most = filesystem.read_at_most
        self._following: _Chunk | None = None  # what a listing will ask for next
        self._prepared: tuple[_Chunk | None, list[bytes]] = None, []
        self.table: dict[int, Callable[[int, memoryview], bytes | memoryview | Piece]] = {
            p.LOOKUP: self.lookup,
            p.GETATTR: self.getattr,
            p.READLINK: self.readlink,
            p.OPEN: self.open,
            p.READ: self.read,
            p.RELEASE: self.release,
            p.OPENDIR: self.opendir,
            p.READDIR: self.readdir,
            p.READDIRPLUS: self.readdirplus,
            p.RELEASEDIR: self.releasedir,
            p.STATFS: self.statfs,
            p.GETXATTR: self.getxattr,
            p.LISTXATTR: self.listxattr,
            p.LSEEK: self.lseek,
            p.DESTROY: self.nothing,
        }

    def warm(self) -> None:
        """List the root: what that needs is then there when somebody asks. Of a live one that is the modules alone."""
        with contextlib.suppress(MemfsError):  # whoever looks gets the error
            if self.live:
                self._inodes.directory(ROOT).listing().names()
            else:
                self._inodes.base(ROOT)

    def opened(self) -> int:
        """How many files are open."""
        return self._files.opened()

    # -- attributes ----------------------------------------------------------------------------------------------

    def ask_as(self, uid: int, pid: int) -> None:
        """Who the requests of this thread come from, from now on."""
        self._own.asking = uid, pid

    @property
    def _caller(self) -> Caller | None:
        asking = self._own.asking
        return Caller(*asking) if asking else None

    def _entry(self, number: int, node: Node, info: Stat) -> bytes:
        valid = _valid(node)
        return p.ENTRY_OUT.pack(number, 0, valid, valid, 0, 0, *self._files.attr(number, info, node.who))

    def lookup(self, nodeid: int, body: memoryview) -> bytes:
        """A name is a node; ENOENT is an answer too."""
        if self.live:
            self._files.check(self._inodes.node(nodeid), self._caller)
        number, node = self._inodes.lookup(nodeid, bytes(body).partition(b"\0")[0])
        try:
            return self._entry(number, node, _at_hand(node))
        except BaseException:
            self._inodes.forget(number, 1)
            raise

    def getattr(self, nodeid: int, body: memoryview) -> bytes:
        node = self._inodes.node(nodeid)
        return p.ATTR_OUT.pack(_valid(node), 0, 0, *self._files.attr(nodeid, node.stat(), node.who))

    def readlink(self, nodeid: int, body: memoryview) -> bytes:
        return to_bytes(self._files.target(self._inodes.node(nodeid), self._caller))

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
        return p.STATFS_OUT.pack(0, 0, 0, 0, 0, BLOCK, NAME_AT_MOST, BLOCK, 0, bytes(24))

    # -- files ---------------------------------------------------------------------------------------------------

    def open(self, nodeid: int, body: memoryview) -> bytes:
        number, direct = self._files.open(self._inodes.node(nodeid), self._caller)
        return p.OPEN_OUT.pack(number, (p.DIRECT_IO if direct else p.KEEP_CACHE) | p.NOFLUSH, 0)

    def read(self, nodeid: int, body: memoryview) -> bytes | memoryview | Piece:
        """Bytes of a file, or where in the source they lie (see Filesystem.readinto)."""
        number, offset, size, flags, _, _, _ = p.READ_IN.unpack_from(body)
        handle = self._files.handle(number)
        size = min(size, handle.reader.size - offset, self.read_at_most)
        if size <= 0:
            return b""
        view = None if self.live else handle.reader.view(offset, size)  # the bytes of what lives come by no pipe
        if view is not None:
            return view
        buffer = self._own.buffer[:size]
        return buffer[: self._files.readinto(handle, offset, buffer, mapped=not flags & p.READ_LOCKOWNER)]

    def release(self, nodeid: int, body: memoryview) -> bytes:
        self._files.release(p.RELEASE_IN.unpack_from(body)[0])
        return b""

    def lseek(self, nodeid: int, body: memoryview) -> bytes:
        number, offset, whence, _ = p.LSEEK_IN.unpack_from(body)
        return p.LSEEK_OUT.pack(self._files.seek(number, offset, whence))

    # -- extended attributes -------------------------------------------------------------------------------------

    def getxattr(self, nodeid: int, body: memoryview) -> bytes:
        size, _ = p.GETXATTR_IN.unpack_from(body)
        name = from_bytes(bytes(body[p.GETXATTR_IN.size :]).partition(b"\0")[0])
        return _sized(to_bytes(self._files.xattr(nodeid, name, self._caller)), size)

    def listxattr(self, nodeid: int, body: memoryview) -> bytes:
        size, _ = p.GETXATTR_IN.unpack_from(body)
        return _sized(b"".join(name.encode() + b"\0" for name in self._inodes.node(nodeid).xattrs()), size)

    # -- directories ---------------------------------------------------------------------------------------------

    def opendir(self, nodeid: int, body: memoryview) -> bytes:
        handle = self._files.open_listing(nodeid, self._caller)
        return p.OPEN_OUT.pack(handle, 0 if handle else p.CACHE_DIR | p.KEEP_CACHE, 0)

    def releasedir(self, nodeid: int, body: memoryview) -> bytes:
        self._files.close_listing(p.RELEASE_IN.unpack_from(body)[0])
        return b""

    def readdir(self, nodeid: int, body: memoryview) -> bytes:
        return self._list(nodeid, body, plus=False)

    def readdirplus(self, nodeid: int, body: memoryview) -> bytes:
        return self._list(nodeid, body, plus=True)

    def _list(self, nodeid: int, body: memoryview, plus: bool) -> bytes:
        """Entries from an offset on, as many as fit. The offset of an entry is its number plus 3, behind . and .."""
        handle, offset, room, _, _, _, _ = p.READ_IN.unpack_from(body)
        directory = self._files.listing(handle, nodeid)
        out: list[bytes] = []
        for index, (name, number) in enumerate(((b".", nodeid), (b"..", self._inodes.parent(nodeid)))):
            if offset <= index:
                entry = p.DIRENT.pack(number, index + 1, len(name), _TYPES[Kind.DIR]) + p.padded(name)
                out.append(_NO_ENTRY + entry if plus else entry)
                room -= len(out[-1])
        first = max(0, offset - 2)
        if handle:
            return b"".join([*out, *self._live_entries(nodeid, directory, first, room, plus)])
        names = directory.names()
        base = self._inodes.base(nodeid)
        sizes = directory.sizes() if plus else None
        if sizes is not None:
            known, chunk = self._prepared
            if known != (nodeid, first, room):
                chunk = list(self._files_plus(names, sizes, base, first, room))
            following = first + len(chunk)
            self._following = (nodeid, following, _LISTED) if chunk and following < len(names) else None
            return b"".join(out + chunk)
        for index in range(first, len(names)):
            entry = self._dirent(directory, index, names[index], base + index, plus)
            room -= len(entry)
            if room < 0:
                break
            out.append(entry)
        return b"".join(out)

    def _live_entries(self, nodeid: int, directory: Dir, first: int, room: int, plus: bool) -> Iterator[bytes]:
        """Names and kinds alone: whoever wants more looks them up, as it is a moment later then."""
        names = directory.names()
        for index in range(first, len(names)):
            name = to_bytes(names[index])
            number = own_number(nodeid, names[index])
            entry = p.DIRENT.pack(number, index + 3, len(name), _TYPES[directory.kind_of(index)]) + p.padded(name)
            if plus:
                entry = _NO_ENTRY + entry
            room -= len(entry)
            if room < 0:
                return
            yield entry

    def _dirent(self, directory: Dir, index: int, text: str, number: int, plus: bool) -> bytes:
        """One entry; with node id 0 where its size is costly: whoever wants it looks it up."""
        node = directory.child(index)
        name = to_bytes(text)
        entry = p.DIRENT.pack(number, index + 3, len(name), _TYPES[node.kind]) + p.padded(name)
        if not plus:
            return entry
        info = node.stat(exact=False)
        return (_NO_ENTRY if info.size is None else self._entry(number, node, info)) + entry

    def prepare(self) -> None:
        """Make what the kernel will ask for next, while it is busy with what it has been given: it takes longer over a
        name than we do, and a listing of 150,000 goes on to its end."""
        following, self._following = self._following, None
        if following is not None:
            nodeid, first, room = following
            directory = self._inodes.directory(nodeid)
            sizes = directory.sizes()
            if sizes is not None:
                chunk = self._files_plus(directory.names(), sizes, self._inodes.base(nodeid), first, room)
                self._prepared = following, list(chunk)

    def _files_plus(self, names: Sequence[str], sizes: Sizes, base: int, first: int, room: int) -> Iterator[bytes]:
        """What _dirent gives of files whose sizes are known, as many as fit, by one call of struct for each: there are
        directories of 150,000."""
        pack, kind, forever = p.DIRENT_PLUS.pack, _TYPES[Kind.FILE], p.FOREVER
        same = self._files.attr(0, Stat(Kind.FILE, 0, 0))[3:]
        piece = slice(first, first + room // (p.DIRENT_PLUS.size + 8))
        encoded = "\0".join(names[piece]).encode("utf-8", "surrogateescape").split(b"\0") if piece.stop > first else []
        numbers = range(base + first, base + piece.stop)
        for number, name, size, data in zip(numbers, encoded, sizes.sizes[piece], sizes.data[piece], strict=False):
            length = len(name)
            entry = pack(
                number, 0, forever, forever, 0, 0, number, size, -(-data // 512), *same,
                number, number - base + 3, length, kind,
            ) + name + _PADDING[length & 7]  # fmt: skip
            room -= len(entry)
            if room < 0:
                return
            yield entry


def _at_hand(node: Node) -> Stat:
    """What a lookup says. Of what lives the kernel keeps only kind and size, and asks again for the rest when somebody
    wants it: counting what a GiB has takes 30 ms."""
    info = node.stat(exact=node.policy is Policy.STATIC)
    return node.stat() if info.size is None else info


def _valid(node: Node) -> int:
    """For how many seconds the kernel may keep what is said of a node."""
    return p.FOREVER if node.policy is Policy.STATIC else 0


_PADDING = [bytes(-length % 8) for length in range(8)]


def _sized(value: bytes, size: int) -> bytes:
    """A value for a buffer of `size` bytes; its length alone if that is 0. Raises MemfsError (ERANGE)."""
    if not size:
        return p.GETXATTR_OUT.pack(len(value), 0)
    if len(value) > size:
        raise MemfsError("the buffer is too small", errno=errno.ERANGE)
    return value
