"""A live process, through its directory in a /proc: looked at without being touched (io/process.py).

A Process can be looked at again and again; each look is an Image of one moment. Who it is: the descriptor of its
directory, which is bound to (pid, start time)."""

from __future__ import annotations

import errno
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import TypeVar, overload

from memfs import arch
from memfs.backends import refusal
from memfs.elf import header, names
from memfs.errors import MemfsError, from_os_error
from memfs.image import Access, Identity, Image, Mapping, Place, Segment, Space, Target, Task
from memfs.io import procfs
from memfs.io.empty import EmptySpace
from memfs.io.maps import Area, Areas
from memfs.io.process import LiveSpace
from memfs.io.target import incarnation

T = TypeVar("T")

_REUSED = 5.0
"""A look at a process is good for so many times as long as it took: what takes a second (60,000 mappings) is not done
again for each of its names."""

_REFUSED = (errno.EACCES, errno.EPERM)

_FLAGS = ((0, "r", 4), (1, "w", 2), (2, "x", 1))

_OF_MEMORY = frozenset(("auxv", "cmdline", "environ", "exe", "maps", "smaps", "statm"))
"""Files that the kernel makes of an address space: of a thread that has ended they are empty."""


def open_image(directory: int, path: str, access: Access) -> Image:
    """The Image of the process whose /proc directory is open as `directory`, which this takes over.

    Raises MemfsError if it may not be looked into, or is gone."""
    process = Process(directory, path, access)
    process.check()
    return process.now()


class _Memory:
    """An address space, by the /proc directory of a thread that has it."""

    def __init__(self, tid: int, directory: int, access: Access) -> None:
        """Takes the descriptor over, and closes it when nothing uses it any more."""
        self.tid = tid
        self.directory = directory
        self.space = LiveSpace(directory, swapin=access.swapin, backing=access.backing)
        weakref.finalize(self.space, os.close, directory)  # readers may outlive whoever forgets the process

    def program(self) -> bytes:
        """What changes with each exec; nothing where it may not be looked at."""
        try:
            return incarnation(self.directory)
        except OSError:
            return b""


class Process:
    """A process. Any thread may look at it."""

    def __init__(self, directory: int, path: str, access: Access) -> None:
        """`directory` is a descriptor of its directory in a /proc (O_PATH), closed when nothing uses it any more."""
        self.path = path
        self._directory = directory
        self._access = access
        self._own = _Memory(0, directory, access)
        self._shared: _Memory | None = None  # of a thread that outlives the first one
        first = self.stat()
        self.pid, self.start = first.pid, first.start
        self.mtime_ns = started_ns(first.start)
        self.places: dict[int, Place] = {}  # of threads that were seen blocked: a running one shows none
        self._lock = threading.Lock()
        self._image: Image | None = None
        self._program = b""  # that the image is of
        self._until = 0.0

    # -- looking -------------------------------------------------------------------------------------------------

    def now(self) -> Image:
        """The process at this moment, or a moment ago if looking at it takes long."""
        stat = self.stat()
        with self._lock:
            memory = self._memory(stat)
            program = memory.program() if memory else b""
            image = self._image
            old = time.monotonic() - self._until > _REUSED * image.spent if image else True
            if image is None or old or image.container is not memory or program != self._program:
                self._until = time.monotonic()
                self._program = program
                self._image = image = self._look(stat, memory)
            return image

    def _look(self, stat: procfs.Stat, memory: _Memory | None) -> Image:
        target = self._target(memory)
        moment = Moment(self, stat, memory, target.word)
        return Image(
            kind="process",
            format="live process",
            target=target,
            source=self,
            space=memory.space if memory else EmptySpace(),
            segments=_Segments(moment),
            notes=(),
            process=moment,
            segment_space=lambda segment: moment.pinned(segment.address, segment.address + segment.memory_size),
            container=memory,
            warnings=_warnings(memory),
            pinned=moment.pinned,
            live=self,
        )

    def _memory(self, stat: procfs.Stat) -> _Memory | None:
        """Where its address space is seen: in the directory of its first thread, or when that has ended, of one that
        lives; None if it has none."""
        if stat.lacks is None:
            return self._own
        if stat.flags & procfs.PF_KTHREAD:
            return None
        if self._shared is None or not _lives(self._shared.directory):
            tids = (tid for tid in self.tids() if tid != self.pid)
            self._shared = next(filter(None, map(self._memory_of, tids)), None)
        return self._shared

    def _memory_of(self, tid: int) -> _Memory | None:
        """The address space by way of another thread. task/TID has no map_files; the hidden /proc/TID has."""
        for name in (f"../{tid}", f"task/{tid}"):
            try:
                fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._directory)
            except OSError:
                continue
            if _lives(fd) and procfs.status_field(procfs.read("status", fd), "Tgid") == [str(self.pid)]:
                return _Memory(tid, fd, self._access)
            os.close(fd)
        return None

    def check(self) -> None:
        """Raises MemfsError if its memory may not be looked at. It is not opened by that."""
        if self.stat().lacks is None:
            try:
                os.close(os.open("mem", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory))
            except OSError as error:
                if error.errno in _REFUSED or self.stat().lacks is None:
                    raise self.error(error) from error

    def _target(self, memory: _Memory | None) -> Target:
        """What its executable was made for; like memfs itself where that cannot be seen."""
        there = _target_of("exe", memory.directory) if memory and self._access.backing else None
        return (
            there
            or _target_of(f"{procfs.PROC_ROOT}/self/exe")
            or Target(names.EM_X86_64, "x86_64", 64, "little", "linux")
        )

    # -- its files -----------------------------------------------------------------------------------------------

    def stat(self) -> procfs.Stat:
        """Its line in /proc. Raises MemfsError (ESRCH) when it is gone."""
        try:
            stat = procfs.parse_stat(procfs.read("stat", self._directory))
        except OSError as error:
            raise self.gone() from error
        if stat is None:
            raise MemfsError("its stat file says nothing", "is this a process?", subject=self.path)
        return stat

    def text(self, name: str, directory: int | None = None) -> bytes | None:
        """A file of it; None if it has no such thing. Raises MemfsError (ESRCH, EACCES)."""
        fd = self._directory if directory is None else directory
        return self._attempt(lambda: procfs.read(name, fd))

    def link(self, name: str, directory: int | None = None) -> str | None:
        """Where a link of it leads, None if it has no such thing. Raises MemfsError (ESRCH, EACCES)."""
        fd = self._directory if directory is None else directory
        raw = self._attempt(lambda: os.readlink(name.encode(), dir_fd=fd))
        return raw.decode("utf-8", "surrogateescape") if raw is not None else None

    def tids(self) -> list[int]:
        """Its threads, the first one first."""
        listed = self._attempt(self._list_tasks) or []
        return sorted((int(name) for name in listed if name.isdigit()), key=lambda tid: (tid != self.pid, tid))

    def _list_tasks(self) -> list[str]:
        fd = os.open("task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._directory)
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def _attempt(self, look: Callable[[], T]) -> T | None:
        try:
            return look()
        except OSError as error:
            if error.errno in (errno.ESRCH, errno.ENOENT):
                self.stat()  # raises if it is the whole process that is gone
                return None
            raise self.error(error) from error

    def error(self, error: OSError) -> MemfsError:
        """A system call's failure, with what stands in the way."""
        return self.gone() if error.errno == errno.ESRCH else self.explained(from_os_error(self.path, error))

    def explained(self, error: MemfsError) -> MemfsError:
        """A refusal with its reason; any other error as it is."""
        if error.errno not in _REFUSED:
            return error
        found = refusal.explain(refusal.situation(self.pid, error.errno, self._directory))
        found.subject = self.path
        return found

    def gone(self) -> MemfsError:
        """What there is to say when it has ended."""
        return MemfsError("no such process", "it has ended", errno=errno.ESRCH, subject=self.path)

    # -- as the source of an image -------------------------------------------------------------------------------

    size = 0
    is_sparse = False

    def read(self, offset: int, size: int) -> bytes:
        """A process has no file: nothing."""
        return b""

    def close(self) -> None:
        """Descriptors go with the last reader."""


class Moment:
    """A process as it is at one moment: a ProcessSource. What is asked for is read once."""

    def __init__(self, process: Process, stat: procfs.Stat, memory: _Memory | None, word: int) -> None:
        """`word` is the size of an address in bytes."""
        self._process = process
        self._stat = stat
        self._memory = memory
        self._word = word

    @cached_property
    def areas(self) -> Areas:
        """Its mappings; none for what has no memory."""
        try:
            return self._memory.space.areas() if self._memory else Areas()
        except MemfsError as error:
            raise self._process.explained(error) from error

    def pinned(self, start: int, end: int) -> Space:
        """[start, end), bound to the mappings of this moment."""
        if self._memory is None:
            return EmptySpace()
        return self._memory.space.pinned(self.areas.within(start, end))

    def mappings(self) -> Sequence[Mapping]:
        return [_mapping(index, area) for index, area in enumerate(self.areas)]

    def auxv(self) -> bytes:
        """Up to AT_NULL: a 32-bit process has more behind it."""
        raw = self.text("auxv") or b""
        pair = 2 * self._word
        ends = (at + pair for at in range(0, len(raw) - pair + 1, pair) if not any(raw[at : at + pair // 2]))
        return raw[: next(ends, len(raw))]

    def tasks(self) -> Sequence[Task]:
        tids = self._process.tids()
        places = self._process.places
        for tid in [tid for tid in places if tid not in set(tids)]:
            places.pop(tid, None)
        return [LiveTask(self._process, tid) for tid in tids]

    def regset(self, owner: str, type_: int) -> bytes | None:
        return None

    def identity(self) -> Identity:
        lacks = self._stat.lacks if self._memory is None else None
        return Identity(self._stat.pid, self._stat.ppid, self._stat.comm, lacks)

    def text(self, name: str) -> bytes | None:
        return self._process.text(name, self._where(name))

    def link(self, name: str) -> str | None:
        return self._process.link(name, self._where(name))

    def _where(self, name: str) -> int | None:
        return self._memory.directory if self._memory and name in _OF_MEMORY else None

    def hold(self) -> AbstractContextManager[None]:
        return nullcontext()


class LiveTask:
    """A thread of a process. Nothing here stops it."""

    def __init__(self, process: Process, tid: int) -> None:
        self.tid = tid
        self._process = process

    def regset(self, owner: str, type_: int) -> bytes | None:
        return None

    def text(self, name: str) -> bytes | None:
        return self._process.text(f"task/{self.tid}/{name}")

    def place(self) -> Place:
        """Where it is blocked; where it was when it was last seen blocked, if it runs. Of a thread that may not be
        looked into that is not known, but the rest is."""
        try:
            found = procfs.stack_pointer(self.text("syscall") or b"")
        except MemfsError as error:
            if error.errno not in _REFUSED:
                raise
            return Place(None, None)
        if found is None:
            last = self._process.places.get(self.tid)
            return Place(None, last.sp if last else None)
        place = Place(*found)
        self._process.places[self.tid] = place
        return place


class _Segments(Sequence[Segment]):
    """The mappings as segments, one to one, made when they are looked at."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment

    def __len__(self) -> int:
        return len(self._moment.areas)

    @overload
    def __getitem__(self, index: int) -> Segment: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Segment]: ...
    def __getitem__(self, index: int | slice) -> Segment | Sequence[Segment]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        area = self._moment.areas[index]
        size = area.end - area.start
        flags = sum(bit for place, letter, bit in _FLAGS if area.permissions[place] == letter)
        return Segment(index, names.PT_LOAD, flags, 0, area.start, 0, size, size, 4096)

    def __iter__(self) -> Iterator[Segment]:
        return (self[index] for index in range(len(self)))


def _mapping(index: int, area: Area) -> Mapping:
    label = area.path if area.path.startswith("[") else None
    path = area.path if area.path and label is None else None
    return Mapping(area.start, area.end, area.permissions, area.offset if path else None, path, label, index)


def _lives(directory: int) -> bool:
    """Whether the thread with this /proc directory has not ended."""
    try:
        stat = procfs.parse_stat(procfs.read("stat", directory))
    except OSError:
        return False
    return stat is not None and stat.lacks is None


def _warnings(memory: _Memory | None) -> Sequence[str]:
    """What is odd about how its memory is seen."""
    if memory is None or not memory.tid:
        return ()
    return (f"its first thread has ended: the memory is seen through thread {memory.tid}",)


def _target_of(name: str, directory: int | None = None) -> Target | None:
    """The target that the ELF header of a file says; None where it cannot be read, or is none."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)
        try:
            ehdr = header.parse_ehdr(os.pread(fd, header.EHDR_SIZE[64], 0))
        finally:
            os.close(fd)
    except OSError:
        return None
    if ehdr is None:
        return None
    return Target(ehdr.e_machine, arch.arch_name(ehdr.e_machine, ehdr.bits), ehdr.bits, ehdr.order, "linux")


def started_ns(ticks: int) -> int:
    """Clock ticks since the machine started, as a time of day in nanoseconds."""
    booted = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return booted + ticks * (10**9 // os.sysconf("SC_CLK_TCK"))
