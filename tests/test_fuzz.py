"""Mutated headers and notes, of made cores and of real ones: everything is looked through, MemfsError alone may be
raised, in bounded time and memory. FUZZ=N in the environment makes it N examples, and takes larger real cores.

What fails is written to .hypothesis/failed; every such input is kept in tests/seeds, and looked through for ever."""

import contextlib
import itertools
import json
import lzma
import os
import resource
import signal
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from looking import look_through
from makecore import (
    MACHINES,
    PT_LOAD,
    PT_NOTE,
    Header,
    auxv_64,
    core,
    ehdr,
    file_note_64,
    note,
    phdr,
    prstatus,
    small_core,
)  # fmt: skip
from needs import CI, REPO, SHARED, need_corpus

import memfs
from memfs.errors import MemfsError
from memfs.io.cache import Cache
from memfs.tree.node import Dir

LONG = "FUZZ" in os.environ
EXAMPLES = int(os.environ.get("FUZZ", "80"))
FEW = max(1, EXAMPLES // 10)  # of each of many real cores
SMALL = 30_000
REAL_AT_MOST = 1 << 20 if LONG else SMALL
SECONDS = 10
MEMORY, MEMORY_A_BYTE = 64 << 20, 40
FAILED = REPO / ".hypothesis" / "failed"
SEEDS = Path(__file__).parent / "seeds"
CORPUS = SHARED / "corpus"
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=CI,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
Ranges = list[tuple[int, int]]

# -- the property --------------------------------------------------------------------------------------------------


def _too_long(number: int, frame: object) -> NoReturn:
    raise AssertionError(f"this took more than {SECONDS} s of CPU")


@contextlib.contextmanager
def bounded(size: int) -> Iterator[None]:
    """Stop what takes more time or memory than a file of this size deserves: an AssertionError, a MemoryError."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    handler = signal.signal(signal.SIGPROF, _too_long)
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY + MEMORY_A_BYTE * size, limits[1]))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGPROF, handler)


def keep(data: bytes, error: BaseException) -> None:
    """The input that failed, beside the message how it becomes a seed. The last one is the smallest."""
    test = os.environ["PYTEST_CURRENT_TEST"].partition("::")[2].partition(" ")[0].replace("/", "-")
    FAILED.mkdir(parents=True, exist_ok=True)
    path = FAILED / f"{test}.core.xz"
    path.write_bytes(lzma.compress(data))
    error.add_note(f"keep this input: cp '{path}' tests/seeds/WHAT-IT-IS.core.xz")


def survives(path: Path, data: bytes) -> None:
    """Everything can be looked at, or the image is refused."""
    path.write_bytes(data)
    try:
        with bounded(len(data)):
            look_at(path, len(data))
    except BaseException as error:
        keep(data, error)
        raise


def look_at(path: Path, size: int) -> None:
    try:
        image = memfs.open(path)
    except MemfsError as error:
        assert "\n" not in str(error)
        return
    with image:
        look_through(image.tree, None)
        for name in ("notes", "segments", "regions", "threads"):
            directory = image.tree.lookup(name)
            assert isinstance(directory, Dir)
            assert len(directory.names()) <= size, "there are no more names than the file has bytes"
        for region in itertools.islice(image.regions, 20):
            assert len(image.read(region.start, min(region.size, 64), fill=b"?")) == min(region.size, 64)
            image.node(f"at/{region.start:#x}")


# -- a core taken apart, edited, put together -----------------------------------------------------------------------


class RawNote(NamedTuple):
    """A note, and the sizes that its header claims where they are not its own."""

    owner: bytes
    type: int
    desc: bytes
    name_size: int | None = None
    desc_size: int | None = None


@dataclass
class Parts:
    """What a core is made of. The PT_NOTE without an offset is where `notes` go."""

    data: bytes
    bits: int
    order: str
    fields: dict[str, int]
    headers: list[Header]
    notes: list[RawNote]
    claims: dict[str, int] = field(default_factory=dict)  # fields of the ELF header, whatever the truth is
    ident: dict[int, int] = field(default_factory=dict)  # bytes of e_ident
    extended: int | None = None  # the number of program headers in section header 0
    cut: int = 0  # bytes off the end, where the notes and the table are


_EHDR = {
    "e_type": 16, "e_machine": 16, "e_version": 32, "e_entry": 0, "e_phoff": 0, "e_shoff": 0, "e_flags": 32,
    "e_ehsize": 16, "e_phentsize": 16, "e_phnum": 16, "e_shentsize": 16, "e_shnum": 16, "e_shstrndx": 16,
}  # fmt: skip
"""The fields of the ELF header with their bits; 0 is as many as an address has."""

_PHDR = {
    64: ("type", "flags", "offset", "address", "physical", "file_size", "memory_size", "alignment"),
    32: ("type", "offset", "address", "physical", "file_size", "memory_size", "flags", "alignment"),
}
_CODES = {64: ("HHIQQQIHHHHHH", "IIQQQQQQ"), 32: ("HHIIIIIHHHHHH", "IIIIIIII")}
_HEADERS_AT_MOST = 120
"""Every look at memory costs as much as the pieces that lie over each other there: not their square, please."""


def taken_apart(data: bytes) -> Parts:
    """A sound core's parts."""
    bits, order, fields = 32 * data[4], "<>"[data[5] - 1], _fields(data)
    headers = _headers(data)
    notes = [n for header in headers if header.type == PT_NOTE for n in _notes(data, order, header)]
    others = [header for header in headers if header.type != PT_NOTE]
    return Parts(data, bits, order, fields, [Header(PT_NOTE, 4, 0, memory_size=0), *others], notes)


def _fields(data: bytes) -> dict[str, int]:
    code = "<>"[data[5] - 1] + _CODES[32 * data[4]][0]
    return dict(zip(_EHDR, struct.unpack_from(code, data, 16), strict=True))


def _headers(data: bytes) -> list[Header]:
    fields, bits = _fields(data), 32 * data[4]
    row = struct.Struct("<>"[data[5] - 1] + _CODES[bits][1])
    table = data[fields["e_phoff"] :][: fields["e_phnum"] * row.size]
    return [Header(**dict(zip(_PHDR[bits], values, strict=True))) for values in row.iter_unpack(table)]


def described(data: bytes) -> Ranges:
    """Where a sound core's headers and notes lie."""
    fields, headers = _fields(data), _headers(data)
    table = fields["e_phoff"]
    notes = [(h.offset or 0, (h.offset or 0) + (h.file_size or 0)) for h in headers if h.type == PT_NOTE]
    every = [(4, 8), (16, 64), (table, table + fields["e_phentsize"] * fields["e_phnum"]), *notes]
    return [(low, min(high, len(data))) for low, high in every if low < min(high, len(data))]


def _notes(data: bytes, order: str, header: Header) -> Iterator[RawNote]:
    position = header.offset or 0
    end = min(len(data), position + (header.file_size or 0))
    while position + 12 <= end:
        name_size, desc_size, type_ = struct.unpack_from(order + "III", data, position)
        desc = position + 12 + name_size + -name_size % 4
        yield RawNote(data[position + 12 :][:name_size].rstrip(b"\0"), type_, data[desc : desc + desc_size])
        position = desc + desc_size + -desc_size % 4


def put_together(parts: Parts) -> bytes:
    """The old bytes where they were, behind them the notes, the table, and a section header if one is needed."""
    bits, order = parts.bits, parts.order
    notes = b"".join(_packed(n, order) for n in parts.notes)[:SMALL]
    table = b"".join(_row(parts, h, len(notes)) for h in parts.headers[:_HEADERS_AT_MOST])
    body = parts.data[len(ehdr(bits)) :] + notes + table
    end = len(ehdr(bits)) + len(body)
    fields = {**parts.fields, "e_phoff": end - len(table), "e_phnum": len(parts.headers[:_HEADERS_AT_MOST])}
    if parts.extended is not None:
        fields.update(e_phnum=0xFFFF, e_shoff=end)
        body += bytes(bits // 8 * 4 + 12) + struct.pack(order + "I", masked(parts.extended, 32)) + bytes(bits // 4)
    fields = {name: masked(value, _EHDR[name] or bits) for name, value in (fields | parts.claims).items()}
    head = bytearray(ehdr(bits, order, fields.pop("e_machine"), **fields))
    for index, value in parts.ident.items():
        head[index] = value
    return (bytes(head) + body)[: end - min(parts.cut, len(notes) + len(table)) if parts.cut else None]


def _row(parts: Parts, header: Header, notes_size: int) -> bytes:
    """A program header; of the notes, where they are now."""
    at = len(parts.data) if header.offset is None else header.offset
    sized = header if header.file_size is not None else header._replace(file_size=notes_size)
    bits = {name: parts.bits for name in _PHDR[64] if name != "offset"} | {"type": 32, "flags": 32}
    values = {name: masked(getattr(sized, name), width) for name, width in bits.items()}
    return phdr(parts.bits, parts.order, Header(**values), masked(at, parts.bits))


def _packed(raw: RawNote, order: str) -> bytes:
    out = note(raw.owner, masked(raw.type, 32), raw.desc, order)
    sizes = zip(struct.unpack_from(order + "II", out), (raw.name_size, raw.desc_size), strict=True)
    return struct.pack(order + "II", *(own if other is None else masked(other, 32) for own, other in sizes)) + out[8:]


def masked(number: int, bits: int) -> int:
    return number & ((1 << bits) - 1)


OWNERS = (
    b"CORE", b"LINUX", b"FreeBSD", b"NetBSD-CORE", b"NetBSD-CORE@1", b"OpenBSD", b"OpenBSD@7", b"GNU", b"VMCOREINFO",
    b"QNX", b"SPU/1", b"", b"/", b"..", b"../" * 30, b"\xff\xfe", b"a\nb", b"\x1b[2J", b"n" * 4000, b"CORE\0x",
)  # fmt: skip
TYPES = (0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 13, 16, 20, 0x200, 0x202, 0x46494C45, 0x53494749, 0x46E62B7F, 0xFFFFFFFF)
MACHINES_CLAIMED = (0, 2, 3, 4, 8, 20, 21, 22, 40, 43, 50, 62, 183, 243, 258, 0x9026, 0xFFFF)
NUMBERS = (
    0, 1, 2, 4, 7, 16, 56, 64, 0x200, 0x1000, 0x7000, 0x7FFF, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFF000,
    0xFFFFFFFF, 1 << 40, (1 << 63) - 4096, (1 << 63) - 1, 1 << 63, (1 << 64) - 4096, (1 << 64) - 16, (1 << 64) - 1,
)  # fmt: skip
PATHS = (
    b"../..", b"/", b"//", b".", b"..", b"/.hidden", b"", b"/bin/x", b"/lib/" + b"x" * 4091, b"y" * 5000, b"/\xff\xfe",
    b"/a\nb", b"/new\nline (deleted)", b" (deleted)", b"/%2F", b"/\x1b[2J",
    b"/a~2", b"/a", b"\xed\xb2\x80", b"/dev/zero",
)  # fmt: skip

Edit = Callable[[Parts, int, int, int], None]


def _of_header(name: str) -> Edit:
    """Exchange a field of program header `a`."""

    def edit(parts: Parts, a: int, b: int, value: int) -> None:
        index = a % len(parts.headers)
        parts.headers[index] = parts.headers[index]._replace(**{name: value})

    return edit


def _of_note(change: Callable[[RawNote, int, int], RawNote]) -> Edit:
    """Exchange note `a` for what `change` makes of it."""

    def edit(parts: Parts, a: int, b: int, value: int) -> None:
        if parts.notes:
            index = a % len(parts.notes)
            parts.notes[index] = change(parts.notes[index], b, value)

    return edit


def _of_list(name: str, change: Callable[[list[Header] | list[RawNote], int, int], None]) -> Edit:
    """Change the order or number of the headers or notes; one header always stays."""

    def edit(parts: Parts, a: int, b: int, value: int) -> None:
        items = getattr(parts, name)
        if len(items) > 1:
            change(items, a % len(items), b)

    return edit


def _swap(items: list[Header] | list[RawNote], index: int, b: int) -> None:
    other = b % len(items)
    items[index], items[other] = items[other], items[index]  # type: ignore[call-overload] # both are of one list


def _duplicate(items: list[Header] | list[RawNote], index: int, b: int) -> None:
    items[index:index] = [items[index]] * b  # type: ignore[list-item] # its own


def _drop(items: list[Header] | list[RawNote], index: int, b: int) -> None:
    first = max(1, index)
    del items[first : first + 1 + b % 4]


def _overlap(parts: Parts, a: int, b: int, value: int) -> None:
    """PT_LOADs one over the other."""
    parts.headers += [Header(PT_LOAD, a & 7, value + i, b"", 2 * b, b, 64) for i in range(b)]


def _word(raw: RawNote, b: int, value: int) -> RawNote:
    """A word of the descriptor exchanged."""
    size = len(raw.desc)
    at = 4 * b % max(1, size)
    desc = raw.desc[:at] + struct.pack("<Q", masked(value, 64)) + raw.desc[at + 8 :]
    return raw._replace(desc=desc[:size])


def _files(parts: Parts, a: int, b: int, value: int) -> None:
    """An NT_FILE of hostile paths, wherever."""
    starts = [masked(value + i * b, 64) for i in range(a)]
    rows = [(start, masked(start + b, 64), i, PATHS[(a + i) % len(PATHS)]) for i, start in enumerate(starts)]
    parts.notes.append(RawNote(b"CORE", 0x46494C45, file_note_64(*rows, page=masked(value, 64))))


EDITS: dict[str, Edit] = {
    "header": lambda parts, a, b, value: parts.claims.update({list(_EHDR)[a % len(_EHDR)]: value}),
    "machine": lambda parts, a, b, value: parts.fields.update(e_machine=MACHINES_CLAIMED[a % len(MACHINES_CLAIMED)]),
    "class": lambda parts, a, b, value: parts.ident.update({4: a % 4}),
    "order": lambda parts, a, b, value: parts.ident.update({5: a % 4}),
    "system": lambda parts, a, b, value: parts.ident.update({7: a}),
    "number": lambda parts, a, b, value: parts.claims.update(e_phnum=max(0, len(parts.headers) + a - 128)),
    "xnum": lambda parts, a, b, value: setattr(parts, "extended", value),
    "cut": lambda parts, a, b, value: setattr(parts, "cut", a * b),
    "header-swap": _of_list("headers", _swap),
    "header-duplicate": _of_list("headers", _duplicate),
    "header-drop": _of_list("headers", _drop),
    "header-overlap": _overlap,
    **{f"header-{name}": _of_header(name) for name in _PHDR[64]},
    "note-swap": _of_list("notes", _swap),
    "note-duplicate": _of_list("notes", _duplicate),
    "note-drop": _of_list("notes", _drop),
    "note-owner": _of_note(lambda raw, b, value: raw._replace(owner=OWNERS[b % len(OWNERS)])),
    "note-type": _of_note(lambda raw, b, value: raw._replace(type=TYPES[b % len(TYPES)])),
    "note-any-type": _of_note(lambda raw, b, value: raw._replace(type=value)),
    "note-cut": _of_note(lambda raw, b, value: raw._replace(desc=raw.desc[: b * 4])),
    "note-longer": _of_note(lambda raw, b, value: raw._replace(desc=raw.desc + bytes(b))),
    "note-name-size": _of_note(lambda raw, b, value: raw._replace(name_size=value)),
    "note-desc-size": _of_note(lambda raw, b, value: raw._replace(desc_size=value)),
    "note-word": _of_note(_word),
    "files": _files,
}


def edited(data: bytes, edits: Sequence[tuple[str, int, int, int]]) -> bytes:
    """A core after some edits."""
    parts = taken_apart(data)
    for name, a, b, value in edits:
        EDITS[name](parts, a, b, value)
    return put_together(parts)


# -- tests ---------------------------------------------------------------------------------------------------------

numbers = st.one_of(st.sampled_from(NUMBERS), st.integers(0, (1 << 64) - 1))
bytes_exchanged = st.lists(
    st.tuples(
        st.floats(0, 1),  # where, as a part of the headers and notes
        st.one_of(
            st.binary(min_size=1, max_size=8),
            st.sampled_from(
                [b"\xff" * 4, b"\xff" * 8, bytes(8), b"\x00\x00\x00\x80", b"\x01\0\0\0\0\0\0\0", b"\xff\x7f"]
            ),
        ),
    ),
    min_size=1,
    max_size=6,
)
edits = st.lists(
    st.tuples(st.sampled_from(sorted(EDITS)), st.integers(0, 255), st.integers(0, 255), numbers), min_size=1, max_size=8
)


def mutated(data: bytes, places: Ranges, changes: Sequence[tuple[float, bytes]]) -> bytes:
    """The bytes with some of those in `places` exchanged."""
    out = bytearray(data)
    total = sum(high - low for low, high in places)
    for where, piece in changes:
        inside = int(where * (total - 1))
        for low, high in places:
            if inside < high - low:
                out[low + inside : low + inside + len(piece)] = piece
                break
            inside -= high - low
    return bytes(out[: len(data)])


def attack(path: Path, data: bytes, examples: int) -> None:
    """Exchange bytes of a core's headers and notes, then edit what they mean."""
    places = described(data)
    limits = settings(FUZZ, max_examples=examples)

    @limits
    @given(changes=bytes_exchanged)
    def exchange(changes: Sequence[tuple[float, bytes]]) -> None:
        survives(path, mutated(data, places, changes))

    @limits
    @given(changes=edits)
    def edit(changes: Sequence[tuple[str, int, int, int]]) -> None:
        survives(path, edited(data, changes))

    exchange()
    edit()


def real_cores() -> dict[str, Path]:
    """The repository's own, and those of the corpus that are small."""
    sizes = {path: json.loads(path.read_text())["size"] for path in sorted(CORPUS.glob("*.json"))}
    small = {path.stem: path.with_suffix(".core.xz") for path, size in sizes.items() if size < REAL_AT_MOST}
    return {"secret": REPO / "examples" / "secret.core", **(small or {"(no corpus)": CORPUS})}


def read(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


REAL = real_cores()
KEPT = sorted(SEEDS.iterdir())


@pytest.mark.parametrize("seed", KEPT, ids=[seed.name for seed in KEPT])
def test_kept_seeds(tmp_path: Path, seed: Path) -> None:
    """Every input that ever failed, and some that were made to."""
    assert seed.stat().st_size < SMALL
    survives(tmp_path / "seed.core", read(seed))


@pytest.mark.parametrize(("bits", "order"), [(64, "<"), (64, ">"), (32, "<"), (32, ">")])
def test_made_cores(tmp_path: Path, bits: int, order: str) -> None:
    attack(tmp_path / "fuzz.core", small_core(bits, order), EXAMPLES)


@pytest.mark.parametrize(("machine", "bits"), MACHINES)
@pytest.mark.parametrize("order", "<>")
def test_made_machines(tmp_path: Path, machine: int, bits: int, order: str) -> None:
    """Each machine's notes, mutated; whatever the size of the descriptor is said to be."""
    notes = note(b"CORE", 1, prstatus(5, 0x7010, 0x1000, 11, machine, bits, order), order)
    notes += b"".join(note(b"CORE", type_, bytes(124), order) for type_ in (2, 3, 6, 0x53494749, 0x46494C45))
    data = core([Header(1, 6, 0x7000, b"stack" * 20)], notes, bits, order, machine)
    attack(tmp_path / "fuzz.core", data, FEW)


@pytest.mark.parametrize("name", REAL)
def test_real_cores(tmp_path: Path, name: str) -> None:
    if name != "secret":
        need_corpus()
    attack(tmp_path / "fuzz.core", read(REAL[name]), FEW)


@FUZZ
@given(data=st.binary(max_size=300))
def test_anything_behind_an_elf_magic(tmp_path: Path, data: bytes) -> None:
    survives(tmp_path / "fuzz.core", b"\x7fELF" + data)


@FUZZ
@given(notes=st.binary(max_size=300), desc=st.binary(max_size=200), type_=st.sampled_from([1, 2, 3, 6, 0x46494C45]))
def test_any_notes(tmp_path: Path, notes: bytes, desc: bytes, type_: int) -> None:
    headers = [Header(PT_NOTE, 0, 0, note(b"CORE", type_, desc)), Header(PT_NOTE, 0, 0, notes)]
    survives(tmp_path / "fuzz.core", core([*headers, Header(1, 6, 0x7000, b"stack" * 20)]))


pages = st.one_of(st.integers(0, 40).map(lambda page: page << 12), numbers)


@FUZZ
@given(
    loads=st.lists(st.tuples(st.integers(0, 7), pages, pages), max_size=20),
    files=st.lists(st.tuples(pages, pages, numbers, st.sampled_from(PATHS)), max_size=20),
    pointers=st.lists(pages, min_size=5, max_size=5),
)
def test_mapped_files(
    tmp_path: Path,
    loads: list[tuple[int, int, int]],
    files: list[tuple[int, int, int, bytes]],
    pointers: list[int],
) -> None:
    """Mappings of any shape under hostile names, with an auxiliary vector and a stack pointer that may lead there."""
    names = ("AT_PHDR", "AT_ENTRY", "AT_RANDOM", "AT_EXECFN", "AT_SYSINFO_EHDR")
    notes = note(b"CORE", 1, prstatus(5, pointers[0], pointers[1], 11))
    notes += note(b"CORE", 6, auxv_64(**dict(zip(names, pointers, strict=True))))
    notes += note(b"CORE", 0x46494C45, file_note_64(*files))
    headers = [Header(PT_LOAD, flags, start, b"name\0" * 10, memory_size=size) for flags, start, size in loads]
    survives(tmp_path / "fuzz.core", core(headers, notes))


def test_small_texts_do_not_keep_closed_images() -> None:
    """A cached text holds on to its image: 64 MiB of texts of three bytes must not be 20 million nodes."""
    cache = Cache(limit=1 << 20)
    for key in range(2000):
        cache.get(key, lambda: b"{}\n")
    assert cache.get(0, lambda: b"made again") == b"made again"
    assert cache.get(1999, lambda: b"made again") == b"{}\n"
