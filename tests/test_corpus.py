"""Every core of ../shared/corpus, read through the tree and held against what independent tools say about it.

The oracles' own page tells who is right where tools disagree."""

import errno
import hashlib
import itertools
import json
import lzma
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from needs import SHARED, need_corpus

import memfs
from memfs.errors import AbsentMemory, MemfsError
from memfs.tree.node import Dir, File, Reader

CORPUS = SHARED / "corpus"
Oracle = dict[str, Any]
ORACLES: dict[str, Oracle] = {path.stem: json.loads(path.read_text()) for path in sorted(CORPUS.glob("*.json"))}
DECODED = {("EM_X86_64", 64), ("EM_X86_64", 32), ("EM_386", 32), ("EM_AARCH64", 64), ("EM_ARM", 32)}
WALK_AT_MOST = 12 << 20


class Case:
    """A core, opened, and its oracle."""

    def __init__(self, name: str, directory: Path) -> None:
        self.oracle = ORACLES[name]
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


def held(condition: Callable[[Oracle], object]) -> pytest.MarkDecorator:
    """The cores whose oracle says something on the matter: a test that has nothing to hold does not pass, it is not."""
    names = [name for name, oracle in ORACLES.items() if condition(oracle)]
    assert names or not ORACLES
    return pytest.mark.parametrize("case", names or ["(no corpus)"], indirect=True)


def linux(key: str) -> Callable[[Oracle], object]:
    """Whether it is a Linux core with notes, of which the oracle has this."""
    return lambda oracle: oracle["os"] == "linux" and oracle["notes"] and oracle[key]


def decoded(oracle: Oracle) -> bool:
    """Whether it has threads with registers of a machine that memfs knows."""
    header = oracle["header"]
    known = (header["machine_name"], header["class"]) in DECODED and oracle["os"] == "linux"
    return known and any(thread.get("registers") for thread in oracle["threads"] or [])


EVERY = held(lambda oracle: True)


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    need_corpus()
    case = Case(request.param, tmp_path_factory.mktemp("corpus"))
    yield case
    case.image.close()
    os.unlink(case.path)


@EVERY
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


@EVERY
def test_all_program_headers_by_hash(case: Case) -> None:
    lines = [
        f"{s.type:x} {s.flags:x} {s.address:x} {s.physical:x} {s.offset:x}"
        f" {s.file_size:x} {s.memory_size:x} {s.alignment:x}\n"
        for s in case.image.image.segments
    ]
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == case.oracle["segments_sha256"]


@EVERY
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


@EVERY
def test_sizes_of_segments(case: Case) -> None:
    """A file of segments/ is as long as the memory, whatever was dumped of it; other headers as what the file has."""
    for entry in case.json("segments.json")[:300]:
        size = entry["memory_size" if entry["type"] == "LOAD" else "file_size"]
        info = case.image.node(f"segments/{entry['name']}").stat()
        assert info.size == min(size, (1 << 63) - 4096)
        assert info.data <= min(size, entry["file_size"])


@EVERY
def test_notes(case: Case) -> None:
    got = case.json("notes.json")
    want = case.oracle["notes"] or []
    assert [(n["owner"], n["type"], n["size"]) for n in got] == [(n[0], n[1], n[3]) for n in want]
    for mine, theirs in zip(got, want, strict=True):
        raw = case.image.cat(f"notes/{mine['name']}")
        assert hashlib.sha256(raw).hexdigest().startswith(theirs[4]), mine["name"]
        assert case.image.cat(f"notes/{mine['name']}.txt")


@EVERY
def test_system(case: Case) -> None:
    want = case.oracle["os"]
    assert case.json("info.json")["os"] == (None if want == "unknown" else want)


@held(lambda oracle: oracle["probes"])
def test_probes_through_at(case: Case) -> None:
    for probe in case.oracle["probes"]:
        if probe.get("overlap"):  # another PT_LOAD may have been first
            continue
        got = case.image.cat(f"at/{probe['vaddr']}:{len(probe['hex']) // 2}")
        assert got.hex() == probe["hex"], probe


@held(lambda oracle: oracle["probes"])
def test_probes_through_segments_and_read(case: Case) -> None:
    names = {s["index"]: (s["name"], int(s["address"], 16)) for s in case.json("segments.json")}
    for probe in case.oracle["probes"]:
        name, start = names[probe["seg"]]
        node = case.image.node(f"segments/{name}")
        assert isinstance(node, File)
        buffer = bytearray(len(probe["hex"]) // 2)
        assert node.open().readinto(int(probe["vaddr"], 16) - start, memoryview(buffer)) == len(buffer)
        assert buffer.hex() == probe["hex"], probe
        if not probe.get("overlap"):
            assert case.image.read(int(probe["vaddr"], 16), len(buffer)) == buffer


@held(decoded)
def test_registers(case: Case) -> None:
    for thread in (thread for thread in case.oracle["threads"] if thread.get("registers")):
        got = case.json(f"threads/{thread['tid']}/registers.json")
        common = [name for name in thread["registers"] if name in got]
        assert len(common) >= min(16, len(thread["registers"]))
        for name in common:
            assert int(got[name], 16) == int(thread["registers"][name], 16), (thread["tid"], name)
        assert case.image.cat(f"threads/{thread['tid']}/registers")


@held(linux("threads"))
def test_threads(case: Case) -> None:
    assert [t["tid"] for t in case.json("threads.json")] == [t["tid"] for t in case.oracle["threads"]]


@held(linux("auxv"))
def test_auxv(case: Case) -> None:
    got: dict[str, str] = {}
    for entry in case.json("auxv.json"):
        got.setdefault(entry["name"] or str(entry["type"]), entry["value"])
        got.setdefault(str(entry["type"]), entry["value"])
    want = {k: v for k, v in case.oracle["auxv"].items() if k != "AT_NULL"}
    assert {k: got.get(k) for k in want} == want


@held(linux("nt_file"))
def test_mapped_files(case: Case) -> None:
    regions = case.json("regions.json")
    for start, end, offset, path in case.oracle["nt_file"]:
        inside = [r for r in regions if int(start, 16) <= int(r["address"], 16) < int(end, 16)]
        assert inside, (start, path)
        for region in inside:
            assert region["path"] == path.removesuffix(" (deleted)")
            assert region["deleted"] == path.endswith(" (deleted)")
            assert int(region["offset"], 16) == offset + int(region["address"], 16) - int(start, 16)
        assert sum(r["size"] for r in inside) == int(end, 16) - int(start, 16)


@held(linux("siginfo"))
def test_siginfo(case: Case) -> None:
    want = case.oracle["siginfo"]
    got = case.json("threads/current/siginfo.json")
    numbers = ("si_signo", "si_errno", "si_code")
    assert [got[k] for k in numbers] == [want[k] for k in numbers]
    if "fault_address" in want:
        assert got["si_addr"] == want["fault_address"]
    if "sender_pid" in want:
        assert [got["si_pid"], got["si_uid"]] == [want["sender_pid"], want["sender_uid"]]


@held(linux("prpsinfo"))
def test_process(case: Case) -> None:
    want = case.oracle["prpsinfo"]
    info = case.json("info.json")
    assert (info["pid"], info["ppid"], info["comm"]) == (want["pid"], want["ppid"], want["fname"])
    assert case.image.cat("comm") == os.fsencode(want["fname"]) + b"\n"
    note = next(n for n in case.json("notes.json") if n["type_name"] == "PRPSINFO")
    keys = set(note["desc"]) & set(want) - {"flag"}
    assert len(keys) >= 10
    assert {k: note["desc"][k] for k in keys} == {k: want[k] for k in keys}
    assert int(note["desc"]["flag"], 16) == int(want["flag"], 16)


@EVERY
def test_every_file_can_be_read(case: Case) -> None:
    """All of it; of the largest cores 300 entries a directory, and 1 MiB a file."""
    large = case.oracle["size"] > WALK_AT_MOST or case.oracle["header"]["phnum"] > 2000
    count = walk(case.image.tree, 300 if large else 1 << 20, 1 << 20 if large else 1 << 30)
    assert count >= 5


def walk(directory: Dir, entries: int, limit: int) -> int:
    """Read the files below a directory, around what is absent; no other error. Returns how many files."""
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
            while offset < min(limit, reader.size):
                try:
                    offset += reader.readinto(offset, buffer)
                except AbsentMemory:
                    offset = data_behind(reader, offset)
    return count


def data_behind(reader: Reader, offset: int) -> int:
    """Where the data begins that follows what is absent; the end if there is none."""
    try:
        start = reader.next_data(offset)
    except MemfsError as error:
        assert error.errno == errno.ENXIO
        return reader.size
    assert start > offset, "data that cannot be read"
    return start
