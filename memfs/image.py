"""Plain records: what a memory image is, whatever it came from.

A `Segment` is what the container says, a `Region` (facts/regions.py) what we conclude; they are never mixed.
Addresses and offsets are ints in bytes; ranges are half open, [start, end). Everything here is immutable after
its construction, except the cache of an `Image`, which has a lock: any thread may use any of it."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from enum import IntEnum
from typing import Any, NamedTuple, Protocol, TypeVar

T = TypeVar("T")


class State(IntEnum):
    """What is known of a byte of an address space."""

    DATA = 0  # bytes of the image
    ZERO = 1  # known to be zero without being stored
    ABSENT = 2  # belongs to the image but is not there
    GAP = 3  # nothing is mapped


class Run(NamedTuple):
    """Bytes of one state: [start, end) in the address space, at `origin` in the source where they are data."""

    start: int
    end: int
    state: State
    origin: int | None


class Tally(NamedTuple):
    """How many bytes of a range are in which state; gaps are the rest."""

    data: int
    zero: int
    absent: int


class Space(Protocol):
    """An address space. Methods may be called from several threads."""

    def readinto(self, address: int, buffer: memoryview) -> int:
        """Fill `buffer` from `address` on; return how many bytes came before the first that is not there.

        Raises AbsentMemory if that is the first one, MemfsError (EIO) if reading failed."""

    def runs(self, low: int, high: int) -> Iterator[Run]:
        """The states of [low, high), in order, without holes between them: gaps are runs too. Lazy."""

    def tally(self, low: int, high: int) -> Tally | None:
        """Bytes of data, zero and absent in [low, high), or None where that would need a read."""

    def view(self, address: int, size: int) -> memoryview | None:
        """The same bytes as a window on the source, for a system call to read (Python must never touch them:
        a source that was cut off would kill it); None where they are not one piece of it."""


class Segment(NamedTuple):
    """One entry of the container's table of contents: for ELF a program header."""

    number: int  # its index, in the order of the image
    type: int
    flags: int  # 1 execute, 2 write, 4 read
    offset: int  # in the source
    address: int
    physical: int
    file_size: int
    memory_size: int
    alignment: int


class Note(NamedTuple):
    """A note of the container; its descriptor is [offset, offset + size) of the source."""

    number: int  # its index, in the order of the image
    owner: str  # undecodable bytes as surrogates
    type: int
    offset: int
    size: int


class Mapping(NamedTuple):
    """A mapping of a process, as far as its source can tell."""

    start: int
    end: int
    permissions: str | None  # "r-xp", None where unknown
    offset: int | None  # in the mapped file
    path: str | None  # of the mapped file
    label: str | None  # "[heap]" and its like, where the source knows them
    segment: int | None  # index of the Segment it comes from


class Task(Protocol):
    """A thread, whoever knows it. `tid` need not be unique in a damaged image."""

    @property
    def tid(self) -> int: ...

    def regset(self, owner: str, type_: int) -> bytes | None:
        """The note descriptor that the kernel would write for this thread, or None."""


class ProcessSource(Protocol):
    """What a process can be asked, whoever answers: ELF notes, /proc, a kernel's task structures."""

    def mappings(self) -> Sequence[Mapping]: ...

    def auxv(self) -> bytes:
        """The auxiliary vector in target byte order, as the source has it."""

    def tasks(self) -> Sequence[Task]: ...

    def regset(self, owner: str, type_: int) -> bytes | None:
        """A note descriptor that belongs to the process and not to one thread (PRPSINFO)."""

    def hold(self) -> AbstractContextManager[None]:
        """Keep the process as it is while several things are read; nothing to do for a dead one."""


class Target(NamedTuple):
    """What the bytes of the image were made for."""

    machine: int  # e_machine
    arch: str  # tree.md's name: x86_64, i386, x32, aarch64, arm, ...
    bits: int  # 32 or 64: of addresses
    order: str  # "little" or "big", for int.from_bytes
    os: str | None  # linux, freebsd, ...

    @property
    def word(self) -> int:
        """Size of an address in bytes."""
        return self.bits // 8

    @property
    def prefix(self) -> str:
        """The byte order for struct."""
        return "<" if self.order == "little" else ">"


class Source(Protocol):
    """Where an image's bytes come from."""

    @property
    def path(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def mtime_ns(self) -> int: ...

    @property
    def is_sparse(self) -> bool:
        """Whether it has holes."""

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset`; fewer at the end. Raises SourceChanged, MemfsError (EIO)."""

    def close(self) -> None: ...


class Image:
    """An opened source: what it contains, and a cache for what is concluded from it."""

    def __init__(
        self,
        *,
        kind: str,
        format: str,
        target: Target,
        source: Source,
        space: Space,
        segments: Sequence[Segment],
        notes: Sequence[Note],
        process: ProcessSource,
        segment_space: Callable[[Segment], Space],
        container: Any = None,
        warnings: Sequence[str] = (),
    ) -> None:
        self.kind = kind  # process-core, process, kernel, kernel-core
        self.format = format
        self.target = target
        self.source = source
        self.space = space
        self.segments = segments
        self.notes = notes
        self.process = process
        self.segment_space = segment_space  # one segment's own bytes, wherever others overlap it
        self.container = container  # the backend's own record of the file: elf/header.py's Elf
        self.warnings = warnings
        self.cache: dict[object, Any] = {}
        self.lock = threading.RLock()

    def desc(self, note: Note, limit: int = 1 << 24) -> bytes:
        """A note's descriptor, at most `limit` bytes of it."""
        return self.source.read(note.offset, min(note.size, limit))

    def close(self) -> None:
        self.source.close()


def fact(function: Callable[[Image], T]) -> Callable[[Image], T]:
    """Compute once for each image, when it is first asked for; from any thread."""

    def once(image: Image) -> T:
        if function not in image.cache:
            with image.lock:
                if function not in image.cache:
                    image.cache[function] = function(image)
        value: T = image.cache[function]
        return value

    once.__doc__ = function.__doc__
    once.__name__ = function.__name__
    return once
