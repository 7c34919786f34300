"""ELF cores: of any class, byte order, machine and system; whole, cut off or damaged.

Sources: gABI chapters 4 and 5; fs/binfmt_elf.c, Linux 6.12. An ET_CORE is never refused for what is wrong behind
its ELF header: what can be read is shown, and `warnings` say the rest."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from memfs import arch
from memfs.arch import linux
from memfs.backends import kernel_layout
from memfs.elf import header, names, notes
from memfs.elf.linux import MappedFile, parse_file_note
from memfs.errors import MemfsError
from memfs.image import Image, Mapping, NoProcess, Note, Place, Segment, Space, Target, Task
from memfs.io.file import Bytes
from memfs.io.sparse import Extent, ExtentSpace, LazySpace, flatten, load_extents

_HOLES_AT_MOST = 1 << 20
"""A program header table may lie in holes of the file for this many bytes, and eight times what is stored of it."""

_NOT_CORES = {
    1: "an object file (ET_REL)",
    2: "an executable (ET_EXEC)",
    3: "a shared library or a position-independent executable (ET_DYN)",
}

_SYSTEMS = (
    ("FreeBSD", "freebsd"),
    ("NetBSD-CORE", "netbsd"),
    ("OpenBSD", "openbsd"),
    ("QNX", "qnx"),
    ("LINUX", "linux"),
)
_SOLARIS_TYPES = {5, 10, 13, 15, 16, 17}  # PLATFORM, PSTATUS, PSINFO, UTSNAME, LWPSTATUS, LWPSINFO


class Container(NamedTuple):
    """What every ELF core is, of a process or of a kernel."""

    elf: header.Elf
    notes: list[Note]
    target: Target
    warnings: list[str]


def read_container(source: Bytes) -> Container:
    """Headers and notes. Raises MemfsError for what is no ELF core."""
    warnings: list[str] = []
    elf = _read_headers(source, _read_ehdr(source), warnings)
    note_list = list(_read_notes(source, elf, warnings))
    ehdr = elf.ehdr
    target = Target(
        ehdr.e_machine, arch.arch_name(ehdr.e_machine, ehdr.bits), ehdr.bits, ehdr.order, _system(note_list)
    )
    return Container(elf, note_list, target, warnings)


def open_image(source: Bytes) -> Image:
    """The Image of an ELF core. Raises MemfsError for what is none."""
    container = read_container(source)
    if kernel_layout.is_kernel(source.read, container.target, container.elf.headers, container.notes):
        from memfs.backends import kcore

        return kcore.saved(source, container)
    return _process_core(source, container)


def _process_core(source: Bytes, container: Container) -> Image:
    elf, note_list, target, warnings = container
    ehdr = elf.ehdr
    warn_short(source, elf.headers, warnings)
    process = CoreProcess(source, target, elf.headers, note_list)
    limit = 1 << ehdr.bits

    def build() -> ExtentSpace:
        extents = [*_load_extents(source, elf.headers), *_left_out(process.files(), elf.headers)]
        return ExtentSpace(source, flatten(extents, limit))

    return Image(
        kind="process-core",
        format=f"ELF{ehdr.bits} core",
        target=target,
        source=source,
        space=LazySpace(build),
        segments=elf.headers,
        notes=note_list,
        process=process,
        segment_space=lambda segment: segment_space(source, segment, limit),
        container=elf,
        warnings=warnings,
    )


# -- headers -----------------------------------------------------------------------------------------------------


def _read_ehdr(source: Bytes) -> header.Ehdr:
    raw = source.read(0, header.EHDR_SIZE[64])
    ehdr = header.parse_ehdr(raw)
    if ehdr is None:
        if len(raw) >= header.IDENT_SIZE and (raw[4] not in (1, 2) or raw[5] not in (1, 2)):
            raise MemfsError(
                "not a memory image",
                f"its ELF header has the unknown class {raw[4]} and byte order {raw[5]}",
                "is the file damaged?",
                subject=source.path,
            )
        raise MemfsError(
            f"the file ends after {len(raw)} bytes",
            "that is inside the ELF header",
            "it was cut off: copy it again",
            subject=source.path,
        )
    if ehdr.e_type != names.ET_CORE:
        what = _NOT_CORES.get(ehdr.e_type, f"an ELF file of type {ehdr.e_type:#x}")
        raise MemfsError(
            f"this is {what}",
            "not a core",
            "name the core that a process left, or take one with gcore PID",
            subject=source.path,
        )
    return ehdr


def _read_headers(source: Bytes, ehdr: header.Ehdr, warnings: list[str]) -> header.Elf:
    """The program headers that can be read, and warnings about the others."""
    phnum: int | None = ehdr.e_phnum
    if ehdr.e_phnum == names.PN_XNUM:
        section = _section(source, ehdr, 0)
        phnum = section.info if section else None
        if phnum is None:
            warnings.append("e_phnum is PN_XNUM, but there is no section header 0 to hold the number")
    stride, size = ehdr.e_phentsize, header.PHDR_SIZE[ehdr.bits]
    claimed = names.PN_XNUM if phnum is None else phnum
    if claimed and stride < size:
        warnings.append(f"e_phentsize is {stride}, a program header has {size} bytes: none can be read")
        claimed = 0
    elif ehdr.e_phoff and stride < size and not claimed:
        warnings.append(f"no program headers: e_phnum is 0 and e_phentsize {stride}")
    table = b""
    if claimed:
        wanted = (claimed - 1) * stride + size
        there = max(0, min(wanted, source.size - ehdr.e_phoff))
        stored = source.stored(ehdr.e_phoff, ehdr.e_phoff + there) if there else 0
        table = source.read(ehdr.e_phoff, min(there, _HOLES_AT_MOST + 8 * stored)) if there else b""
    headers = header.ProgramHeaders(table, ehdr)
    if phnum and claimed and len(headers) < phnum:
        warnings.append(f"the program header table is cut off: {len(headers):,} of {phnum:,} can be read")
    return header.Elf(ehdr, phnum, headers, len(table))


def _section(source: Bytes, ehdr: header.Ehdr, index: int) -> header.Section | None:
    size = header.SHDR_SIZE[ehdr.bits]
    if not ehdr.e_shoff or (index and ehdr.e_shentsize < size):
        return None
    return header.parse_section(source.read(ehdr.e_shoff + index * ehdr.e_shentsize, size), ehdr)


def warn_short(source: Bytes, headers: header.ProgramHeaders, warnings: list[str]) -> None:
    """Say how much of what the headers promise lies beyond the end of the file."""
    sizes = zip(headers.offsets, headers.file_sizes, strict=True)
    end = max((offset + size for offset, size in sizes if size), default=0)
    if end > source.size:
        beyond = sum(1 for o, s in zip(headers.offsets, headers.file_sizes, strict=True) if s and o + s > source.size)
        plural = "s reach" if beyond > 1 else " reaches"
        warnings.append(f"{end - source.size:,} bytes short: {beyond:,} segment{plural} beyond the end of the file")
    loads = zip(headers.types, headers.file_sizes, headers.memory_sizes, strict=True)
    larger = sum(1 for type_, file_size, size in loads if type_ == names.PT_LOAD and file_size > size)
    if larger:
        warnings.append(f"{larger:,} PT_LOADs with p_filesz above p_memsz: p_memsz bytes of each are memory")
    if names.PT_LOAD not in headers.types:
        warnings.append("no PT_LOAD: this core has no memory")


# -- memory ------------------------------------------------------------------------------------------------------


def _load_extents(source: Bytes, headers: header.ProgramHeaders) -> Iterator[Extent]:
    for segment in headers:
        if segment.type == names.PT_LOAD:
            yield from load_extents(
                segment.address, segment.file_size, segment.memory_size, segment.offset, source.size
            )


def _left_out(files: Sequence[MappedFile], headers: header.ProgramHeaders) -> Iterator[Extent]:
    """Files that the notes name and that no PT_LOAD covers as a whole: they belong to the process, and are absent."""
    loads = sorted((s.address, s.address + s.memory_size) for s in headers if s.type == names.PT_LOAD) if files else []
    for file in files:
        index = bisect_right(loads, (file.start, 1 << 65)) - 1
        if index < 0 or loads[index][1] < file.end:
            yield Extent(file.start, file.end, -1)


def segment_space(source: Bytes, segment: Segment, limit: int) -> Space:
    """The bytes of one segment, wherever other segments lie over it. What is no memory (PT_NOTE, ...) begins at 0."""
    load = segment.type == names.PT_LOAD
    address, size = (segment.address, segment.memory_size) if load else (0, segment.file_size)
    parts = load_extents(address, segment.file_size, size, segment.offset, source.size)
    return ExtentSpace(source, flatten(parts, limit if load else 1 << 64))


# -- notes -------------------------------------------------------------------------------------------------------


def _read_notes(source: Bytes, elf: header.Elf, warnings: list[str]) -> Iterator[Note]:
    """All notes, numbered through: of the PT_NOTEs, or of the SHT_NOTE sections where there are none."""
    places = [
        (segment.offset, segment.file_size, segment.alignment)
        for index, type_ in enumerate(elf.headers.types)
        if type_ == names.PT_NOTE
        for segment in [elf.headers[index]]
    ]
    if not places:
        places = list(_note_sections(source, elf.ehdr))
        if not places:
            warnings.append("no PT_NOTE: no threads, registers or names of files")
    count, room = 0, source.stored(0, source.size)
    for offset, size, alignment in places:
        if room < 0:  # 60,000 of them over the same bytes would be 60,000 times as many notes as the file has
            warnings.append("the PT_NOTEs lie over each other: the last of them are not looked at")
            return
        there = max(0, min(size, source.size - offset))
        room -= min(there, source.stored(offset, offset + there) + notes.GAP_AT_MOST)
        for note in notes.iter_notes(source.read, elf.ehdr.prefix, offset, there, alignment, warnings.append):
            if count >= notes.NOTES_AT_MOST:
                return
            yield note._replace(number=count)
            count += 1


def _note_sections(source: Bytes, ehdr: header.Ehdr) -> Iterator[tuple[int, int, int]]:
    for index in range(ehdr.e_shnum if ehdr.e_shentsize else 0):
        section = _section(source, ehdr, index)
        if section is None:
            return
        if section.type == names.SHT_NOTE and section.offset < source.size:
            yield section.offset, section.size, section.alignment


def _system(note_list: Sequence[Note]) -> str | None:
    """The operating system, by whose name or types the notes go."""
    owners = {note.owner.partition("@")[0] for note in note_list}
    for owner, system in _SYSTEMS:
        if owner in owners:
            return system
    if "CORE" not in owners:
        return None
    return "solaris" if any(n.owner == "CORE" and n.type in _SOLARIS_TYPES for n in note_list) else "linux"


# -- the process -------------------------------------------------------------------------------------------------


class CoreTask:
    """A thread of a core: its PRSTATUS and the notes up to the next one."""

    def __init__(self, source: Bytes, tid: int, own: Sequence[Note]) -> None:
        self.tid = tid
        self._source = source
        self._notes = own

    def place(self) -> Place | None:
        return None

    def text(self, name: str) -> bytes | None:
        return None

    def regset(self, owner: str, type_: int) -> bytes | None:
        return _desc(self._source, self._notes, owner, type_)


class CoreProcess(NoProcess):
    """What the notes of a Linux core say of its process. Other systems' notes are shown raw."""

    def __init__(
        self, source: Bytes, target: Target, headers: header.ProgramHeaders, note_list: Sequence[Note]
    ) -> None:
        self._source = source
        self._target = target
        self._headers = headers
        self._notes = note_list

    def mappings(self) -> Sequence[Mapping]:
        """The PT_LOADs by address, cut where NT_FILE names another file; then what NT_FILE alone knows."""
        loads = [s for s in self._headers if s.type == names.PT_LOAD and s.memory_size]
        loads.sort(key=lambda load: (load.address, load.number))
        return merge_files(loads, self.files(), 1 << self._target.bits)

    def files(self) -> list[MappedFile]:
        """The lines of NT_FILE, by address."""
        raw = self.regset("CORE", linux.NT_FILE)
        if raw is None or self._target.os != "linux":
            return []
        files = parse_file_note(raw, self._target.prefix, self._target.word) or []
        return disjoint(files)

    def auxv(self) -> bytes:
        owner, type_, skip = _AUXV.get(self._target.os or "", ("CORE", linux.NT_AUXV, 0))
        return (self.regset(owner, type_) or b"")[skip:]

    def regset(self, owner: str, type_: int) -> bytes | None:
        return _desc(self._source, self._notes, owner, type_)

    def tasks(self) -> Sequence[Task]:
        if self._target.os != "linux":
            return []
        starts = [i for i, n in enumerate(self._notes) if n.type == linux.NT_PRSTATUS and linux.owner(n) == "CORE"]
        out: list[Task] = []
        for start, end in pairwise([*starts, len(self._notes)]):
            desc = self._source.read(self._notes[start].offset, min(self._notes[start].size, _DESC_AT_MOST))
            status = linux.parse_status(desc, self._target)
            if status is not None:
                out.append(CoreTask(self._source, status.pid, self._notes[start:end]))
        return out


_AUXV = {
    # owner, type, and bytes before the vector (FreeBSD's procstat notes begin with the size of their structure)
    "netbsd": ("NetBSD-CORE", 2, 0),
    "openbsd": ("OpenBSD", 11, 0),
    "freebsd": ("FreeBSD", 16, 4),
}
_DESC_AT_MOST = 1 << 24


def _desc(source: Bytes, note_list: Sequence[Note], owner: str, type_: int) -> bytes | None:
    """The descriptor of the first such note."""
    for note in note_list:
        if note.type == type_ and linux.owner(note) == owner:
            return source.read(note.offset, min(note.size, _DESC_AT_MOST))
    return None


def disjoint(files: Sequence[MappedFile]) -> list[MappedFile]:
    """Lines of NT_FILE by address, without those that overlap an earlier one: no kernel writes such."""
    out: list[MappedFile] = []
    for file in sorted(files):
        if file.start < file.end and (not out or file.start >= out[-1].end):
            out.append(file)
    return out


def merge_files(loads: Sequence[Segment], files: Sequence[MappedFile], limit: int) -> list[Mapping]:
    """Mappings by address out of PT_LOADs (sorted) and lines of NT_FILE (sorted, disjoint).

    A PT_LOAD is cut where another file begins; one that lies over an earlier PT_LOAD is not, as that would cost
    the product of both. What no PT_LOAD covers of a file is a mapping too: gcore leaves text out."""
    starts = [file.start for file in files]
    out: list[Mapping] = []
    reached = 0
    for load in loads:
        end = min(limit, load.address + load.memory_size)
        index = max(0, bisect_right(starts, load.address) - 1)
        stop = end if load.address >= reached else load.address + 1
        position = load.address
        while index < len(files) and files[index].start < stop:
            file = files[index]
            if file.end > position:
                if file.start > position:
                    out.append(_mapping(load, position, file.start, None))
                position = min(end, file.end) if load.address >= reached else end
                out.append(_mapping(load, max(file.start, load.address), position, file))
            index += 1
        if position < end:
            out.append(_mapping(load, position, end, None))
        reached = max(reached, end)
    out.extend(_not_covered(loads, files, limit))
    out.sort(key=lambda mapping: mapping.start)
    return out


def _not_covered(loads: Sequence[Segment], files: Sequence[MappedFile], limit: int) -> Iterator[Mapping]:
    """The parts of mapped files that lie in no PT_LOAD; nobody knows their permissions."""
    index = reached = 0
    for file in files:
        position, end = file.start, min(limit, file.end)
        while position < end:
            while index < len(loads) and loads[index].address <= position:
                reached = max(reached, loads[index].address + loads[index].memory_size)
                index += 1
            if reached > position:
                position = reached
                continue
            stop = min(end, loads[index].address) if index < len(loads) else end
            yield Mapping(position, stop, None, file.offset + position - file.start, file.path, None, None)
            position = stop


def _mapping(load: Segment, start: int, end: int, file: MappedFile | None) -> Mapping:
    if file is None:
        return Mapping(start, end, permissions(load.flags), None, None, None, load.number)
    offset = file.offset + start - file.start
    return Mapping(start, end, permissions(load.flags), offset, file.path, None, load.number)


def permissions(flags: int) -> str:
    """p_flags as /proc/PID/maps writes them. A core does not say what was shared: p."""
    return ("r" if flags & 4 else "-") + ("w" if flags & 2 else "-") + ("x" if flags & 1 else "-") + "p"
