"""Kernels in ELF: a saved /proc/kcore, a crash dump (vmcore). The live one is backends/kcore_live.py.

Source: fs/proc/kcore.c and fs/proc/vmcore.c, Linux 6.12; Documentation/admin-guide/kdump/kdump.rst."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from memfs.arch import linux
from memfs.backends import kernel_layout, kernel_mapped, kernel_paging
from memfs.backends.elf import Container, CoreTask, segment_space, warn_short
from memfs.backends.kernel_layout import Layout
from memfs.elf import names
from memfs.elf.vmcoreinfo import OWNER, SIZE_AT_MOST, Vmcoreinfo
from memfs.image import Area, Image, NoProcess, Note, Segment, Space, State, Target, Task
from memfs.io.file import Bytes
from memfs.io.layers import Behind, GapsAs
from memfs.io.paging import PagedSpace, PageTables
from memfs.io.sparse import Extent, ExtentSpace, flatten, load_extents


def saved(source: Bytes, container: Container) -> Image:
    """The Image of a kernel's ELF file."""
    elf, notes, _, warnings = container
    warn_short(source, elf.headers, warnings)
    kernel = SavedKernel(source, container)
    bits = elf.ehdr.bits
    return Image(
        kind="kernel-core",
        format=f"ELF{bits} {'kcore' if is_kcore(notes) else 'vmcore'}",
        target=kernel.target,
        source=source,
        space=kernel.space,
        segments=elf.headers,
        notes=notes,
        process=NoProcess(),
        segment_space=lambda segment: segment_space(source, segment, 1 << bits),
        container=elf,
        warnings=warnings,
        kernel=kernel,
    )


def is_kcore(notes: Sequence[Note]) -> bool:
    """Whether the notes are those of /proc/kcore: the task that read it."""
    return any(note.owner == "CORE" and note.type == 4 for note in notes)


class SavedKernel:
    """A KernelSource over an ELF file. What it knows is found out when it is asked for."""

    def __init__(self, source: Bytes, container: Container) -> None:
        self._source = source
        self._container = container

    @cached_property
    def target(self) -> Target:
        return kernel_layout.target_of(self._container.target, self.info)

    def vmcoreinfo(self) -> bytes:
        for note in self._container.notes:
            if note.owner == OWNER:
                return self._source.read(note.offset, min(note.size, SIZE_AT_MOST)).rstrip(b"\0")
        return self._vmcoreinfo_in_memory().rstrip(b"\0")

    def _vmcoreinfo_in_memory(self) -> bytes:
        """The note that the lowcore of s390x points to, for dump tools that know nothing of Linux."""
        target = self._container.target
        if (target.machine, target.bits) != (names.EM_S390, 64):
            return b""
        extents = (
            extent
            for load in self._container.elf.headers
            if load.type == names.PT_LOAD and load.physical != (1 << 64) - 1
            for extent in self._extents(load.physical, load)
        )
        return kernel_layout.vmcoreinfo_of_s390x(ExtentSpace(self._source, flatten(extents, 1 << 64)))

    @cached_property
    def info(self) -> Vmcoreinfo:
        return Vmcoreinfo(self.vmcoreinfo())

    @cached_property
    def layout(self) -> Layout:
        return kernel_layout.layout(self.target, self._container.elf.headers, self.info)

    # -- memory ------------------------------------------------------------------------------------------------------

    @cached_property
    def physical(self) -> Space:
        """RAM by its own program headers, and kernel text, which is the same memory again. Of a sparse file what is
        stored of either comes first: whoever saved it left holes in the other one."""
        ram = sorted(self.layout.ram, key=self._is_text)
        whole = [e for load in ram for e in self._extents(load.physical, load)]
        pieces = [e for extent in whole for e in self._stored(extent)] if self._source.is_sparse else []
        return ExtentSpace(self._source, flatten([*pieces, *whole], 1 << 64))

    def _is_text(self, load: Segment) -> bool:
        return load.address - load.physical != self.layout.direct_base

    def _stored(self, extent: Extent) -> Iterator[Extent]:
        shift = extent.origin - extent.start
        if extent.origin >= 0:
            for low, high in self._source.extents(extent.start + shift, extent.end + shift):
                yield Extent(low - shift, high - shift, low)

    @property
    def physical_end(self) -> int:
        return max((load.physical + load.memory_size for load in self.layout.ram), default=0)

    @cached_property
    def loads(self) -> Space:
        """Virtual memory as the PT_LOADs have it."""
        physical = self.layout.physical_only
        headers = self._container.elf.headers
        loads = (s for s in headers if s.type == names.PT_LOAD and s.number not in physical)
        extents = (extent for load in loads for extent in self._extents(load.address, load))
        return ExtentSpace(self._source, flatten(extents, 1 << self.target.bits))

    def _extents(self, at: int, load: Segment) -> Iterator[Extent]:
        return load_extents(at, load.file_size, load.memory_size, load.offset, self._source.size)

    @cached_property
    def tables(self) -> PageTables | None:
        return kernel_paging.tables(self.target, self.layout, self.info, self.loads, self.physical)

    @cached_property
    def space(self) -> Space:
        """Virtual memory; where a dump tool left areas out, what the page tables map belongs to it, too."""
        if self.is_complete or self.tables is None:
            return self.loads
        return Behind(self.loads, PagedSpace(self.tables, self.physical))

    def area_space(self) -> Space:
        return GapsAs(self.space, State.ZERO if self.is_complete else State.ABSENT)

    # -- facts -------------------------------------------------------------------------------------------------------

    @property
    def direct_base(self) -> int | None:
        """As the PT_LOADs say, or as the page tables: a virtual machine's have no virtual addresses."""
        if self.layout.direct_base is not None:
            return self.layout.direct_base
        return self._mapped.direct_base if self._mapped else None

    @property
    def low(self) -> int:
        return self.layout.map.low

    @property
    def is_complete(self) -> bool:
        return self.layout.is_complete

    def areas(self) -> Sequence[Area]:
        return self._mapped.areas if self._mapped else self.layout.areas

    @cached_property
    def _mapped(self) -> kernel_mapped.Found | None:
        if self.is_complete or self.tables is None:
            return None
        return kernel_mapped.find(self.target, self.layout, self.info, self.tables)

    def ram(self) -> Sequence[Segment]:
        return self.layout.ram

    def page_levels(self) -> int | None:
        return kernel_paging.levels(self.target, self._container.elf.headers, self.info, self.tables)

    def cpus(self) -> Sequence[Task]:
        """PRSTATUS of each processor; /proc/kcore has one of zeros, which is of none."""
        out: list[Task] = []
        for note in self._container.notes:
            if linux.owner(note) == "CORE" and note.type == linux.NT_PRSTATUS:
                desc = self._source.read(note.offset, min(note.size, 1 << 16))
                if any(desc):
                    out.append(CoreTask(self._source, len(out), [note]))
        return out

    def has(self, name: str) -> bool:
        return False

    def text(self, name: str) -> bytes | None:
        return None
