"""Every core of ../shared/corpus, read through the tree and held against what independent tools say about it.

The oracles' own page tells who is right where tools disagree."""

import hashlib
import itertools
import json
import lzma
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from needs import SHARED, need_corpus

import memfs
from memfs.errors import AbsentMemory, MemfsError
from memfs.tree.node import Dir, File

CORPUS = SHARED / "corpus"
NAMES = sorted(p.name.removesuffix(".core.xz") for p in CORPUS.glob("*.core.xz")) or ["(no corpus)"]
DECODED = {("EM_X86_64", 64), ("EM_X86_64", 32), ("EM_386", 32), ("EM_AARCH64", 64), ("EM_ARM", 32)}
WALK_AT_MOST = 12 << 20


class Case:
    """A core, opened, and its oracle."""

    def __init__(self, name: str, directory: Path) -> None:
        self.oracle = json.loads((CORPUS / f"{name}.json").read_text())
        self.path = directory / f"{name}.core"
        data = lzma.decompress((CORPUS / f"{name}.core.xz").read_bytes())
        assert hashlib.sha256(data).hexdigest() == self.oracle["sha256"]
        self.path.write_bytes(data)
        self.image = memfs.open(str(self.path))

    def json(self, path: str) -> Any:
        return json.loads(self.image.cat(path))

    def segments(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The oracle's program headers with their indexes."""
        fields = ("type", "flags", "vaddr", "paddr", "offset", "filesz", "memsz", "align")
        indexes = self.oracle.get("segments_index") or range(len(self.oracle["segments"]))
        for index, row in zip(indexes, self.oracle["segments"], strict=True):
            yield index, dict(zip(fields, [row[0], row[1], int(row[2], 16), int(row[3], 16), *row[4:]], strict=True))

    @property
    def is_linux(self) -> bool:
        return bool(self.oracle["os"] == "linux")


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    need_corpus()
    case = Case(request.param, tmp_path_factory.mktemp("corpus"))
    yield case
    case.image.close()
    os.unlink(case.path)


def test_headers(case: Case) -> None:
    got, want = case.json("headers.json"), case.oracle["header"]
    for mine, theirs in (
        ("e_machine", "machine"), ("e_type", "type"), ("e_phnum", "e_phnum"), ("e_phentsize", "phentsize"),
        ("e_shnum", "shnum"), ("ei_osabi", "osabi"), ("e_version", "version"),
    ):  # fmt: skip
        if theirs in want:
            assert got["ehdr"][mine] == want[theirs], mine
    assert got["phnum"] == want["phnum"]
    assert int(got["ehdr"]["e_entry"], 16) == int(want["entry"], 16)
    assert case.json("info.json")["byte_order"] == {"LE": "little", "BE": "big"}[want["data"]]
    for index, s in case.segments():
        p = got["phdrs"][index]
        assert p["index"] == index
        assert [int(p[k], 16) for k in ("p_vaddr", "p_paddr", "p_offset")] == [s["vaddr"], s["paddr"], s["offset"]]
        assert [p["p_filesz"], p["p_memsz"], p["p_flags"], p["p_align"]] == [
            s["filesz"],
            s["memsz"],
            s["flags"],
            s["align"],
        ]


def test_all_program_headers_by_hash(case: Case) -> None:
    lines = [
        f"{s.type:x} {s.flags:x} {s.address:x} {s.physical:x} {s.offset:x}"
        f" {s.file_size:x} {s.memory_size:x} {s.alignment:x}\n"
        for s in case.image.image.segments
    ]
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == case.oracle["segments_sha256"]


def test_segments(case: Case) -> None:
    loads = [
        (s["index"], s["address"], s["file_size"], s["memory_size"])
        for s in case.json("segments.json")
        if s["type"] == "LOAD"
    ]
    want = [(i, hex(s["vaddr"]), s["filesz"], s["memsz"]) for i, s in case.segments() if s["type"] == "LOAD"]
    if case.oracle.get("segments_index"):
        assert set(want) <= set(loads)
    else:
        assert loads == want


def test_notes(case: Case) -> None:
    got = case.json("notes.json")
    want = case.oracle["notes"] or []
    assert [(n["owner"], n["type"], n["size"]) for n in got] == [(n[0], n[1], n[3]) for n in want]
    for mine, theirs in zip(got, want, strict=True):
        raw = case.image.cat(f"notes/{mine['name']}")
        assert hashlib.sha256(raw).hexdigest().startswith(theirs[4]), mine["name"]
        assert case.image.cat(f"notes/{mine['name']}.txt")


def test_system(case: Case) -> None:
    want = case.oracle["os"]
    assert case.json("info.json")["os"] == (None if want == "unknown" else want)


def test_probes_through_at(case: Case) -> None:
    for probe in case.oracle["probes"] or []:
        got = case.image.cat(f"at/{probe['vaddr']}:{len(probe['hex']) // 2}")
        assert got.hex() == probe["hex"], probe


def test_probes_through_segments_and_read(case: Case) -> None:
    names = {s["index"]: (s["name"], int(s["address"], 16)) for s in case.json("segments.json")}
    for probe in case.oracle["probes"] or []:
        name, start = names[probe["seg"]]
        node = case.image.node(f"segments/{name}")
        assert isinstance(node, File)
        buffer = bytearray(len(probe["hex"]) // 2)
        assert node.open().readinto(int(probe["vaddr"], 16) - start, memoryview(buffer)) == len(buffer)
        assert buffer.hex() == probe["hex"], probe
        assert case.image.read(int(probe["vaddr"], 16), len(buffer)) == buffer


def test_registers(case: Case) -> None:
    header = case.oracle["header"]
    decoded = (header["machine_name"], header["class"]) in DECODED and case.is_linux
    for thread in case.oracle["threads"] or []:
        if not (decoded and thread.get("registers")):
            continue
        got = case.json(f"threads/{thread['tid']}/registers.json")
        common = [name for name in thread["registers"] if name in got]
        assert len(common) >= min(16, len(thread["registers"]))
        for name in common:
            assert int(got[name], 16) == int(thread["registers"][name], 16), (thread["tid"], name)
        assert case.image.cat(f"threads/{thread['tid']}/registers")


def test_threads(case: Case) -> None:
    if case.is_linux and case.oracle["threads"] and case.oracle["notes"]:
        assert [t["tid"] for t in case.json("threads.json")] == [t["tid"] for t in case.oracle["threads"]]


def test_auxv(case: Case) -> None:
    if case.is_linux and case.oracle["auxv"]:
        got: dict[str, str] = {}
        for entry in case.json("auxv.json"):
            got.setdefault(entry["name"] or str(entry["type"]), entry["value"])
            got.setdefault(str(entry["type"]), entry["value"])
        want = {k: v for k, v in case.oracle["auxv"].items() if k != "AT_NULL"}
        assert {k: got.get(k) for k in want} == want


def test_mapped_files(case: Case) -> None:
    regions = case.json("regions.json")
    for start, end, offset, path in case.oracle["nt_file"] or []:
        inside = [r for r in regions if int(start, 16) <= int(r["address"], 16) < int(end, 16)]
        assert inside, (start, path)
        for region in inside:
            assert region["path"] == path.removesuffix(" (deleted)")
            assert region["deleted"] == path.endswith(" (deleted)")
            assert int(region["offset"], 16) == offset + int(region["address"], 16) - int(start, 16)
        assert sum(r["size"] for r in inside) == int(end, 16) - int(start, 16)


def test_siginfo(case: Case) -> None:
    want = case.oracle["siginfo"]
    if want and case.is_linux:
        got = case.json("threads/current/siginfo.json") if case.json("threads.json") else None
        assert got is not None
        assert [got[k] for k in ("si_signo", "si_errno", "si_code")] == [
            want[k] for k in ("si_signo", "si_errno", "si_code")
        ]
        if "fault_address" in want and "si_addr" in got:
            assert got["si_addr"] == want["fault_address"]
        if "sender_pid" in want and "si_pid" in got:
            assert [got["si_pid"], got["si_uid"]] == [want["sender_pid"], want["sender_uid"]]


def test_process(case: Case) -> None:
    want = case.oracle["prpsinfo"]
    if want and case.is_linux and case.oracle["notes"]:
        info = case.json("info.json")
        assert (info["pid"], info["ppid"], info["comm"]) == (want["pid"], want["ppid"], want["fname"])
        assert case.image.cat("comm") == os.fsencode(want["fname"]) + b"\n"


def test_every_file_can_be_read(case: Case) -> None:
    """All of it; of the largest cores 300 entries a directory, and 1 MiB a file."""
    large = case.oracle["size"] > WALK_AT_MOST or case.oracle["header"]["phnum"] > 2000
    count = walk(case.image.tree, 300 if large else 1 << 20, 1 << 20 if large else 1 << 30)
    assert count >= 5


def walk(directory: Dir, entries: int, limit: int) -> int:
    """Read the files below a directory; ENODATA alone may stop a read. Returns how many."""
    count = 0
    buffer = memoryview(bytearray(1 << 20))
    for name, node in itertools.islice(directory.entries(), entries):
        assert directory.lookup(name).kind == node.kind
        if isinstance(node, Dir):
            count += walk(node, entries, limit)
        elif isinstance(node, File):
            count += 1
            reader, offset = node.open(), 0
            if node.stat().size:
                assert reader.size == node.stat().size
            try:
                while offset < limit and (got := reader.readinto(offset, buffer)):
                    offset += got
                assert offset == reader.size or offset >= limit
            except MemfsError as error:
                assert isinstance(error, AbsentMemory), (name, error)
    return count
