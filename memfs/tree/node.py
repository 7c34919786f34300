"""Nodes: directories, files and links, as every front (FUSE, the command line, Python) sees them.

Names are str with surrogates for bytes that are no UTF-8 (os.fsencode gives the bytes). A node is immutable once
made and may be used from any thread. Failures are MemfsErrors with the errno for the kernel."""

import errno
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from enum import Enum
from typing import ClassVar, NamedTuple

from memfs.errors import MemfsError, not_found
from memfs.facts.segments import OFFSET_END
from memfs.image import Piece, Space, State
from memfs.io.cache import Cache

SIZE_AT_MOST = OFFSET_END
"""The largest size, and the end of every offset: the kernel adds to it and must stay below 2^63."""


class Kind(Enum):
    """What a node is; the value is what `ls -l` prints first."""

    DIR = "d"
    FILE = "-"
    LINK = "l"


class Policy(Enum):
    """How long what a node says stays true."""

    STATIC = 1  # for ever: the kernel may keep it
    LIVE = 2  # for this moment


class Stat(NamedTuple):
    """Sizes in bytes. `size` is None where it would have to be worked out first; `data` is what st_blocks counts."""

    kind: Kind
    size: int | None
    data: int


class Sizes(NamedTuple):
    """The sizes of files, and how many bytes of each are data (Stat's), in listing order."""

    sizes: Sequence[int]
    data: Sequence[int]


class Who(NamedTuple):
    """Whose a node is, where not everything belongs to who mounted: in a directory of processes."""

    uid: int
    gid: int
    mtime_ns: int
    may: Callable[[int], bool]  # whether a user may look into it


class Caller(NamedTuple):
    """Who asks: ids as the kernel hands them over; `pid` is of the thread, 0 where it is not known here."""

    uid: int
    pid: int


class Node:
    """What the tree is made of."""

    kind: ClassVar[Kind]
    policy: Policy = Policy.STATIC
    key: Hashable = None
    who: Who | None = None

    @property
    def pinned(self) -> bool:
        """Whether it is in use as it is, and must not be exchanged for a newer one."""
        return False

    def stat(self, exact: bool = True) -> Stat:
        """Kind and size; `exact=False` leaves out what is costly: the size is None then, or what lives has no data."""
        raise NotImplementedError

    def xattrs(self) -> dict[str, str]:
        """Extended attributes, by their full names."""
        return {}


class Dir(Node):
    """A directory. Entries have numbers from 0 on, in listing order, so that 131,070 of them need no objects."""

    kind = Kind.DIR

    def stat(self, exact: bool = True) -> Stat:
        return Stat(Kind.DIR, 0, 0)

    def listing(self) -> "Dir":
        """The directory at this moment: one whose names, numbers and children belong together."""
        return self

    def names(self) -> Sequence[str]:
        """What a listing shows, in order."""
        raise NotImplementedError

    def kind_of(self, index: int) -> Kind:
        """What names()[index] is."""
        return self.child(index).kind

    def child(self, index: int) -> Node:
        """The node of names()[index]."""
        raise NotImplementedError

    def find(self, name: str) -> int | None:
        """The number of a listed name."""
        raise NotImplementedError

    def sizes(self) -> Sizes | None:
        """Of all entries, if they are files whose sizes are known without making their nodes."""
        return None

    def unlisted(self, name: str) -> Node | None:
        """A node that exists but that no listing shows."""
        return None

    def lookup(self, name: str) -> Node:
        """A child by name. Raises MemfsError (ENOENT)."""
        index = self.find(name)
        node = self.child(index) if index is not None else self.unlisted(name)
        if node is None:
            raise not_found(name)
        return node

    def entries(self) -> Iterator[tuple[str, Node]]:
        """Names with their nodes, in listing order."""
        for index, name in enumerate(self.names()):
            yield name, self.child(index)


class Reader:
    """An open file. Any thread may read."""

    size: int

    def readinto(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset`; short before the end of the file and before the first byte that is not there.

        Raises AbsentMemory (ENODATA) if that is the first one, and MemfsError (EIO) for what fails."""
        raise NotImplementedError

    def view(self, offset: int, size: int) -> memoryview | Piece | None:
        """The same bytes without a copy, or where they lie (see Space.view); None for neither."""
        return None

    def next_data(self, offset: int) -> int:
        """SEEK_DATA: where data begins, at or behind `offset`. Raises MemfsError (ENXIO)."""
        return self._inside(offset)

    def next_hole(self, offset: int) -> int:
        """SEEK_HOLE: where data ends, at or behind `offset`. Raises MemfsError (ENXIO)."""
        self._inside(offset)
        return self.size

    def _inside(self, offset: int) -> int:
        if not 0 <= offset < self.size:
            raise MemfsError("no such offset", "it is behind the end", errno=errno.ENXIO)
        return offset

    def close(self) -> None:
        """Nothing more will be read."""


class File(Node):
    """A file with bytes."""

    kind = Kind.FILE

    @property
    def direct(self) -> bool:
        """Whether the page cache must stay out: bytes are missing, or change."""
        return False

    def open(self) -> Reader:
        raise NotImplementedError


class Link(Node):
    """A symbolic link; its text may come from an attacker and is never followed here."""

    kind = Kind.LINK

    def __init__(self, target: str) -> None:
        self.target = target

    def target_for(self, caller: Caller | None) -> str:
        """Where it leads whoever asks. Raises MemfsError (ENOENT)."""
        return self.target

    def stat(self, exact: bool = True) -> Stat:
        return Stat(Kind.LINK, len(self.target.encode("utf-8", "surrogateescape")), 0)


# -- files of bytes that are made ----------------------------------------------------------------------------------


class BytesReader(Reader):
    """A reader of bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data = memoryview(data)

    def readinto(self, offset: int, buffer: memoryview) -> int:
        piece = self._data[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)

    def view(self, offset: int, size: int) -> memoryview | Piece | None:
        return self._data[offset : offset + size]


_rendered = Cache()


class Generated(File):
    """A file whose bytes are made when it is looked at, of what never changes; its size is known once it was."""

    def __init__(self, make: Callable[[], bytes]) -> None:
        self.make = make
        self._size: int | None = None

    def _bytes(self) -> bytes:
        data = _rendered.get(self, self.make)
        self._size = len(data)
        return data

    def stat(self, exact: bool = True) -> Stat:
        if self._size is None and exact:
            self._bytes()
        return Stat(Kind.FILE, self._size, self._size or 0)

    def open(self) -> Reader:
        return BytesReader(self._bytes())


class LiveText(File):
    """A text about what changes. It is made at the first open, and stays what it is until the last close: readers
    that come in between see the same. It has no size before, as the files of /proc have none."""

    policy = Policy.LIVE

    def __init__(self, make: Callable[[], bytes]) -> None:
        """`make` gives the text as it is at this moment."""
        self._make = make
        self._lock = threading.Lock()
        self._data = b""
        self._readers = 0

    @property
    def pinned(self) -> bool:
        return self._readers > 0

    @property
    def direct(self) -> bool:
        return True

    def stat(self, exact: bool = True) -> Stat:
        size = len(self._data) if self._readers else 0
        return Stat(Kind.FILE, size, size)

    def open(self) -> Reader:
        with self._lock:
            if not self._readers:
                self._data = self._make()
            self._readers += 1
            return _TextReader(self._data, self._closed)

    def _closed(self) -> None:
        with self._lock:
            self._readers -= 1
            if not self._readers:
                self._data = b""


class _TextReader(BytesReader):
    """A reader that says when it is done."""

    def __init__(self, data: bytes, closed: Callable[[], None]) -> None:
        super().__init__(data)
        self._closed = closed

    def close(self) -> None:
        self._closed()
        self._closed = lambda: None


class Refused(File):
    """A file that may not be looked into, and says why when it is opened."""

    policy = Policy.LIVE

    def __init__(self, error: MemfsError) -> None:
        self._error = error

    def stat(self, exact: bool = True) -> Stat:
        return Stat(Kind.FILE, 0, 0)

    def open(self) -> Reader:
        why = self._error
        raise MemfsError(why.what, why.why, why.hint, why.errno, why.subject)


class RefusedLink(Link):
    """A link that may not be read, and says why when it is."""

    policy = Policy.LIVE

    def __init__(self, error: MemfsError) -> None:
        super().__init__("")
        self._error = error

    def target_for(self, caller: Caller | None) -> str:
        why = self._error
        raise MemfsError(why.what, why.why, why.hint, why.errno, why.subject)


# -- files that are memory -----------------------------------------------------------------------------------------


class MemoryReader(Reader):
    """A reader of [base, base + size) of a Space."""

    def __init__(self, space: Space, base: int, size: int) -> None:
        self.size = size
        self.space = space
        self.base = base

    def readinto(self, offset: int, buffer: memoryview) -> int:
        room = self.size - offset
        if room <= 0 or not len(buffer):
            return 0
        return self.space.readinto(self.base + offset, buffer[:room])

    def view(self, offset: int, size: int) -> memoryview | Piece | None:
        return self.space.view(self.base + offset, size)

    def next_data(self, offset: int) -> int:
        self._inside(offset)
        for run in self.space.runs(self.base + offset, self.base + self.size):
            if run.state == State.DATA:
                return run.start - self.base
        raise MemfsError("no data", "nothing but holes follows", errno=errno.ENXIO)

    def next_hole(self, offset: int) -> int:
        self._inside(offset)
        for run in self.space.runs(self.base + offset, self.base + self.size):
            if run.state != State.DATA:
                return run.start - self.base
        return self.size


class Memory(File):
    """A file that is [base, base + size) of a Space."""

    def __init__(
        self, space: Space, base: int, size: int, xattrs: Callable[[], dict[str, str]], key: Hashable = None
    ) -> None:
        self.space = space
        self.base = base
        self.size = min(size, SIZE_AT_MOST)
        self.key = key
        self._xattrs = xattrs

    def stat(self, exact: bool = True) -> Stat:
        if not exact and self.policy is Policy.LIVE:  # it is counted anew each time
            return Stat(Kind.FILE, self.size, 0)
        tally = self.space.tally(self.base, self.base + self.size)
        return Stat(Kind.FILE, self.size, tally.data if tally else 0)

    @property
    def direct(self) -> bool:
        if self.policy is Policy.LIVE:
            return True
        tally = self.space.tally(self.base, self.base + self.size)
        return tally is None or tally.data + tally.zero < self.size

    def xattrs(self) -> dict[str, str]:
        return self._xattrs()

    def open(self) -> Reader:
        return MemoryReader(self.space, self.base, self.size)


class AddressSpace(Memory):
    """A file whose offsets are addresses: like /proc/PID/mem it has no size, and gaps."""

    def stat(self, exact: bool = True) -> Stat:
        if not exact:
            return Stat(Kind.FILE, 0 if self.policy is Policy.LIVE else None, 0)
        try:
            return Stat(Kind.FILE, 0, super().stat().data)
        except MemfsError as error:
            if error.errno not in (errno.EACCES, errno.EPERM):
                raise
            return Stat(Kind.FILE, 0, 0)  # that it is there may be seen, as /proc/PID/mem may

    @property
    def direct(self) -> bool:
        return True
