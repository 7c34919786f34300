"""Regions: memory by meaning. Names come from labels where the source has them, else from NT_FILE, the auxiliary
vector, stack pointers and place. Source of the rules for the heap: mm/mmap.c and fs/binfmt_elf.c (brk), Linux 6.12;
glibc's malloc/malloc.c (the first chunk of the main arena)."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from typing import NamedTuple

from memfs.errors import MemfsError
from memfs.facts import auxv, threads
from memfs.facts.naming import unique
from memfs.image import Area, Image, Mapping, Tally, fact

_VSYSCALL = 0xFFFFFFFFFF600000
_HEAP_WITHIN = {64: 1 << 30, 32: 1 << 25}
"""How far above the executable a randomised brk may begin (arch_randomize_brk: SZ_1G, 0x02000000)."""

_SUFFIXES = {"r-x": "text", "r--": "rodata", "rw-": "data", "rwx": "rwx", "---": "none", None: "absent"}


_WALKED = ("vmalloc", "modules", "vmemmap")
"""Areas of a live kernel of which page tables alone say what there is."""


class Region(NamedTuple):
    """A named piece of the address space."""

    name: str
    start: int
    end: int
    permissions: str | None  # "r-xp"
    offset: int | None
    path: str | None  # without " (deleted)"
    deleted: bool
    kind: str  # heap, stack, vdso, vsyscall, file, bss, anon, guard, area (of a kernel)
    sure: bool
    stacks: tuple[int, ...]  # threads whose stack pointer points into it

    @property
    def size(self) -> int:
        return self.end - self.start


class _Piece:
    """A mapping on its way to become a region."""

    __slots__ = ("end", "kind", "label", "mapping", "name", "stacks", "start", "sure")

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping
        self.start = mapping.start
        self.end = mapping.end
        self.kind = ""
        self.name = ""
        self.sure = True
        self.stacks: tuple[int, ...] = ()
        self.label: str | None = mapping.label

    def set(self, kind: str, name: str | None = None, sure: bool = True) -> None:
        self.kind, self.name, self.sure = kind, name or kind, sure

    @property
    def is_anonymous(self) -> bool:
        return self.mapping.path is None and not self.kind

    @property
    def access(self) -> str | None:
        return self.mapping.permissions[:3] if self.mapping.permissions else None


@fact
def _pieces(image: Image) -> list[_Piece]:
    """The mappings by address, named by the rules below."""
    pieces = [_Piece(mapping) for mapping in image.process.mappings()]
    _name_labelled(pieces)
    _name_files(pieces)
    labelled = image.process.identity() is not None  # by the kernel itself
    if not labelled:
        _name_by_address(image, pieces)
        _name_stacks(image, pieces)
    _name_thread_stacks(image, pieces)
    if not labelled:
        _name_heap(image, pieces)
    for piece in pieces:
        if not piece.kind:
            kind = "guard" if piece.access == "---" else "anon"
            piece.set(kind, f"{kind}.{piece.start:x}")
        elif piece.kind == "stack":
            piece.label = f"[{piece.name}]"
    return pieces


@fact
def regions(image: Image) -> list[Region]:
    """All regions by address, each with a name of its own, fit for a file."""
    if image.kernel is not None:
        return [_area(area) for area in image.kernel.areas()]
    joined = list(_joined(_pieces(image)))
    names = unique(piece.name for piece in joined)
    return [_region(piece, name) for piece, name in zip(joined, names, strict=True)]


@fact
def mappings(image: Image) -> list[Mapping]:
    """The mappings as /proc/PID/maps lists them, with the labels that were found."""
    if image.kernel is not None:
        return [
            Mapping(area.start, area.end, f"{area.permissions}p", None, None, f"[{area.name}]", None)
            for area in image.kernel.areas()
        ]
    return [piece.mapping._replace(label=piece.label) for piece in _pieces(image)]


@fact
def _starts(image: Image) -> list[int]:
    return [region.start for region in regions(image)]


def region_at(image: Image, address: int) -> Region | None:
    """The region that holds an address."""
    everything = regions(image)
    index = bisect_right(_starts(image), address) - 1
    for candidate in reversed(everything[max(0, index - 8) : index + 1]):
        if candidate.start <= address < candidate.end:
            return candidate
    widest = everything[_widest(image)[index]] if index >= 0 else None  # far below, under many that overlap it
    return widest if widest and address < widest.end else None


@fact
def _widest(image: Image) -> list[int]:
    """For each region, which one reaches farthest: it, or one before it."""
    ends = [region.end for region in regions(image)]
    widest: list[int] = []
    for index, end in enumerate(ends):
        widest.append(widest[-1] if index and ends[widest[-1]] >= end else index)
    return widest


def tally(image: Image, region: Region) -> Tally | None:
    """Its bytes of data, zero and absent; None where counting would need a read."""
    if image.kernel is not None and image.live is not None and region.name in _WALKED:
        return None  # page tables would have to be read, and say something else a moment later
    space = image.kernel.area_space() if image.kernel is not None else image.space
    return space.tally(region.start, region.end)


@fact
def executable(image: Image) -> str | None:
    """The executable's path: of the file that holds AT_PHDR or AT_ENTRY."""
    for type_ in (auxv.AT_PHDR, auxv.AT_ENTRY):
        address = auxv.value(image, type_)
        region = region_at(image, address) if address else None
        if region and region.path:
            return region.path
    return None


# -- rules, in the order in which they are applied -----------------------------------------------------------------


_LABELS = {"heap", "stack", "vdso", "vvar", "vsyscall"}


def _name_labelled(pieces: Sequence[_Piece]) -> None:
    """What the kernel has labelled: [heap], [anon:NAME]."""
    for piece in pieces:
        if piece.label:
            name = piece.label.removeprefix("[").removesuffix("]")
            kind = name.partition(":")[0]
            piece.set(kind if kind in _LABELS else "anon", name or "anon")


def _name_files(pieces: Sequence[_Piece]) -> None:
    """Mapped files by base name and permissions; the bss that follows their data."""
    previous: _Piece | None = None
    for piece in pieces:
        path = piece.mapping.path
        if path is not None:
            base = strip_deleted(path).rpartition("/")[2] or "file"
            piece.set("file", f"{base}.{_SUFFIXES.get(piece.access, piece.access)}")
        elif (
            piece.is_anonymous  # and not what the kernel calls [heap]: without randomisation that follows the data
            and previous is not None
            and previous.mapping.path is not None
            and previous.mapping.permissions == piece.mapping.permissions == "rw-p"
            and previous.end == piece.start
        ):
            base = strip_deleted(previous.mapping.path).rpartition("/")[2] or "file"
            piece.set("bss", f"{base}.bss")
        previous = piece


def _name_by_address(image: Image, pieces: Sequence[_Piece]) -> None:
    """What has a place of its own: the vdso, the vsyscall page."""
    vdso = auxv.value(image, auxv.AT_SYSINFO_EHDR)
    for piece in pieces:
        if piece.is_anonymous and piece.start == vdso:
            piece.set("vdso")
            piece.label = "[vdso]"
        elif piece.is_anonymous and piece.start == _VSYSCALL and image.target.arch == "x86_64":
            piece.set("vsyscall")
            piece.label = "[vsyscall]"


def _finder(pieces: Sequence[_Piece]) -> Callable[[int | None], _Piece | None]:
    """What finds the piece without a file that holds an address."""
    starts = [piece.start for piece in pieces]

    def find(address: int | None) -> _Piece | None:
        index = bisect_right(starts, address) - 1 if address else -1
        piece = pieces[index] if index >= 0 and address is not None and address < pieces[index].end else None
        return piece if piece is not None and piece.mapping.path is None else None

    return find


def _stack_pointers(image: Image, find: Callable[[int | None], _Piece | None]) -> dict[_Piece, list[int]]:
    """The threads whose stack pointers point into a piece, for each that has some."""
    pointers: dict[_Piece, list[int]] = {}
    for thread in threads.threads(image):
        piece = find(thread.sp)
        if piece is not None:
            pointers.setdefault(piece, []).append(thread.tid)
    return pointers


def _name_stacks(image: Image, pieces: Sequence[_Piece]) -> None:
    """The stack of the main thread: where the kernel laid things out at exec, or where its stack pointer points."""
    find = _finder(pieces)
    main = threads.main_thread(image)
    shared = {piece for piece, tids in _stack_pointers(image, find).items() if len(tids) > 1}
    laid_out = (auxv.value(image, auxv.AT_RANDOM), auxv.value(image, auxv.AT_EXECFN))
    for address in (*laid_out, main.sp if main else None):
        piece = find(address)
        if piece is not None and piece.is_anonymous and (address in laid_out or piece not in shared):
            piece.set("stack")
            break


def _name_thread_stacks(image: Image, pieces: Sequence[_Piece]) -> None:
    """Mappings into which stack pointers point: of one thread, and it is its stack."""
    for piece, tids in _stack_pointers(image, _finder(pieces)).items():
        piece.stacks = tuple(tids)
        if len(tids) == 1 and piece.is_anonymous:
            piece.set("stack", f"stack:{tids[0]}")


def _name_heap(image: Image, pieces: Sequence[_Piece]) -> None:
    """The first anonymous rw- mapping above the executable and its bss, within reach of brk and below all else
    that is mapped; what adjoins it is the same heap."""
    if image.target.os != "linux":
        return
    last = _last_of_executable(image, pieces)
    if last is None:
        return
    reach = pieces[last].end + _HEAP_WITHIN[image.target.bits]
    for index in range(last + 1, len(pieces)):
        piece = pieces[index]
        if not piece.is_anonymous or piece.start > reach or piece.stacks:
            return
        if piece.access != "rw-":
            continue
        sure = _looks_like_malloc(image, piece)
        end = piece.start
        for follower in pieces[index:]:
            if not follower.is_anonymous or follower.access != "rw-" or follower.start != end:
                break
            follower.set("heap", sure=sure)
            follower.label = "[heap]"
            end = follower.end
        return


def _last_of_executable(image: Image, pieces: Sequence[_Piece]) -> int | None:
    """The index of the last mapping of the executable, its bss with it."""
    entry = next((v for t in (auxv.AT_PHDR, auxv.AT_ENTRY) if (v := auxv.value(image, t))), None)
    if entry is None:
        return None
    home = next((i for i, piece in enumerate(pieces) if piece.start <= entry < piece.end), None)
    if home is None:
        return None
    path = pieces[home].mapping.path
    last = home
    for index in range(home + 1, len(pieces)):
        piece = pieces[index]
        if (path is not None and piece.mapping.path == path) or (piece.kind == "bss" and index == last + 1):
            last = index
        elif path is None and piece.is_anonymous and piece.start == pieces[last].end:
            last = index  # without NT_FILE: what adjoins the executable's text is its data and bss
        else:
            break
    return last


def _looks_like_malloc(image: Image, piece: _Piece) -> bool:
    """Whether it begins with a chunk header of glibc's malloc: a plausible size with PREV_INUSE set."""
    word = image.target.word
    head = bytearray(4 * word)
    try:
        got = image.space.readinto(piece.start, memoryview(head))
    except MemfsError:
        return False
    order = "little" if image.target.order == "little" else "big"
    sizes = [int.from_bytes(head[i * word : (i + 1) * word], order) for i in (1, 3) if (i + 1) * word <= got]  # type: ignore[arg-type]
    candidates = sizes if word == 4 else sizes[:1]  # 32-bit heaps may begin 8 bytes late, to align user memory
    return any(size & 7 == 1 and 4 * word <= size & ~7 <= piece.end - piece.start for size in candidates)


# -- joining and naming --------------------------------------------------------------------------------------------


def _joined(pieces: Iterable[_Piece]) -> Iterator[_Piece]:
    """Adjoining mappings with the same bracketed label are one region."""
    last: _Piece | None = None
    for piece in pieces:
        if last is not None and piece.label and piece.label == last.label and piece.start == last.end:
            last = copy(last)  # the pieces themselves stay what `maps` lists
            last.end = piece.end
            last.stacks += piece.stacks
        else:
            if last is not None:
                yield last
            last = piece
    if last is not None:
        yield last


def _region(piece: _Piece, name: str) -> Region:
    mapping = piece.mapping
    return Region(
        name=name,
        start=piece.start,
        end=piece.end,
        permissions=mapping.permissions,
        offset=mapping.offset,
        path=strip_deleted(mapping.path) if mapping.path is not None else None,
        deleted=bool(mapping.path and mapping.path.endswith(_DELETED)),
        kind=piece.kind,
        sure=piece.sure,
        stacks=piece.stacks,
    )


def _area(area: Area) -> Region:
    return Region(
        area.name, area.start, area.end, f"{area.permissions}p", None, None, False, kind="area", sure=True, stacks=()
    )


_DELETED = " (deleted)"


def strip_deleted(path: str) -> str:
    """A path without what the kernel appends when the file is gone."""
    return path.removesuffix(_DELETED)
