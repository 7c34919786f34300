"""ELF headers and notes of every shape, made byte by byte."""

import json
import re
import struct
from pathlib import Path

import pytest
from makecore import PT_LOAD, PT_NOTE, Header, core, note, prpsinfo_64, prstatus_x86_64

import memfs
from memfs.api import OpenImage
from memfs.elf import notes
from memfs.image import Note


def opened(tmp_path: Path, data: bytes) -> OpenImage:
    path = tmp_path / "made.core"
    path.write_bytes(data)
    return memfs.open(str(path))


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_classes_and_orders(tmp_path: Path, bits: int, order: str) -> None:
    data = core(
        [Header(1, 5, 0x8000, b"abcdef", 10), Header(1, 6, 0x1000, b"xyz")],
        note(b"XYZ", 7, b"desc", order),
        bits,
        order,
        99,
    )
    image = opened(tmp_path, data)
    info = json.loads(image.cat("info.json"))
    assert (info["bits"], info["byte_order"]) == (bits, "little" if order == "<" else "big")
    assert image.cat("notes/000-XYZ-0x7") == b"desc"
    width = bits // 4
    assert list(image.tree.lookup("segments").names()) == [
        "000-note",
        f"001-{0x8000:0{width}x}-r-x",
        f"002-{0x1000:0{width}x}-rw-",
    ]
    assert image.read(0x8000, 6) == b"abcdef"
    assert image.read(0x8000, 10, fill=b"\xff") == b"abcdef" + b"\xff" * 4
    assert image.read(0x1000, 3) == b"xyz"
    assert [r.start for r in image.regions] == [0x1000, 0x8000]


def test_stride_above_the_size_of_a_header(tmp_path: Path) -> None:
    one = struct.pack("<IIQQQQQQ", PT_LOAD, 4, 0, 0x1000, 0, 16, 16, 1)
    two = struct.pack("<IIQQQQQQ", PT_LOAD, 4, 0, 0x2000, 0, 4, 4, 1)
    data = core(e_phnum=2, e_phentsize=100) + one + bytes(44) + two
    assert [s.address for s in opened(tmp_path, data).segments] == [0x1000, 0x2000]


def test_pn_xnum(tmp_path: Path) -> None:
    table = struct.pack("<IIQQQQQQ", PT_LOAD, 4, 0, 0x1000, 0, 16, 16, 1) * 3
    section = struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 3, 0, 0)
    data = core(e_phnum=0xFFFF, e_shoff=64 + len(table)) + table + section
    image = opened(tmp_path, data)
    assert len(image.segments) == 3
    assert json.loads(image.cat("headers.json"))["phnum"] == 3


def test_notes_in_sections_alone(tmp_path: Path) -> None:
    raw = note(b"CORE", 1, prstatus_x86_64(42, 0x10, 0x20, 6)) + note(b"CORE", 3, prpsinfo_64(42))
    sections = struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    sections += struct.pack("<IIQQQQIIQQ", 0, 7, 0, 0, 64, len(raw), 0, 0, 4, 0)
    data = core(e_shoff=64 + len(raw), e_shnum=2, e_shentsize=64) + raw + sections
    image = opened(tmp_path, data)
    assert [t.tid for t in image.threads] == [42]
    assert image.threads[0].signal == "SIGABRT"


def test_bogus_sections_are_not_used(tmp_path: Path) -> None:
    data = core(notes=note(b"CORE", 3, prpsinfo_64(1)), e_shoff=1 << 60, e_shnum=60000, e_shentsize=64)
    assert len(opened(tmp_path, data).notes) == 1


def parse(raw: bytes, alignment: int = 4, size: int | None = None) -> tuple[list[Note], list[str]]:
    warnings: list[str] = []
    found = notes.iter_notes(
        lambda o, s: raw[o : o + s], "<", 0, len(raw) if size is None else size, alignment, warnings.append
    )
    return list(found), warnings


@pytest.mark.parametrize("gap", [4, 8, 12, 52, 156])
def test_zeros_between_notes(gap: int) -> None:
    raw = note(b"CORE", 1, b"one1") + bytes(gap) + note(b"LINUX", 2, b"two")
    found, warnings = parse(raw)
    assert [(n.owner, n.type, raw[n.offset : n.offset + n.size]) for n in found] == [
        ("CORE", 1, b"one1"),
        ("LINUX", 2, b"two"),
    ]
    assert not warnings


@pytest.mark.parametrize("alignment", [0, 1, 4, 8])
def test_alignment_is_4_whatever_the_header_says(alignment: int) -> None:
    found, _ = parse(note(b"LINUX", 1, b"12345") + note(b"CORE", 2, b"6"), alignment)
    assert [(n.owner, n.size) for n in found] == [("LINUX", 5), ("CORE", 1)]


def test_gnu_properties_are_aligned_to_8() -> None:
    raw = note(b"GNU", 5, b"x" * 12, align=8) + note(b"GNU", 5, b"y" * 16, align=8)
    raw = raw.replace(b"x" * 12 + bytes(4), b"x" * 12 + b"pad!")  # not taken for a gap of zeros, nor for a note
    found, _ = parse(raw, 8)
    assert [raw[n.offset : n.offset + n.size] for n in found] == [b"x" * 12, b"y" * 16]


def test_a_name_without_its_nul() -> None:
    found, _ = parse(note(b"LINUX", 1, b"d", nul=False) + note(b"CORE", 1, b"e"))
    assert [n.owner for n in found] == ["LINUX", "CORE"]


def test_a_descriptor_that_reaches_too_far() -> None:
    raw = note(b"CORE", 1, b"whole") + struct.pack("<III", 5, 0xFFFFFFFF, 2) + b"CORE\0\0\0\0rest"
    found, warnings = parse(raw)
    assert [(n.type, n.size) for n in found] == [(1, 5), (2, 4)]
    assert "4,294,967,295" in warnings[0]


def test_a_name_that_reaches_too_far() -> None:
    found, warnings = parse(note(b"CORE", 1, b"whole") + struct.pack("<III", 0xFFFFFFFF, 1, 2) + b"CORE")
    assert len(found) == 1
    assert len(warnings) == 1


def test_endless_zeros_end() -> None:
    found, warnings = parse(note(b"CORE", 1, b"x") + bytes(1 << 20))
    assert len(found) == 1
    assert "without a note" in warnings[0]


def test_two_note_segments_count_through(tmp_path: Path) -> None:
    headers = [Header(PT_NOTE, 0, 0, note(b"A", 1, b"1")), Header(PT_NOTE, 0, 0, note(b"B", 2, b"2"))]
    names = opened(tmp_path, core(headers)).tree.lookup("notes").names()
    assert [name for name in names if "." not in name] == ["000-A-0x1", "001-B-0x2"]


def test_a_long_owner_leaves_room_for_suffixes(tmp_path: Path) -> None:
    raw = b"".join(note(owner, 1, b"x") for owner in (b"A" * 240, b"A" * 248, b"A" * 300, "ü".encode() * 200))
    image = opened(tmp_path, core(notes=raw))
    names = list(image.tree.lookup("notes").names())
    assert len(set(names)) == 3 * 4
    assert all(len(name.encode()) <= 255 for name in names)
    bare = [record["name"] for record in json.loads(image.cat("notes.json"))]
    assert names == [name + suffix for name in bare for suffix in ("", ".txt", ".json")]
    assert bare[0] == f"000-{'A' * 240}-0x1"
    assert all(re.search("~[0-9a-f]{12}$", name) for name in bare[1:])


def test_owner_of_an_attacker(tmp_path: Path) -> None:
    image = opened(tmp_path, core(notes=note(b"../../etc/\n", 1, b"x") + note(b"\xff\xfe", 2, b"y")))
    names = [name for name in image.tree.lookup("notes").names() if "." not in name[4:]]
    assert all("/" not in name and "\n" not in name for name in names)
    assert image.cat("notes.json").isascii()
    assert len(json.loads(image.cat("notes.json"))) == 2
