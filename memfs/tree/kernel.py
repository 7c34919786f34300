"""The tree of a kernel image: the table KERNEL, and what makes each of its rows."""

from __future__ import annotations

from memfs.facts import kernel, regions, segments, threads
from memfs.facts.regions import Region
from memfs.facts.symbols import of_image
from memfs.image import Image, State
from memfs.io.layers import GapsAs
from memfs.tree import memory, process, render, symbols, vmcore
from memfs.tree.live import LiveDir
from memfs.tree.node import SIZE_AT_MOST, AddressSpace, Dir, Kind, Link, Memory, Node
from memfs.tree.process import json_of, of_thread, optional, text_of, where
from memfs.tree.rows import Context, Listing, Make, Row, RowDir
from memfs.tree.seeking import SeekingMemory

# -- memory --------------------------------------------------------------------------------------------------------


def _area(context: Context) -> Node:
    """The bytes of an area: what is not mapped in it is zero, or absent if the image cannot tell."""
    image, area = context.image, context.subject
    space = context.readable(kernel.source(image).area_space())
    return SeekingMemory(space, area.start, area.size, lambda: _area_xattrs(image, area))


def _area_xattrs(image: Image, area: Region) -> dict[str, str]:
    found = memory.region_xattrs(image, area)()
    physical = _physical(image, area)
    if physical is not None:
        found["user.memfs.physical"] = hex(physical)
    return found


def _physical(image: Image, area: Region) -> int | None:
    source = kernel.source(image)
    if area.name == "direct_map" and area.start == source.direct_base:
        return 0
    return next((s.physical for s in source.ram() if s.address <= area.start < s.address + s.memory_size), None)


def _area_link(context: Context) -> Node:
    return Link(f"../regions/{context.subject.name}")


def _phys(context: Context) -> Node | None:
    """Physical memory: gaps are where there is no RAM."""
    source = kernel.source(context.image)
    if not source.physical_end:
        return None
    space = context.readable(GapsAs(source.physical, State.ZERO if source.is_complete else State.ABSENT))
    size = source.physical_end
    return Memory(space, 0, size, lambda: memory.attributes(0, size, "rw-", physical=0, origin="image"))


def _mem(context: Context) -> Node:
    """Virtual memory from the lowest kernel address on."""
    image = context.image
    low = kernel.source(image).low
    size = min((1 << image.target.bits) - low, SIZE_AT_MOST)
    return AddressSpace(context.readable(image.space), low, size, lambda: memory.attributes(low, size, None))


# -- texts ---------------------------------------------------------------------------------------------------------


def _info_text(image: Image) -> bytes:
    return render.facts(kernel.info(image))


def _version(image: Image) -> bytes | None:
    live = kernel.source(image).text("version")
    return live if live is not None else kernel.banner(image)


def _vmcoreinfo(image: Image) -> bytes | None:
    return kernel.source(image).vmcoreinfo() or None


def _of_proc(name: str) -> Make:
    """A file that is the kernel's own, of one that is alive."""
    return where(
        lambda image: kernel.source(image).has(name), text_of(lambda image: kernel.source(image).text(name) or b"")
    )


# -- listings ------------------------------------------------------------------------------------------------------


def _area_names(image: Image) -> list[str]:
    return [area.name for area in regions.regions(image)]


def _cpu_names(image: Image) -> list[str]:
    return [cpu.name for cpu in threads.cpus(image)]


LISTINGS = {
    "note": process.LISTINGS["note"],
    "segment": process.LISTINGS["segment"],
    "area": Listing(_area_names, regions.regions),
    "link": Listing(_area_names, regions.regions, kind=Kind.LINK),
    "cpu": Listing(_cpu_names, threads.cpus),
}

KERNEL = (
    Row("info", text_of(_info_text), "what this image is, a fact a line; warnings last"),
    Row("info.json", json_of(kernel.info), "the same for programs"),
    *(row for row in process.PROCESS if row.path.startswith(("headers", "notes"))),
    Row("segments", None, "PT_LOADs and other program headers that have bytes, by index"),
    Row("segments/{segment}", process.segment, "the bytes of a segment"),
    Row("segments/{link}", _area_link, "a link to the area: segments/direct_map"),
    Row("segments.json", json_of(segments.records), "the table of segments"),
    Row("regions", None, "the areas of the kernel's memory map: direct_map, vmalloc, kernel_text"),
    Row("regions/{area}", _area, "the bytes of an area; in direct_map the offset is the physical address"),
    Row("regions.json", json_of(memory.region_records), "the table of areas"),
    Row("maps", text_of(memory.maps), "the areas as /proc/PID/maps would print them"),
    Row("mem", _mem, "virtual memory from the lowest kernel address on, which is its user.memfs.address"),
    Row("phys", _phys, "physical memory: the offset is the physical address"),
    Row("at", memory.by_address, "at/0xffffffff81000000:64: memory by address", listed=False),
    Row(
        "symbols",
        where(of_image.expected, symbols.SymbolsDir),
        "symbols/vmlinux/NAME, symbols/MODULE/NAME: the memory behind a symbol; symbols/vmlinux.json: their table",
    ),
    Row("kallsyms", where(of_image.expected, text_of(symbols.kallsyms)), "the symbols as /proc/kallsyms prints them"),
    Row("vmcore", vmcore.row, "an ELF core of the machine, p_paddr physical, with VMCOREINFO: for crash and drgn"),
    Row("version", optional(_version), "the kernel's own /proc/version, or its banner in memory"),
    Row("cmdline", optional(kernel.command_line), "the command line of the kernel"),
    Row("vmcoreinfo", optional(_vmcoreinfo), "VMCOREINFO, as the kernel wrote it for crash tools"),
    Row("iomem", _of_proc("iomem"), "the kernel's own (live)"),
    Row("modules", _of_proc("modules"), "the kernel's own (live)"),
    Row("vmallocinfo", _of_proc("vmallocinfo"), "the kernel's own (live)"),
    Row("cpus/{cpu}/registers", of_thread(process.registers), "the registers of a processor (pr_reg), in a dump"),
    Row("cpus/{cpu}/registers.txt", of_thread(process.registers_text, process.registers), "name and value"),
    Row("cpus/{cpu}/registers.json", of_thread(process.registers_json, process.registers), "the same for programs"),
)


def root(image: Image, absent_as_zero: bool = False) -> Dir:
    """The root directory of a kernel: of a live one that of the present moment, at each look."""
    if image.live is not None:
        return LiveDir(lambda: _root(image.now(), absent_as_zero))
    return _root(image, absent_as_zero)


def _root(image: Image, absent_as_zero: bool) -> Dir:
    """One for each image: it keeps what was found out."""
    key = "root", absent_as_zero
    with image.lock:
        if key not in image.cache:
            image.cache[key] = RowDir(Context(image, absent_as_zero), KERNEL, LISTINGS)
        made: Dir = image.cache[key]
    return made
