"""What a kernel image says of its kernel: release, KASLR, page tables, RAM.

Sources: Documentation/admin-guide/kdump/vmcoreinfo.rst; init/version.c (linux_banner), include/uapi/linux/utsname.h
(struct new_utsname), Linux 6.12."""

from __future__ import annotations

from typing import Any, NamedTuple

from memfs.arch import memory_map
from memfs.elf import names
from memfs.elf.vmcoreinfo import Vmcoreinfo
from memfs.errors import MemfsError
from memfs.facts import regions, segments
from memfs.facts.origin import origin
from memfs.image import Image, KernelSource, Segment, State, fact
from memfs.io.buffers import room
from memfs.io.paging import read_exactly

_UTS_FIELD = 65
_BANNER_AT_MOST = 512
_SEARCHED_AT_MOST = 64 << 20
"""How far behind _stext a banner is searched for: text, then read-only data."""


class Uts(NamedTuple):
    """struct new_utsname, the fields that are used."""

    release: str
    version: str  # "#1 SMP ..."


def source(image: Image) -> KernelSource:
    """The kernel of a kernel image."""
    if image.kernel is None:
        raise TypeError(f"{image.kind} is no kernel image")
    return image.kernel


def read(image: Image, address: int, size: int) -> bytes:
    """Bytes of kernel memory, as many of them as are there."""
    buffer = room(size)
    try:
        return bytes(buffer[: image.space.readinto(address, buffer)])
    except MemfsError:
        return b""


@fact
def vmcoreinfo(image: Image) -> Vmcoreinfo:
    """VMCOREINFO, with no keys where the image has none."""
    return Vmcoreinfo(source(image).vmcoreinfo())


@fact
def _init_uts(image: Image) -> Uts | None:
    """What init_uts_ns says, which VMCOREINFO tells the address of."""
    info = vmcoreinfo(image)
    at, offset = info.symbol("init_uts_ns"), info.offset("uts_namespace.name")
    if at is None or offset is None:
        return None
    try:
        raw = read_exactly(image.space, at + offset, 6 * _UTS_FIELD)
    except MemfsError:
        return None
    fields = [
        raw[i : i + _UTS_FIELD].split(b"\0")[0].decode("utf-8", "replace") for i in range(0, len(raw), _UTS_FIELD)
    ]
    return Uts(fields[2], fields[3]) if fields[0] == "Linux" else None


@fact
def uts(image: Image) -> Uts | None:
    """What uname says: of init_uts_ns, else out of the banner."""
    found = _init_uts(image)
    text = banner(image) if found is None else None
    if text is None:
        return found
    words = text.decode("utf-8", "replace").split()
    return Uts(words[2], text[text.rfind(b" #") + 1 :].decode("utf-8", "replace").rstrip("\n"))


@fact
def banner(image: Image) -> bytes | None:
    """linux_banner, a line: what /proc/version prints. None where it is not in the image, or cannot be found.

    Since 6.0 there is a draft of it in front, without the number of the build: scripts/link-vmlinux.sh."""
    release = vmcoreinfo(image).text("OSRELEASE")
    known = _init_uts(image)
    end = (f" {known.version}\n" if known else "\n").encode("utf-8", "surrogateescape")
    wanted = b"Linux version " + (release.encode("utf-8", "surrogateescape") + b" (" if release else b"")
    for low, high in _text_ranges(image):
        found = _search(image, wanted, end, low, min(high, low + _SEARCHED_AT_MOST))
        if found is not None:
            return found
    return None


def _text_ranges(image: Image) -> list[tuple[int, int]]:
    """Where kernel text and read-only data lie."""
    areas = [(area.start, area.end) for area in source(image).areas() if area.name == "kernel_text"]
    start = vmcoreinfo(image).symbol("_stext")
    return areas or ([(start, start + _SEARCHED_AT_MOST)] if start is not None else [])


def _search(image: Image, wanted: bytes, ending: bytes, low: int, high: int) -> bytes | None:
    """The first line that begins with `wanted`, ends with `ending` and looks like a banner, in the data of a range."""
    for run in image.space.runs(low, high):
        position, tail = run.start, b""
        while run.state is State.DATA and position < run.end:
            size = min(1 << 20, run.end - position)
            try:
                block = tail + read_exactly(image.space, position, size)
            except MemfsError:
                break
            found = _banner_in(block, wanted, ending)
            if found is not None:
                return found
            tail = block[-_BANNER_AT_MOST:]
            position += size
    return None


def _banner_in(block: bytes, wanted: bytes, ending: bytes) -> bytes | None:
    at = block.find(wanted)
    while at >= 0:
        line = block[at : at + _BANNER_AT_MOST].partition(b"\n")[0] + b"\n"
        number = line[line.rfind(b" #") + 2 :][:1]
        if line.endswith(ending) and line.isascii() and b"\0" not in line and number.isdigit():
            return line
        at = block.find(wanted, at + 1)
    return None


@fact
def kaslr_offset(image: Image) -> int | None:
    """By how much kernel text lies above the address that it was linked for."""
    info, target = vmcoreinfo(image), image.target
    told = info.hexadecimal("KERNELOFFSET")
    if told is not None:
        return told
    linked = memory_map.TEXT_START.get(target.machine)
    start = info.symbol("_stext")
    if start is None:
        start = next((area.start for area in source(image).areas() if area.name == "kernel_text"), None)
    return start - linked if start is not None and linked is not None and start >= linked else None


@fact
def phys_base(image: Image) -> int | None:
    """Physical address of what x86_64 kernels map at __START_KERNEL_map; may be negative."""
    if image.target.machine != names.EM_X86_64:
        return None
    told = vmcoreinfo(image).number("phys_base")
    if told is not None:
        return told if told < 1 << 63 else told - (1 << 64)
    text = next((load for load in source(image).ram() if load.address >= memory_map.TEXT_MAP), None)
    return text.physical - (text.address - memory_map.TEXT_MAP) if text is not None else None


@fact
def ram_bytes(image: Image) -> int | None:
    """RAM that the program headers list; None where they list what a dump tool left."""
    kernel = source(image)
    everything = kernel.ram()
    others = sum(1 for s in image.segments if segments.is_load(s) and s.memory_size) - len(everything)
    end = 1 << image.target.bits
    loads = [load for load in everything if kernel.direct_base is None or not _is_again(kernel, load, end)]
    if not loads or (others and not kernel.is_complete):
        return None
    return sum(load.memory_size for load in loads)


def _is_again(kernel: KernelSource, load: Segment, end: int) -> bool:
    """Whether it is kernel text, which the direct map has, too. What has no virtual address is RAM for itself."""
    elsewhere = load.address - load.physical not in (0, kernel.direct_base)
    return elsewhere and kernel.low <= load.address < end - 1  # p_vaddr -1 is none


def info(image: Image) -> dict[str, Any]:
    """The fields of info.json, in the order in which `info` prints them. Those of a process are null."""
    from memfs.facts.symbols import of_image

    kernel, facts, names_, symbols = source(image), vmcoreinfo(image), uts(image), of_image.found(image)
    target, tally, offset, base = image.target, total(image), kaslr_offset(image), phys_base(image)
    command = command_line(image)
    return {
        **origin(image),
        "release": facts.text("OSRELEASE") or (names_.release if names_ else None),
        "version": names_.version if names_ else None,
        "cmdline": command.decode("utf-8", "surrogateescape").rstrip("\n") if command is not None else None,
        "page_levels": kernel.page_levels(),
        "page_size": facts.page_size() or _PAGE_SIZES.get(target.machine),
        "kaslr_offset": hex(offset) if offset is not None else None,
        "phys_base": hex(base) if base is not None else None,
        "direct_map": hex(kernel.direct_base) if kernel.direct_base is not None else None,
        "ram_bytes": ram_bytes(image),
        "build_id": facts.text("BUILD-ID"),
        "cpus": cpu_count(image),
        "symbols": symbols.origin,
        **dict.fromkeys(("pid", "ppid", "comm", "exe", "threads", "signal")),
        "segments": len(image.segments),
        "regions": len(regions.regions(image)),
        "notes": len(image.notes),
        "data_bytes": tally.data if tally else None,
        "zero_bytes": tally.zero if tally else None,
        "absent_bytes": tally.absent if tally else None,
        "warnings": [*image.warnings, *_warnings(image), *(f"symbols: {why}" for why in symbols.refused)],
    }


_PAGE_SIZES = {names.EM_X86_64: 4096, names.EM_386: 4096, names.EM_S390: 4096}


def total(image: Image) -> Any:
    """Bytes of the whole address space, each address counted once."""
    return image.space.tally(0, 1 << image.target.bits)


def cpu_count(image: Image) -> int | None:
    """Processors: of a live kernel those that are online, of a dump those whose registers were saved."""
    stat = source(image).text("stat")
    if stat is not None:
        return sum(1 for line in stat.split(b"\n") if line.startswith(b"cpu") and line[3:4].isdigit())
    return len(source(image).cpus()) or None


@fact
def command_line(image: Image) -> bytes | None:
    """What /proc/cmdline prints: of a live kernel; else the 79 bytes of PRPSINFO, if they are all of it."""
    live = source(image).text("cmdline")
    if live is not None:
        return live
    from memfs.arch import linux

    for note in image.notes:
        if note.owner == "CORE" and note.type == linux.NT_PRPSINFO:
            found = linux.parse_psinfo(image.desc(note), image.target)
            if found is not None and found.fname == b"vmlinux" and 0 < len(found.psargs) < _PSARGS - 1:
                return found.psargs + b"\n"
    return None


_PSARGS = 80
"""ELF_PRARGSZ: a longer command line is cut there."""


def _warnings(image: Image) -> list[str]:
    kernel = source(image)
    out = []
    if not kernel.vmcoreinfo():
        out.append("no VMCOREINFO: release, symbols and page tables are not known")
    if kernel.direct_base is None:
        out.append("no direct map is found: physical memory cannot be told from other memory")
    if not kernel.is_complete:
        out.append("memory that is in no PT_LOAD is absent: this image does not say whether there was any")
    out += _hidden(kernel)
    large = sum(1 for s in segments.listed(image) if segments.size(s) > segments.OFFSET_END)
    if large:
        out.append(f"{large:,} segments are larger than a file can be: their files end at {segments.OFFSET_END:#x}")
    return out


def _hidden(kernel: KernelSource) -> list[str]:
    """What a live kernel keeps from the texts of its /proc (kernel/resource.c, lib/vsprintf.c: restricted_pointer)."""
    out = []
    iomem = (kernel.text("iomem") or b"").splitlines()
    if iomem and all(set(line.split()[0]) <= set(b"0-") for line in iomem if line.split()):
        out.append("iomem has no addresses: they need CAP_SYS_ADMIN")
    restricted = (kernel.text("sys/kernel/kptr_restrict") or b"").strip()
    if restricted in _POINTERS:
        out.append(f"kernel.kptr_restrict is {restricted.decode()}: {_POINTERS[restricted]}")
    return out


_POINTERS = {
    b"0": "addresses in vmallocinfo are hashed; 1 shows them to who has CAP_SYSLOG",
    b"2": "addresses in modules, vmallocinfo and kallsyms are zeros; 1 shows them to who has CAP_SYSLOG",
}
