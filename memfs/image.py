"""Plain records: what a memory image is, whatever it came from.

A `Segment` is what the container says, a `Region` (facts/regions.py) what we conclude; they are never mixed.
Addresses and offsets are ints in bytes; ranges are half open, [start, end). Everything here is immutable after
its construction, except the cache of an `Image`, which has a lock: any thread may use any of it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
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


class Piece(NamedTuple):
    """[offset, offset + size) of an open file, for a system call to take. `check` is called when that has the bytes:
    it raises SourceChanged if they may be others than were asked for."""

    fd: int
    offset: int
    size: int
    check: Callable[[], None] = lambda: None


class Space(Protocol):
    """An address space. Methods may be called from several threads."""

    def readinto(self, address: int, buffer: memoryview) -> int:
        """Fill `buffer` from `address` on; return how many bytes came before the first that is not there.

        Raises AbsentMemory if that is the first one, MemfsError (EIO) if reading failed."""

    def runs(self, low: int, high: int) -> Iterator[Run]:
        """The states of [low, high), in order, without holes between them: gaps are runs too. Lazy."""

    def tally(self, low: int, high: int) -> Tally | None:
        """Bytes of data, zero and absent in [low, high), or None where that would need a read."""

    def view(self, address: int, size: int) -> Piece | None:
        """Where the same bytes lie in a file, if they are one piece of it and worth the trouble; else None."""


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


class Place(NamedTuple):
    """Where a thread is, where that is known without its registers; None for what is not."""

    pc: int | None
    sp: int | None


class Access(NamedTuple):
    """What looking at a live source may cost it (-o noswapin, -o nobacking)."""

    swapin: bool = True  # pages in swap are read, which brings them back
    backing: bool = True  # pages that are not in memory are read from the mapped file


class Identity(NamedTuple):
    """Which process this is, where its source says so beside the notes of a core."""

    pid: int
    ppid: int
    comm: str
    lacks: str | None  # why it has no memory: a zombie, a kernel thread


class Task(Protocol):
    """A thread, whoever knows it. `tid` need not be unique in a damaged image."""

    @property
    def tid(self) -> int: ...

    def place(self) -> Place | None:
        """Where it is, without its registers and without stopping it; None where the registers say."""

    def text(self, name: str) -> bytes | None:
        """task/TID/NAME of a /proc; None where the source is none."""

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

    def identity(self) -> Identity | None:
        """Ids and name, where they do not stand in notes."""

    def text(self, name: str) -> bytes | None:
        """/proc/PID/NAME as the kernel prints it; None where the source is no /proc, or the process has no such thing.

        Raises MemfsError: EACCES, ESRCH where the process is gone."""

    def link(self, name: str) -> str | None:
        """Where /proc/PID/NAME leads; None as above."""

    def hold(self) -> AbstractContextManager[None]:
        """Keep the process as it is while several things are read; nothing to do for a dead one."""


class NoProcess:
    """The ProcessSource of what is no process."""

    def mappings(self) -> Sequence[Mapping]:
        return ()

    def auxv(self) -> bytes:
        return b""

    def tasks(self) -> Sequence[Task]:
        return ()

    def regset(self, owner: str, type_: int) -> bytes | None:
        return None

    def identity(self) -> Identity | None:
        return None

    def text(self, name: str) -> bytes | None:
        return None

    def link(self, name: str) -> str | None:
        return None

    def hold(self) -> AbstractContextManager[None]:
        return nullcontext()


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


class Live(Protocol):
    """A source that goes on changing."""

    def now(self) -> "Image":
        """The image as it is at this moment. Raises MemfsError (ESRCH) when it is no more."""


class Found(NamedTuple):
    """A process as a listing of its /proc finds it: nothing of it was opened."""

    pid: int
    start: int  # clock ticks since the machine started: with the pid it is an identity
    uid: int  # owner of /proc/PID/mem: who may look into it
    gid: int
    mtime_ns: int  # when it was started


class Host(Protocol):
    """A /proc: the processes of a machine or a container, as they come and go."""

    @property
    def hides(self) -> bool:
        """Whether it lists to a user no processes but their own (hidepid)."""

    def pids(self) -> list[int]:
        """Ids of all processes."""

    def find(self, pid: int) -> Found:
        """A process by its id. Raises MemfsError (ENOENT)."""

    def process(self, found: Found) -> Live:
        """That very process, to be looked into. Raises MemfsError (ESRCH) if another has its id by now."""

    def process_of(self, thread: int) -> int:
        """The process that a thread of this machine belongs to. Raises MemfsError (ENOENT)."""

    def text(self, name: str) -> bytes:
        """A file of the /proc itself. Raises MemfsError."""

    def may(self, uid: int, found: Found) -> bool:
        """Whether the kernel would let a user look into it at this moment."""


class Area(NamedTuple):
    """A part of a kernel's address space, by the name that its architecture's memory map gives it: [start, end)."""

    name: str
    start: int
    end: int
    permissions: str  # "rwx", as far as the source tells


class KernelSource(Protocol):
    """What a kernel can be asked, whoever answers: program headers and notes, /proc, page tables."""

    @property
    def physical(self) -> Space:
        """Physical memory; gaps where the source has none."""

    @property
    def physical_end(self) -> int:
        """Where the last RAM that the source knows of ends."""

    @property
    def direct_base(self) -> int | None:
        """The virtual address of physical 0 in the direct map, None where there is no such map."""

    @property
    def low(self) -> int:
        """The lowest address of the kernel's half of the address space."""

    @property
    def is_complete(self) -> bool:
        """Whether what lies between the pieces is known to be nothing, and not merely left out."""

    def vmcoreinfo(self) -> bytes:
        """The text of VMCOREINFO, empty where the source has none."""

    def areas(self) -> Sequence[Area]:
        """The areas that the source has, by address."""

    def area_space(self) -> Space:
        """The virtual address space as the files of areas show it: what is not mapped there is zero, or absent."""

    def ram(self) -> Sequence[Segment]:
        """Kernel text and RAM with their physical addresses, as a crash dump has them."""

    def page_levels(self) -> int | None:
        """Depth of the page tables."""

    def cpus(self) -> Sequence[Task]:
        """The processors whose registers were saved, in the order of the source."""

    def has(self, name: str) -> bool:
        """Whether `text` can tell."""

    def text(self, name: str) -> bytes | None:
        """/proc/NAME of this very kernel; None where it is not alive, or has no such file. Raises MemfsError."""


class Image:
    """An opened source: what it contains, and a cache for what is concluded from it.

    Of what is alive it is one moment: `now` gives the present one. Its `space` is always alive."""

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
        pinned: Callable[[int, int], Space] | None = None,
        live: Live | None = None,
        kernel: KernelSource | None = None,
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
        self.live = live
        self.kernel = kernel  # None for what is no kernel
        self.symbols: str | None = None  # the file that -o symbols= names
        self._pinned = pinned
        self.cache: dict[object, Any] = {}
        self.lock = threading.RLock()
        self.spent = 0.0  # seconds of the processor that its facts took
        self._depth = 0

    def now(self) -> "Image":
        """The same image at this moment: another one, if it is alive. Raises MemfsError (ESRCH)."""
        if self.live is None:
            return self
        now = self.live.now()
        now.symbols = self.symbols
        return now

    def pinned(self, start: int, end: int) -> Space:
        """The space, but in [start, end) bound to what is mapped there in this image: if that is replaced, its bytes
        are absent, and never those of something else."""
        return self._pinned(start, end) if self._pinned else self.space

    def conclude(self, function: "Callable[[Image], T]") -> T:
        """Work out a fact (under `lock`), and keep count of the time: of the processor's, as a busy
        machine makes nothing more costly."""
        self._depth += 1
        begin = time.thread_time()
        try:
            return function(self)
        finally:
            self._depth -= 1
            if not self._depth:
                self.spent += time.thread_time() - begin

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
                    image.cache[function] = image.conclude(function)
        value: T = image.cache[function]
        return value

    once.__doc__ = function.__doc__
    once.__name__ = function.__name__
    return once
