"""Names of regions, found without labels, on made cores that have what the rules speak of."""

import json
import struct
from pathlib import Path

import pytest
from makecore import Header, auxv_64, core, file_note_64, note, prpsinfo_64, prstatus_x86_64

import memfs
from memfs.api import OpenImage
from memfs.facts.regions import Region

PAGE = 4096
EXE, LIB, STACK, VDSO = 0x400000, 0x7F0000000000, 0x7FFF00000000, 0x7FFF10000000
MALLOC = struct.pack("<QQ", 0, 0x291)


def load(address: int, flags: int, pages: int = 1, data: bytes = b"") -> Header:
    return Header(1, flags, address, data, pages * PAGE)


def opened(
    tmp_path: Path,
    headers: list[Header],
    *files: tuple[int, int, int, bytes],
    threads: dict[int, int] | None = None,
    **aux: int,
) -> OpenImage:
    """A core of process 10 with these PT_LOADs, lines of NT_FILE, stack pointers by tid, and auxiliary vector."""
    notes = b""
    for tid, sp in (threads or {10: STACK + 100}).items():
        notes += note(b"CORE", 1, prstatus_x86_64(tid, sp, EXE, 11))
    notes += note(b"CORE", 3, prpsinfo_64(10)) + note(b"CORE", 6, auxv_64(AT_ENTRY=EXE, **aux))
    if files:
        notes += note(b"CORE", 0x46494C45, file_note_64(*files))
    path = tmp_path / "regions.core"
    path.write_bytes(core(headers, notes))
    return memfs.open(str(path))


def names(image: OpenImage) -> dict[str, Region]:
    return {region.name: region for region in image.regions}


def test_files_by_permissions(tmp_path: Path) -> None:
    flags = [4, 5, 6, 7, 0, 3]
    headers = [load(EXE + i * PAGE, f) for i, f in enumerate(flags)]
    file = (EXE, EXE + 6 * PAGE, 0, b"/usr/bin/prog")
    got = names(opened(tmp_path, headers, file))
    assert list(got) == ["prog.rodata", "prog.text", "prog.data", "prog.rwx", "prog.none", "prog.-wx"]
    assert [r.offset for r in got.values()] == [i * PAGE for i in range(6)]


def test_bss_heap_and_the_rest(tmp_path: Path) -> None:
    headers = [
        load(EXE, 5), load(EXE + PAGE, 6), load(EXE + 2 * PAGE, 6),
        load(EXE + 0x100000, 6, 2, MALLOC), load(EXE + 0x102000, 6),
        load(LIB, 5), load(LIB + PAGE, 6), load(LIB + 2 * PAGE, 6), load(LIB + 3 * PAGE, 0), load(LIB + 5 * PAGE, 6),
        load(STACK, 6), load(VDSO, 5, 1, b"\x7fELF"), load(0xFFFFFFFFFF600000, 1),
    ]  # fmt: skip
    files = [
        (EXE, EXE + 2 * PAGE, 0, b"/bin/a (deleted)"),
        (LIB, LIB + PAGE, 0, b"/lib/libx.so"),
        (LIB + PAGE, LIB + 2 * PAGE, 1, b"/lib/libx.so"),
    ]
    got = names(opened(tmp_path, headers, *files, AT_RANDOM=STACK + 200, AT_SYSINFO_EHDR=VDSO))
    assert list(got) == [
        "a.text", "a.data", "a.bss", "heap", "libx.so.text", "libx.so.data", "libx.so.bss",
        f"guard.{LIB + 3 * PAGE:x}", f"anon.{LIB + 5 * PAGE:x}", "stack", "vdso", "vsyscall",
    ]  # fmt: skip
    assert got["heap"].size == 3 * PAGE, "adjoining mappings are one heap"
    assert (got["heap"].sure, got["a.text"].deleted, got["a.text"].path) == (True, True, "/bin/a")
    assert [got[n].kind for n in ("a.bss", "heap", "stack", "vdso")] == ["bss", "heap", "stack", "vdso"]


@pytest.mark.parametrize(("data", "sure"), [(MALLOC, True), (b"", False), (b"\xff" * 16, False)])
def test_a_heap_is_sure_if_it_looks_like_malloc(tmp_path: Path, data: bytes, sure: bool) -> None:
    headers = [load(EXE, 5), load(EXE + 0x10000, 6, 1, data)]
    assert names(opened(tmp_path, headers, (EXE, EXE + PAGE, 0, b"/bin/a")))["heap"].sure is sure


def test_no_heap_beyond_the_reach_of_brk(tmp_path: Path) -> None:
    headers = [load(EXE, 5), load(EXE + (2 << 30), 6, 1, MALLOC)]
    assert "heap" not in names(opened(tmp_path, headers, (EXE, EXE + PAGE, 0, b"/bin/a")))


def test_stacks_of_threads(tmp_path: Path) -> None:
    headers = [load(LIB, 6), load(LIB + 0x10000, 6), load(STACK, 6)]
    threads = {11: LIB + 8, 12: LIB + 0x10008, 13: LIB + 0x10010, 10: STACK + 8}
    got = names(opened(tmp_path, headers, threads=threads, AT_RANDOM=STACK + 64))
    assert list(got) == ["stack:11", f"anon.{LIB + 0x10000:x}", "stack"]
    assert got[f"anon.{LIB + 0x10000:x}"].stacks == (12, 13)
    assert got["stack"].stacks == (10,)


def test_the_same_name_again(tmp_path: Path) -> None:
    headers = [load(LIB + i * 2 * PAGE, 4) for i in range(3)]
    files = [(h.address, h.address + PAGE, 0, b"/lib/a.so") for h in headers]
    assert list(names(opened(tmp_path, headers, *files))) == ["a.so.rodata", "a.so.rodata~2", "a.so.rodata~3"]


def test_names_of_an_attacker(tmp_path: Path) -> None:
    headers = [load(LIB + i * 2 * PAGE, 4) for i in range(4)]
    paths = [b"/lib/..", b"/lib/a\nb%", b"/" + b"x" * 300, b"/lib/\xff\xfe"]
    files = [(h.address, h.address + PAGE, 0, path) for h, path in zip(headers, paths, strict=True)]
    image = opened(tmp_path, headers, *files)
    got = list(names(image))
    assert got[:2] == ["%2E..rodata", "a%0Ab%25.rodata"]
    assert len(got[2]) == 255
    assert got[3] == "\udcff\udcfe.rodata"
    assert b"/lib/a\\012b%" in image.cat("maps")
    assert image.cat("regions.json").isascii()
    for name in got:
        assert image.node(f"regions/{name}")


def test_a_file_that_no_segment_covers(tmp_path: Path) -> None:
    image = opened(tmp_path, [load(STACK, 6)], (LIB, LIB + PAGE, 3, b"/lib/left.so"))
    region = names(image)["left.so.absent"]
    record = next(r for r in json.loads(image.cat("regions.json")) if r["name"] == region.name)
    assert (record["permissions"], record["offset"], record["data"], record["path"]) == (
        None,
        "0x3000",
        0,
        "/lib/left.so",
    )
    assert f"{LIB:x}-{LIB + PAGE:x} ---- 00003000".encode() in image.cat("maps")
    assert record["absent"] == PAGE
    with pytest.raises(memfs.AbsentMemory) as caught:
        image.read(LIB, 1)
    assert not caught.value.gap


@pytest.mark.parametrize(
    ("loads", "want"),
    [
        ([], [(0, 6, None)]),
        ([(0, 6)], [(0, 6, "r--p")]),
        ([(0, 2)], [(0, 2, "r--p"), (2, 6, None)]),
        ([(4, 2)], [(0, 4, None), (4, 6, "r--p")]),
        ([(1, 1), (3, 1)], [(0, 1, None), (1, 2, "r--p"), (2, 3, None), (3, 4, "r--p"), (4, 6, None)]),
        ([(0, 5), (1, 1)], [(0, 5, "r--p"), (1, 2, "r--p"), (5, 6, None)]),
    ],
)
def test_what_segments_leave_out_of_a_file(
    tmp_path: Path, loads: list[tuple[int, int]], want: list[tuple[int, int, str | None]]
) -> None:
    """PT_LOADs of a file of six pages: the rest of it is a region too, and no byte of it is lost to the sums."""
    headers = [Header(1, 4, LIB + at * PAGE, b"x" * (n * PAGE)) for at, n in loads]
    image = opened(tmp_path, [*headers, load(STACK, 6)], (LIB, LIB + 6 * PAGE, 10, b"/lib/a.so"))
    mine = [r for r in image.regions if r.path == "/lib/a.so"]
    assert [((r.start - LIB) // PAGE, (r.end - LIB) // PAGE, r.permissions) for r in mine] == want
    assert all(r.offset == 10 * PAGE + r.start - LIB for r in mine)
    records = [r for r in json.loads(image.cat("regions.json")) if r["path"] == "/lib/a.so"]
    assert [r["absent"] for r in records] == [0 if p else (b - a) * PAGE for a, b, p in want]


def test_an_address_in_the_widest_of_many(tmp_path: Path) -> None:
    """Dozens of small segments over the beginning of a large one do not hide its end."""
    small = [Header(1, 4, LIB + i * 32, b"s" * 16) for i in range(50)]
    image = opened(tmp_path, [Header(1, 6, LIB, b"B" * (4 * PAGE)), *small])
    assert image.cat(f"at/{LIB + 3 * PAGE:#x}") == b"B" * PAGE
    with pytest.raises(memfs.MemfsError):
        image.node(f"at/{LIB + 4 * PAGE:#x}")


def test_a_segment_is_cut_where_another_file_begins(tmp_path: Path) -> None:
    files = [(LIB, LIB + PAGE, 0, b"/a"), (LIB + 2 * PAGE, LIB + 3 * PAGE, 7, b"/b")]
    got = names(opened(tmp_path, [load(LIB, 4, 4)], *files))
    assert [(n, r.start, r.end) for n, r in got.items()] == [
        ("a.rodata", LIB, LIB + PAGE),
        (f"anon.{LIB + PAGE:x}", LIB + PAGE, LIB + 2 * PAGE),
        ("b.rodata", LIB + 2 * PAGE, LIB + 3 * PAGE),
        (f"anon.{LIB + 3 * PAGE:x}", LIB + 3 * PAGE, LIB + 4 * PAGE),
    ]


def test_overlapping_segments(tmp_path: Path) -> None:
    headers = [load(LIB, 4, 2), load(LIB + PAGE, 6, 1, b"first"), load(LIB + PAGE, 6, 1, b"second")]
    image = opened(tmp_path, headers)
    assert image.read(LIB + PAGE, 5) == b"first", "the first that has data, though another claims the place before it"
    segments = [n for n in image.tree.lookup("segments").names() if n.endswith("rw-")]
    reader = image.node(f"segments/{segments[1]}").open()
    buffer = bytearray(6)
    assert reader.readinto(0, memoryview(buffer)) == 6
    assert buffer == b"second"
