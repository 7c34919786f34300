"""Cores that the kernel and gdb have just written of one program, and gdb, readelf and eu-readelf as referees."""

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT, SECRET, Crash
from needs import need_tools, run

import memfs
from memfs.api import OpenImage


@pytest.fixture(scope="module", params=["kernel", "gdb"])
def crash(request: pytest.FixtureRequest) -> Crash:
    """In place of the one that all share: each writer's core."""
    core: Crash = request.getfixturevalue({"kernel": "crash_core", "gdb": "crash_by_gdb"}[request.param])
    return core


@pytest.fixture(scope="module")
def image(crash: Crash) -> OpenImage:
    return memfs.open(str(crash.core))


def load(image: OpenImage, path: str) -> Any:
    return json.loads(image.cat(path))


def gdb(crash: Crash, *commands: str) -> str:
    need_tools("gdb")
    words = [word for command in commands for word in ("-ex", command)]
    done = run("gdb", "-q", "-nx", "-batch", *words, crash.program, crash.core, timeout=120)
    return done.stdout.decode(errors="replace")


def test_info(image: OpenImage) -> None:
    info = load(image, "info.json")
    assert info["signal"] == "SIGSEGV (11), SEGV_MAPERR at 0x10"
    assert (info["threads"], info["comm"]) == (3, "crash")
    assert all("memory above" in warning for warning in info["warnings"]), "vsyscall, in gdb's core"
    text = image.cat("info").decode()
    for key in ("kind", "arch", "pid", "signal", "exe"):
        assert f"{key}: {info[key]}\n" in text


def test_arguments_and_environment(image: OpenImage, crash: Crash) -> None:
    assert image.cat("cmdline") == b"".join(a.encode() + b"\0" for a in crash.arguments)
    assert image.cat("environ") == b"".join(f"{k}={v}".encode() + b"\0" for k, v in ENVIRONMENT.items())
    assert load(image, "info.json")["cmdline_source"] == "the stack"


def test_secret_in_the_heap(image: OpenImage) -> None:
    assert SECRET in image.cat("regions/heap")
    heap = next(r for r in load(image, "regions.json") if r["name"] == "heap")
    assert (heap["kind"], heap["sure"], heap["permissions"]) == ("heap", True, "rw-p")


def test_names_of_regions(image: OpenImage, crash: Crash) -> None:
    names = {r["name"]: r for r in load(image, "regions.json")}
    tids = [t["tid"] for t in load(image, "threads.json")]
    pid = load(image, "info.json")["pid"]
    want = {"crash.text", "crash.data", "crash.bss", "heap", "stack", "vdso"}
    want |= {"libc.so.6.text"} if crash.writer == "kernel" else {"libc.so.6.absent", "vsyscall"}
    want |= {f"stack:{tid}" for tid in tids if tid != pid}
    assert want <= set(names)
    assert names["crash.text"]["path"] == str(crash.program)
    assert b"a string in .data" in image.cat("regions/crash.data")
    assert names["stack"]["stacks"] == [pid]
    assert image.node("exe").target == str(crash.program)


def test_registers_against_gdb(image: OpenImage, crash: Crash) -> None:
    printed = gdb(crash, "thread apply all info registers")
    threads = re.split(r"\nThread \d+ \(", printed)[1:]
    assert len(threads) == 3
    for text in threads:
        tid = re.search(r"LWP (\d+)", text)
        assert tid is not None
        theirs = dict(re.findall(r"^(\w+)\s+(0x[0-9a-f]+)\b", text, re.M))
        mine = load(image, f"threads/{tid[1]}/registers.json")
        names = [name for name in mine if name in theirs]
        assert len(names) >= 24
        assert {name: mine[name] for name in names} == {name: theirs[name] for name in names}
        order = [name for name in re.findall(r"^(\w+)\s+0x", text, re.M) if name in mine]
        assert [name for name in mine if name in theirs] == order


def test_float_registers_against_gdb(image: OpenImage, crash: Crash) -> None:
    printed = gdb(crash, "p/x $mxcsr", "p/x $fctrl", "p/x $xmm0.uint128", "p/x $xmm1.uint128", "p/x $xmm15.uint128")
    theirs = re.findall(r"= (0x[0-9a-f]+)", printed)
    mine = load(image, "threads/current/fpregs.json")
    assert [mine[name] for name in ("mxcsr", "fctrl", "xmm0", "xmm1", "xmm15")] == theirs


def test_auxv_against_gdb(image: OpenImage, crash: Crash) -> None:
    theirs = {}
    for number, rest in re.findall(r"^(\d+)\s+(AT_\w+.*)$", gdb(crash, "info auxv"), re.M):
        value = re.search(r"\s(0x[0-9a-f]+|\d+)(?:\s+\".*\")?\s*$", rest)
        assert value is not None, rest
        theirs[int(number)] = int(value[1], 0)
    mine = {e["type"]: int(e["value"], 16) for e in load(image, "auxv.json")}
    assert len(theirs) > 15
    assert {t: mine[t] for t in theirs} == theirs


def test_memory_against_gdb(image: OpenImage, crash: Crash) -> None:
    sp = int(load(image, "threads/current/registers.json")["rsp"], 16)
    heap = next(int(r["address"], 16) for r in load(image, "regions.json") if r["name"] == "heap")
    for address in (sp, sp + 64, heap, heap + 0x290):
        printed = gdb(crash, f"x/32xb {address:#x}")
        theirs = bytes(int(b, 16) for b in re.findall(r"\t0x([0-9a-f]{2})", printed))
        assert len(theirs) == 32
        assert image.read(address, 32) == theirs
        assert image.cat(f"at/{address:#x}:32") == theirs


@pytest.mark.parametrize("name", ["heap", "stack", "crash.data", "libc.so.6.bss"])
def test_whole_regions_against_gdb(image: OpenImage, crash: Crash, name: str, tmp_path: Path) -> None:
    region = next(r for r in image.regions if r.name == name)
    gdb(crash, f"dump binary memory {tmp_path}/bytes {region.start:#x} {region.end:#x}")
    assert image.cat(f"regions/{name}") == (tmp_path / "bytes").read_bytes()


def test_names_against_the_kernel(crash_by_gdb: Crash) -> None:
    """What the rules made of a core without labels, and what the kernel called it while it lived."""
    row = r"^\s+0x(\w+)\s+0x(\w+)\s+0x\w+\s+0x(\w+)\s+(?:\S{4}\s+)?([/\[].*?)\s*$"
    rows = re.findall(row, crash_by_gdb.core.with_suffix(".mappings").read_text(), re.M)
    theirs = {(int(a, 16), int(b, 16), int(o, 16) if name[0] == "/" else 0, name) for a, b, o, name in rows}
    maps = memfs.open(crash_by_gdb.core).cat("maps").decode()
    named = re.findall(r"^(\w+)-(\w+) \S{4} (\w+) 00:00 0\s+(\S+)$", maps, re.M)
    mine = {(int(a, 16), int(b, 16), int(o, 16), name) for a, b, o, name in named}
    assert {name for *_, name in theirs} >= {"[heap]", "[stack]", "[vdso]"}
    missing = {name for *_, name in theirs - mine}
    assert missing <= {"[vvar]", "[vvar_vclock]"}, "no core has them"
    assert all(name.startswith("[stack:") for *_, name in mine - theirs), "which kernels name until 4.5"


def test_program_headers_against_readelf(image: OpenImage, crash: Crash) -> None:
    need_tools("readelf")
    printed = run("readelf", "-lW", crash.core).stdout.decode()
    row = r"^  (\w+)\s+0x(\w+) 0x(\w+) 0x(\w+) 0x(\w+) 0x(\w+) ([R ][W ][E ]) 0x(\w+)$"
    theirs = [
        (t, *(int(n, 16) for n in (o, v, p, f, m)), flags)
        for t, o, v, p, f, m, flags, _ in re.findall(row, printed, re.M)
    ]
    mine = [
        (
            p["p_type"].removeprefix("PT_"),
            *(int(p[k], 16) for k in ("p_offset", "p_vaddr", "p_paddr")),
            p["p_filesz"],
            p["p_memsz"],
            "".join(c if p["p_flags"] & bit else " " for c, bit in (("R", 4), ("W", 2), ("E", 1))),
        )
        for p in load(image, "headers.json")["phdrs"]
    ]
    assert mine == theirs
    rows = image.cat("headers/phdrs.txt").decode().splitlines()
    assert len(rows) == len(mine) + 1


def test_header_bytes(image: OpenImage, crash: Crash) -> None:
    raw = crash.core.read_bytes()
    assert image.cat("headers/ehdr") == raw[:64]
    (count,) = struct.unpack_from("<H", raw, 56)
    assert image.cat("headers/phdrs") == raw[64 : 64 + 56 * count]


def test_notes_against_readelf(image: OpenImage, crash: Crash) -> None:
    need_tools("readelf")
    printed = run("readelf", "-nW", crash.core).stdout.decode()
    theirs = re.findall(r"^  (\w+)\s+0x([0-9a-f]{8})\t", printed, re.M)
    mine = [(n["owner"], f"{n['size']:08x}") for n in load(image, "notes.json")]
    assert mine == theirs


def test_mapped_files_against_eu_readelf(image: OpenImage, crash: Crash) -> None:
    need_tools("eu-readelf")
    printed = run("eu-readelf", "-n", crash.core).stdout.decode()
    theirs = re.findall(r"^\s+([0-9a-f]+)-([0-9a-f]+) ([0-9a-f]{8,}) \d+\s+(/\S+)$", printed, re.M)
    assert theirs
    maps = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) \S{4} ([0-9a-f]+) 00:00 0\s+(/\S+)$", image.cat("maps").decode(), re.M)
    assert [(int(a, 16), int(b, 16), int(o, 16), p) for a, b, o, p in maps] == [
        (int(a, 16), int(b, 16), int(o, 16), p) for a, b, o, p in theirs
    ]


def test_maps_is_what_the_kernel_prints_of_a_live_one() -> None:
    """The form, not the content: widths and columns of our own /proc/self/maps."""
    line = next(row for row in Path("/proc/self/maps").read_text().splitlines() if "[heap]" in row)
    core = memfs.open(str(Path(__file__).parent.parent / "examples" / "secret.core"))
    mine = next(row for row in core.cat("maps").decode().splitlines() if "[heap]" in row)
    assert line.index("[heap]") == mine.index("[heap]")
    assert len(mine.split()) == len(line.split()) == 6


def test_the_registers_note_is_whole(image: OpenImage) -> None:
    names = image.tree.lookup("notes").names()
    note = image.cat("notes/" + next(name for name in names if name.endswith("CORE-PRSTATUS")))
    assert image.cat("threads/current/registers") == note[112 : 112 + 216]


def test_status(image: OpenImage, crash: Crash) -> None:
    status = load(image, "threads/current/status.json")
    info = load(image, "info.json")
    assert status["tid"] == load(image, "threads.json")[0]["tid"]
    ppid = info["ppid"] if crash.writer == "kernel" else 0  # gdb leaves pr_ppid out
    assert (status["pid"], status["ppid"], status["cursig"]) == (info["pid"], ppid, 11)
    assert status["utime"] >= 0
    assert status["sigpend"].startswith("0x")
