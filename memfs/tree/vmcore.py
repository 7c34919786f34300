"""`vmcore`: the machine as an ELF core, for crash, drgn, makedumpfile and their like: headers that are made here, and
the memory of the image as it is. In the layout of /proc/vmcore: fs/proc/vmcore.c, Linux 6.12."""

from __future__ import annotations

from functools import cached_property

from memfs.arch import linux
from memfs.elf import build
from memfs.elf.vmcoreinfo import OWNER
from memfs.facts import kernel
from memfs.image import Image
from memfs.io.joined import Joined, Part
from memfs.tree.node import SIZE_AT_MOST, File, Kind, MemoryReader, Policy, Reader, Stat
from memfs.tree.rows import Context


def joined(context: Context) -> Joined:
    """The file as a Space. PT_LOADs are kernel text and RAM, p_paddr physical, p_filesz as p_memsz."""
    image = context.image
    source = kernel.source(image)
    loads = source.ram()
    head = build.core(image.target, loads, build.notes(_notes(image), image.target.prefix))
    physical = context.readable(source.physical)
    parts = [
        Part(offset, offset + load.memory_size, physical, load.physical)
        for offset, load in zip(head.offsets, loads, strict=True)
        if load.memory_size
    ]
    return Joined(head.raw, parts, head.end)


def _notes(image: Image) -> list[build.Note]:
    """The registers of the processors, as the image has them, and VMCOREINFO."""
    source = kernel.source(image)
    registers = (task.regset("CORE", linux.NT_PRSTATUS) for task in source.cpus())
    out = [build.Note(b"CORE", linux.NT_PRSTATUS, desc) for desc in registers if desc is not None]
    text = source.vmcoreinfo()
    return [*out, build.Note(OWNER.encode(), 0, text)] if text else out


class Vmcore(File):
    """The file; its headers are made when it is first looked at closely."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @cached_property
    def _joined(self) -> Joined:
        return joined(self._context)

    @property
    def _size(self) -> int:
        return min(self._joined.end, SIZE_AT_MOST)

    def stat(self, exact: bool = True) -> Stat:
        if not exact:
            return Stat(Kind.FILE, None, 0)
        tally = self._joined.tally(0, self._size)
        return Stat(Kind.FILE, self._size, tally.data if tally else 0)

    @property
    def direct(self) -> bool:
        if self.policy is Policy.LIVE:
            return True
        tally = self._joined.tally(0, self._size)
        return tally is None or tally.data + tally.zero < self._size

    def open(self) -> Reader:
        return MemoryReader(self._joined, 0, self._size)


def row(context: Context) -> Vmcore | None:
    """Where the image knows what is at which physical address."""
    return Vmcore(context) if kernel.source(context.image).physical_end else None
