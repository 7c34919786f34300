"""A live process as a tree: every file against the kernel's own word, memory against what the program wrote."""

import errno
import json
import os
import re
import shutil
import struct
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from living import AREA, ARGUMENTS, ENVIRONMENT, SECRET, Live, compiled, field, own_part, running
from looking import look_through
from mounting import eventually, memfs, one_line
from needs import need, need_tools

import memfs as package
from memfs.api import OpenImage
from memfs.backends.process import _mapping as mapping_of
from memfs.errors import AbsentMemory, MemfsError
from memfs.facts import regions
from memfs.image import Identity, Image, Mapping, NoProcess, Target
from memfs.io import target
from memfs.io.empty import EmptySpace
from memfs.io.maps import parse
from memfs.io.process import LiveSpace
from memfs.tree.node import Dir, Link

PAGE = 4096


@pytest.fixture
def image(live: Live) -> OpenImage:
    return package.open(str(live.pid))


def records(image: OpenImage, name: str) -> list[dict[str, Any]]:
    """A table of the tree."""
    found: list[dict[str, Any]] = json.loads(image.cat(name))
    return found


def region_of(image: OpenImage, address: int) -> dict[str, Any]:
    """The region that an address is in."""
    for region in records(image, "regions.json"):
        start = int(region["address"], 16)
        if start <= address < start + region["size"]:
            return region
    raise AssertionError(f"no region holds {address:#x}")


# -- files that /proc has, too -------------------------------------------------------------------------------------

SAME = ("maps", "cmdline", "environ", "comm", "auxv", "limits", "statm", "status", "stat")


def test_files_are_the_kernels(live: Live, image: OpenImage) -> None:
    for name in SAME:
        assert own_part(image.cat(name)) == own_part(live.proc(name)), name
    assert own_part(image.cat("smaps")) == own_part(live.proc("smaps")) != b""
    assert image.cat("cmdline") == b"".join(word.encode() + b"\0" for word in ARGUMENTS)
    assert image.cat("environ") == b"".join(f"{name}={value}\0".encode() for name, value in ENVIRONMENT.items())


def test_exe_and_root_listing(live: Live, image: OpenImage, program: Path) -> None:
    exe = image.node("exe")
    assert isinstance(exe, Link)
    assert exe.target == os.readlink(f"/proc/{live.pid}/exe") == str(program)
    names = image.tree.names()
    assert set(SAME) | {"info", "mem", "threads", "task", "regions", "segments", "notes", "exe"} <= set(names)
    assert "headers" not in names
    assert image.node("notes").stat().kind.value == "d"
    assert records(image, "notes.json") == []


def test_info(live: Live, image: OpenImage, program: Path) -> None:
    info = json.loads(image.cat("info.json"))
    expected = {
        "kind": "process", "arch": os.uname().machine, "bits": 64, "byte_order": sys.byteorder, "os": "linux",
        "source": f"/proc/{live.pid}", "pid": live.pid, "ppid": os.getpid(), "comm": program.name,
        "cmdline": " ".join(ARGUMENTS), "exe": str(program), "threads": 5, "signal": None, "warnings": [],
    }  # fmt: skip
    assert {key: info[key] for key in expected} == expected
    assert info["segments"] == len(live.proc("maps").splitlines())
    resident = field(live.proc("status"), "RssAnon") + field(live.proc("status"), "RssFile")
    resident += field(live.proc("status"), "RssShmem")
    assert info["resident_bytes"] == resident << 10
    text = image.cat("info").decode().splitlines()
    assert f"pid: {live.pid}" in text
    assert not [line for line in text if line.startswith("warning")]


def test_everything_can_be_looked_at(image: OpenImage) -> None:
    assert look_through(image.tree, None) > 100


def test_looking_stops_and_changes_nothing(live: Live, image: OpenImage) -> None:
    """What the kernel counts of the process is what it was, whatever is looked at; nobody traces it."""
    names = ("RssAnon", "RssFile", "RssShmem", "VmPTE", "VmSwap", "TracerPid", "VmSize", "VmStk")
    switches = [f"task/{tid}/status" for tid in os.listdir(f"/proc/{live.pid}/task")]

    def counted() -> list[object]:
        times = [field(live.proc(name), f"{kind}_ctxt_switches") for name in switches for kind in ("voluntary",)]
        return [[field(live.proc("status"), name) for name in names], times[:1], live.state()]

    before = counted()
    look_through(image.tree, None)
    for region in records(image, "regions.json"):
        try:
            image.cat(f"regions/{region['name']}")
        except MemfsError as error:
            assert error.errno == errno.ENODATA, region
    assert counted() == before


def test_several_sources_in_one_python(live: Live, secret_core: Path) -> None:
    """Whatever was opened before, in whichever order."""
    for _ in range(2):
        with (
            package.open(str(secret_core)) as core,
            package.open(str(live.pid)) as process,
            package.open("/proc") as host,
        ):
            assert core.cat("comm") == b"secret\n"
            assert process.cat("comm") == host.cat(f"{live.pid}/comm") == live.proc("comm")


# -- mappings ------------------------------------------------------------------------------------------------------


def test_segments_are_the_mappings(live: Live, image: OpenImage) -> None:
    areas = parse(live.proc("maps"))
    listed = records(image, "segments.json")
    assert [(int(s["address"], 16), s["memory_size"]) for s in listed] == [(a.start, a.end - a.start) for a in areas]
    assert [s["permissions"] for s in listed] == [a.permissions[:3] for a in areas]
    assert [s["index"] for s in listed] == list(range(len(areas)))
    assert {s["type"] for s in listed} == {"LOAD"}
    directory = image.node("segments")
    assert isinstance(directory, Dir)
    assert list(directory.names()) == [s["name"] for s in listed]
    index = next(i for i, area in enumerate(areas) if area.start <= live.at("area") < area.end)
    assert image.cat(f"segments/{listed[index]['name']}") == image.read(areas[index].start, AREA)


def test_regions_cover_the_mappings(live: Live, image: OpenImage) -> None:
    covered = [(int(r["address"], 16), int(r["address"], 16) + r["size"]) for r in records(image, "regions.json")]
    areas = parse(live.proc("maps"))
    assert sum(end - start for start, end in covered) == sum(area.end - area.start for area in areas)
    assert covered == sorted(covered)
    starts = {start for start, _ in covered}
    assert {area.start for area in areas if area.path not in ("[heap]", "[stack]", "[vvar]")} >= starts - {
        area.start for area in areas
    }


def test_names_of_regions(live: Live, image: OpenImage, program: Path) -> None:
    named = {name: region_of(image, live.at(name)) for name in ("main", "bss", "secret", "area", "memfd", "deleted")}
    name = program.name
    assert (named["main"]["name"], named["main"]["path"]) == (f"{name}.text", str(program))
    assert named["bss"]["name"] in (f"{name}.bss", f"{name}.data")
    assert (named["secret"]["name"], named["secret"]["kind"], named["secret"]["sure"]) == ("heap", "heap", True)
    assert named["area"]["name"] == f"anon.{live.at('area'):x}"
    assert (named["area"]["size"], named["area"]["permissions"]) == (AREA, "rw-p")
    assert (named["memfd"]["name"], named["memfd"]["path"]) == ("memfd:a memfd.data", "/memfd:a memfd")
    assert (named["memfd"]["deleted"], named["memfd"]["permissions"]) == (True, "rw-s")
    deleted = live.words["deleted.name"]
    assert named["deleted"]["name"] == f"{deleted}.rodata"
    assert Path(named["deleted"]["path"]).name == deleted
    assert named["deleted"]["deleted"] is True
    names = [region["name"] for region in records(image, "regions.json")]
    assert {"stack", "vdso", "vvar", "heap"} <= set(names)
    guard = region_of(image, live.at("area") - 1)
    assert (guard["kind"], guard["permissions"]) == ("guard", "---p")
    assert guard["name"] == f"guard.{int(guard['address'], 16):x}"


def test_a_heap_that_follows_the_data(tmp_path: Path) -> None:
    """Without randomisation the heap adjoins what the executable has of anonymous memory."""
    need_tools("setarch")
    program = compiled(tmp_path, 64, "-no-pie")
    with running(program, arguments=("setarch", "-R", str(program)), executable=shutil.which("setarch")) as live:
        live.settle()
        image = package.open(str(live.pid))
        areas = parse(live.proc("maps"))
        heap = next(area for area in areas if area.path == "[heap]")
        assert heap.start in {area.end for area in areas}
        assert region_of(image, live.at("secret"))["name"] == "heap"
        assert int(region_of(image, live.at("secret"))["address"], 16) == heap.start


def test_bytes_of_regions(live: Live, image: OpenImage, program: Path) -> None:
    assert SECRET in image.cat("regions/heap")
    area = image.cat(f"regions/anon.{live.at('area'):x}")
    assert area == b"".join(f"AREA {at}".encode().ljust(64, b"\0") for at in range(0, AREA, 64))
    assert image.cat(f"regions/anon.{live.at('untouched'):x}") == bytes(4 * PAGE)
    memfd = image.cat("regions/memfd:a memfd.data")
    assert (len(memfd), memfd[:8], memfd[PAGE:]) == (4 * PAGE, b"MEMFD 0\0", bytes(3 * PAGE))
    deleted = region_of(image, live.at("deleted"))["name"]
    assert image.cat(f"regions/{deleted}") == b"DELETED FILE".ljust(PAGE, b"\0")
    text = region_of(image, live.at("main"))
    offset = int(text["offset"], 16)
    assert image.cat(f"regions/{text['name']}") == program.read_bytes()[offset:][: text["size"]].ljust(
        text["size"], b"\0"
    )
    assert image.cat(f"at/{live.at('secret'):#x}:{len(SECRET)}") == SECRET
    vdso = next(area for area in parse(live.proc("maps")) if area.path == "[vdso]")
    assert image.read(vdso.start, 4) == b"\x7fELF"
    with pytest.raises(MemfsError) as caught:
        image.cat("regions/vvar")
    assert caught.value.errno == errno.ENODATA


def test_bytes_are_those_of_now(live: Live, image: OpenImage) -> None:
    name = f"regions/anon.{live.at('area'):x}"
    assert image.cat(name).startswith(b"AREA 0")
    live.tell("change")
    assert image.cat(name).startswith(b"CHANGED 0")
    assert image.read(live.at("area"), 9) == b"CHANGED 0"


def test_what_is_unmapped_is_gone(live: Live, image: OpenImage) -> None:
    """A file that is open is bound to its mapping: absent, when that is gone, and never the bytes of another."""
    name = f"anon.{live.at('area'):x}"
    node = image.node(f"regions/{name}")
    reader = node.open()
    buffer = memoryview(bytearray(PAGE))
    assert reader.readinto(0, buffer) == PAGE
    live.tell("other")
    with pytest.raises(AbsentMemory):
        reader.readinto(0, buffer)
    assert image.read(live.at("area"), 7) == b"OTHER 0"
    eventually(lambda: name not in image.node("regions").names(), "the region is gone")
    assert image.cat("regions/memfd:other.data").startswith(b"OTHER 0")


def test_what_moves(live: Live, image: OpenImage) -> None:
    reader = image.node(f"regions/anon.{live.at('area'):x}").open()
    live.tell("move")
    with pytest.raises(AbsentMemory):
        reader.readinto(0, memoryview(bytearray(PAGE)))
    assert image.read(live.at("moved"), 6) == b"AREA 0"


def test_mem_is_the_address_space(live: Live, image: OpenImage) -> None:
    """Whatever maps lists as readable is there, equal to the kernel's own /proc/PID/mem."""
    with Path(f"/proc/{live.pid}/mem").open("rb", buffering=0) as mem:
        for area in parse(live.proc("maps")):
            if area.path in ("[vvar]", "[vvar_vclock]", "[vsyscall]", "[vdso]") or area.permissions[0] != "r":
                continue  # all of [vdso] may not be there
            for _ in range(5):  # the kernel itself writes where a thread has moved to another processor (rseq)
                ours = image.read(area.start, area.end - area.start, fill=b"\0")
                mem.seek(area.start)
                theirs = mem.read(area.end - area.start)
                if ours == theirs:
                    break
            assert ours == theirs, area


# -- threads -------------------------------------------------------------------------------------------------------


def test_threads(live: Live, image: OpenImage) -> None:
    listed = {thread["tid"]: thread for thread in records(image, "threads.json")}
    tids = sorted(map(int, os.listdir(f"/proc/{live.pid}/task")))
    assert sorted(listed) == tids
    assert records(image, "threads.json")[0]["tid"] == live.pid
    for tid in tids:
        words = live.text(f"task/{tid}/syscall").split()
        if tid != live.number("spinner"):  # which wakes and sleeps
            assert (listed[tid]["sp"], listed[tid]["pc"]) == (hex(int(words[-2], 16)), hex(int(words[-1], 16)))
        assert listed[tid]["comm"] == live.text(f"task/{tid}/comm").strip()
        assert (listed[tid]["pid"], listed[tid]["crashed"], listed[tid]["signal"]) == (live.pid, False, None)
        for name in ("comm", "stat", "status") if tid != live.number("spinner") else ("comm",):  # it wakes and sleeps
            there = own_part(live.proc(f"task/{tid}/{name}"))
            assert own_part(image.cat(f"threads/{tid}/{name}")) == there, (tid, name)
            assert own_part(image.cat(f"task/{tid}/{name}")) == there, (tid, name)
    assert listed[live.number("blocked")]["comm"] == "blocked thread"
    current = image.node("threads/current")
    assert isinstance(current, Link)
    assert current.target == str(live.pid)
    names = image.node("threads")
    assert isinstance(names, Dir)
    assert set(names.names()) == {*map(str, tids), "current"}
    task = image.node("task")
    assert isinstance(task, Dir)
    assert list(task.names()) == [str(tid) for tid in (live.pid, *(t for t in tids if t != live.pid))]


def test_stacks(live: Live, image: OpenImage) -> None:
    """A mapping of one thread's stack has its name, one of several threads' has none and says whose it is."""
    blocked = region_of(image, live.at("blocked.sp"))
    assert (blocked["name"], blocked["kind"]) == (f"stack:{live.number('blocked')}", "stack")
    assert blocked["stacks"] == [live.number("blocked")]
    link = image.node(f"threads/{live.number('blocked')}/stack")
    assert isinstance(link, Link)
    assert link.target == f"../../regions/stack:{live.number('blocked')}"
    goish = region_of(image, live.at("stacks"))
    assert goish["name"] == f"anon.{live.at('stacks'):x}"
    assert sorted(goish["stacks"]) == [live.number("first"), live.number("second")]
    main = region_of(image, int(records(image, "threads.json")[0]["sp"], 16))
    assert (main["name"], main["stacks"]) == ("stack", [live.pid])


def test_a_running_thread_keeps_its_name(live: Live, image: OpenImage) -> None:
    tid = live.number("spinner")
    name = f"stack:{tid}"
    eventually(lambda: region_of(image, live.at("spinner.sp"))["name"] == name, "the thread is seen blocked")
    live.tell("spin")
    eventually(lambda: live.text(f"task/{tid}/syscall").strip() == "running", "the thread runs")
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        assert region_of(image, live.at("spinner.sp"))["name"] == name
    (thread,) = [thread for thread in records(image, "threads.json") if thread["tid"] == tid]
    assert (thread["pc"], thread["stack"]) == (None, name)


# -- other programs ------------------------------------------------------------------------------------------------


def test_32_bits(tmp_path: Path) -> None:
    with running(compiled(tmp_path, 32)) as live:
        live.settle()
        image = package.open(str(live.pid))
        info = json.loads(image.cat("info.json"))
        assert (info["arch"], info["bits"]) == ("i386", 32)
        assert SECRET in image.cat("regions/heap")
        raw = live.proc("auxv")
        ours = image.cat("auxv")
        assert raw.startswith(ours)
        assert not any(raw[len(ours) :].rstrip(b"\0")) or struct.unpack("<II", ours[-8:])[0] == 0
        listed = records(image, "auxv.json")
        assert listed[-1]["name"] == "AT_NULL"
        assert {entry["name"]: entry["value"] for entry in listed}["AT_PAGESZ"] == "0x1000"
        assert region_of(image, live.at("blocked.sp"))["name"] == f"stack:{live.number('blocked')}"
        assert re.fullmatch(r"\d{3}-[0-9a-f]{8}-...", records(image, "segments.json")[0]["name"])
        assert image.cat("maps") == live.proc("maps")
        look_through(image.tree, None)


def test_exec_shows_the_new_program(live: Live, image: OpenImage) -> None:
    node = image.node("regions/heap")
    old = node.open()
    assert old.readinto(0, memoryview(bytearray(16))) == 16
    secret = live.at("secret")
    live.tell("exec")
    live.answer(b"ready")
    live.settle()
    assert image.cat("cmdline") == live.proc("cmdline") == b"./live\0after\0exec\0"
    assert image.cat("maps") == live.proc("maps")
    assert SECRET in image.cat("regions/heap")
    assert image.read(live.at("secret"), len(SECRET)) == SECRET
    assert live.at("secret") != secret, "address space randomisation is off: this proves nothing"
    with pytest.raises(MemfsError) as caught:
        old.readinto(0, memoryview(bytearray(16)))
    assert caught.value.errno == errno.ENODATA


def test_exec_right_before_a_look(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is open belongs to the old address space, and says nothing any more: that is no process without memory."""
    monkeypatch.setattr(target, "_FRESH", 60.0)  # as if all that followed were a moment
    directory = os.open(f"/proc/{live.pid}", os.O_PATH | os.O_DIRECTORY)
    space = LiveSpace(directory)
    before = space.areas()
    live.tell("exec")
    live.answer(b"ready")
    live.settle()
    after = space.areas()
    assert any(area.path == "[heap]" for area in after)
    assert after != before
    os.close(directory)


def test_exec_of_a_program_for_another_machine(live: Live, image: OpenImage, tmp_path: Path) -> None:
    other = compiled(tmp_path, 32)
    assert json.loads(image.cat("info.json"))["bits"] == 64
    live.tell(f"exec {other}", answered=False)
    live.answer()
    live.answer(b"ready")
    live.settle()
    info = json.loads(image.cat("info.json"))
    assert (info["arch"], info["bits"], info["exe"]) == ("i386", 32, str(other))
    assert records(image, "auxv.json")[-1]["name"] == "AT_NULL"
    assert SECRET in image.cat("regions/heap")


def test_exit(live: Live, image: OpenImage) -> None:
    reader = image.node("regions/heap").open()
    live.tell("exit", answered=False)
    live.process.wait(20)
    for look in (
        lambda: reader.readinto(0, memoryview(bytearray(16))),
        lambda: image.read(live.at("secret"), 4),
        lambda: image.tree.names(),
        lambda: image.regions,
    ):
        with pytest.raises(MemfsError) as caught:
            look()
        assert caught.value.errno == errno.ESRCH
    line = one_line(memfs("info", live.pid), "no process", str(live.pid))
    assert "ended" in line


def test_a_zombie_says_so(program: Path) -> None:
    with running(program) as live:
        live.tell("exit", answered=False)
        eventually(lambda: live.state() == "Z" and os.listdir(f"/proc/{live.pid}/task") == [str(live.pid)], "a zombie")
        image = package.open(str(live.pid))
        info = json.loads(image.cat("info.json"))
        assert (info["pid"], info["comm"], info["segments"]) == (live.pid, program.name, 0)
        assert any("zombie" in warning for warning in info["warnings"])
        assert records(image, "regions.json") == []
        assert own_part(image.cat("status")) == own_part(live.proc("status"))
        look_through(image.tree, None)
        done = memfs("info", live.pid)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"zombie" in done.stdout


def test_a_kernel_thread_says_so() -> None:
    need(Path("/proc/2/comm").exists() and Path("/proc/2/comm").read_text() == "kthreadd\n", "no kernel threads here")
    image = package.open("2")
    info = json.loads(image.cat("info.json"))
    assert info["comm"] == "kthreadd"
    assert any("kernel thread" in warning for warning in info["warnings"])
    assert image.cat("stat") == Path("/proc/2/stat").read_bytes()
    assert records(image, "regions.json") == []
    look_through(image.tree, None)


def test_a_leader_that_has_ended_leaves_the_memory(program: Path) -> None:
    """The first thread is a zombie, the others live on: what they share is there, through one of them."""
    with running(program) as live:
        live.settle()
        live.tell("leave")
        eventually(lambda: live.state() == "Z", "the leader has ended")
        assert len(os.listdir(f"/proc/{live.pid}/task")) > 1
        image = package.open(str(live.pid))
        info = json.loads(image.cat("info.json"))
        other = live.number("blocked")
        assert info["pid"] == live.pid
        assert not any("memory is gone" in warning for warning in info["warnings"])
        assert SECRET in image.cat("regions/heap")
        assert image.cat("maps") == live.proc(f"task/{other}/maps") != b""
        assert image.cat("cmdline") == live.proc(f"task/{other}/cmdline") != b""
        assert image.cat("auxv") == live.proc(f"task/{other}/auxv") != b""
        assert image.cat("stat") == live.proc("stat")
        assert region_of(image, live.at("blocked.sp"))["name"] == f"stack:{other}"
        exe = image.node("exe")
        assert isinstance(exe, Link)
        assert exe.target == str(program)
        look_through(image.tree, None)


def test_the_leader_leaves_while_it_is_looked_at(live: Live, image: OpenImage) -> None:
    reader = image.node("regions/heap").open()
    data = bytearray(reader.size)
    assert reader.readinto(0, memoryview(data)) == reader.size
    assert SECRET in data
    live.tell("leave")
    eventually(lambda: live.state() == "Z", "the leader has ended")

    def ends() -> bool:
        try:
            return reader.readinto(0, memoryview(data)) != reader.size
        except MemfsError as error:
            return error.errno == errno.ESRCH

    eventually(ends, "an open file is bound to what it was opened through")
    assert SECRET in image.cat("regions/heap")
    assert image.read(live.at("secret"), len(SECRET)) == SECRET


# -- what this kernel may not have ---------------------------------------------------------------------------------

NAMED = b"""\
00400000-00401000 r-xp 00000000 08:01 131 /usr/bin/app
00601000-00602000 rw-p 00001000 08:01 131 /usr/bin/app
00602000-00603000 rw-p 00000000 00:00 0
01c3a000-01c5b000 rw-p 00000000 00:00 0 [heap]
01c5b000-01c5c000 r--p 00000000 00:00 0 [heap]
7f0000000000-7f0000001000 rw-p 00000000 00:00 0 [anon:libc_malloc]
7f0000001000-7f0000002000 rw-p 00000000 00:00 0 [anon:libc_malloc]
7f0000003000-7f0000004000 rw-p 00000000 00:00 0 [anon:libc_malloc]
7f0000004000-7f0000005000 rw-s 00000000 00:01 77 [anon_shmem:a/b c]
7f0000005000-7f0000006000 rw-p 00000000 00:00 0 [anon:]
7f0000006000-7f0000007000 rw-p 00000000 00:00 0 [stack:986]
7f0000007000-7f0000008000 r--p 00000000 08:01 140 /opt/new\\012line.so
7f0000008000-7f0000009000 rw-s 00000000 00:0e 9 anon_inode:[perf_event]
7f0000009000-7f000000a000 rw-p 00000000 00:00 0 [anon:.hidden]
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0 [stack]
7ffd00030000-7ffd00034000 r--p 00000000 00:00 0 [vvar]
7ffd00034000-7ffd00036000 r--p 00000000 00:00 0 [vvar_vclock]
7ffd00036000-7ffd00038000 r-xp 00000000 00:00 0 [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
"""
"""As fs/proc/task_mmu.c (show_map_vma) prints them; [anon:NAME] asks for CONFIG_ANON_VMA_NAME."""


ODDLY_NAMED = b"""\
600000400000-600000403000 rw-p 00000000 00:00 0                          [anon: leading]
600000600000-600000603000 rw-p 00000000 00:00 0                          [anon:trailing ]
600000c00000-600000c03000 rw-p 00000000 00:00 0                          [anon:]
600001800000-600001803000 rw-p 00000000 00:00 0                          [anon:../../etc/passwd]
600001a00000-600001a03000 rw-p 00000000 00:00 0                          [anon:heap]
600001e00000-600001e03000 rw-p 00000000 00:00 0                          [anon:stack:1]
600003200000-600003203000 rw-p 00000000 00:00 0                          [anon:/dev/zero (deleted)]
600003400000-600003403000 rw-p 00000000 00:00 0                          [anon:%2F]
600003a00000-600003a03000 rw-p 00000000 00:00 0                          [anon:a~2]
600005600000-600005603000 rw-p 00000000 00:00 0                          [anon:rw-p 00000000 00:00 0 /etc/passwd]
600005800000-600005803000 rw-p 00000000 00:00 0                          [anon:VmFlags: um]
600005a00000-600005a03000 rw-p 00000000 00:00 0                          [anon: glibc: malloc arena]
600005c00000-600005c03000 rw-p 00000000 00:00 0                          [anon:2345678901234567890123456789012345678901234567890123456789012345678901234567890]
60000c000000-60000c003000 rw-s 00000000 00:01 48                         [anon_shmem:2345678901234567890123456789012345678901234567890123456789012345678901234567890]
60000c800000-60000c802000 rw-p 00000000 00:00 0                          [anon:dup]
60000ca00000-60000ca02000 rw-p 00000000 00:00 0                          [anon:dup]
60000cc00000-60000cc02000 rw-p 00000000 00:00 0                          [anon:dup~2]
60000ce00000-60000ce02000 rw-p 00000000 00:00 0                          [anon:dup]
60000d000000-60000d002000 rw-p 00000000 00:00 0                          [anon:adjA]
60000d002000-60000d004000 rw-p 00000000 00:00 0                          [anon:adjB]
60000d004000-60000d006000 rw-p 00000000 00:00 0 
60000d006000-60000d008000 rw-p 00000000 00:00 0                          [anon:adjA]
60000d400000-60000d402000 r--p 00000000 00:00 0                          [anon:perm]
60000d402000-60000d404000 rw-p 00000000 00:00 0                          [anon:perm]
60000d404000-60000d406000 ---p 00000000 00:00 0                          [anon:perm]
60000d600000-60000d602000 rw-s 00000000 00:01 52                         [anon_shmem:sadj]
60000d602000-60000d604000 rw-s 00000000 00:01 53                         [anon_shmem:sadj]
60000d604000-60000d606000 rw-s 00000000 00:01 54                         /dev/zero (deleted)
60000d606000-60000d608000 rw-p 00000000 00:00 0                          [anon:sadj]
60000e403000-60000e406000 rw-s 00003000 00:01 56                         [anon_shmem:smiddle]
60000e406000-60000e409000 rw-s 00006000 00:01 56                         /dev/zero (deleted)
60000ec00000-60000ec04000 rw-p 00000000 00:01 60                         [anon_shmem:private memfd]
"""  # noqa: W291, E501 - as the kernel prints it
"""As Linux 6.12 with CONFIG_ANON_VMA_NAME printed them. The kernel takes printable ASCII without []\\$ and
the backquote, 79 characters at most."""


class Printed(NoProcess):
    """A process of which there is a maps file alone."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def mappings(self) -> list[Mapping]:
        return [mapping_of(index, area) for index, area in enumerate(parse(self._text))]

    def identity(self) -> Identity:
        return Identity(1, 0, "app", None)


def printed(text: bytes) -> Image:
    """A live process with these mappings."""
    return Image(
        kind="process",
        format="live process",
        target=Target(62, "x86_64", 64, "little", "linux"),
        source=None,
        space=EmptySpace(),
        segments=(),
        notes=(),
        process=Printed(text),
        segment_space=lambda segment: EmptySpace(),
    )  # type: ignore[arg-type]  # fmt: skip - no source: nothing is read of it


def test_names_from_labels_of_other_kernels() -> None:
    image = printed(NAMED)
    found = [(region.name, region.kind, region.size // PAGE) for region in regions.regions(image)]
    assert found == [
        ("app.text", "file", 1), ("app.data", "file", 1), ("app.bss", "bss", 1), ("heap", "heap", 0x22),
        ("anon:libc_malloc", "anon", 2), ("anon:libc_malloc~2", "anon", 1), ("anon_shmem:a%2Fb c", "anon", 1),
        ("anon:", "anon", 1), ("stack:986", "stack", 1), ("new\\012line.so.rodata", "file", 1),
        ("anon_inode:[perf_event].data", "file", 1), ("anon:.hidden", "anon", 1), ("stack", "stack", 0x21),
        ("vvar", "vvar", 4), ("vvar_vclock", "anon", 2), ("vdso", "vdso", 2), ("vsyscall", "vsyscall", 1),
    ]  # fmt: skip


def test_odd_names() -> None:
    """A name stays inside the directory and is nobody else's; what adjoins and has one name is one region."""
    longest = "234567890" + "1234567890" * 7
    found = regions.regions(printed(ODDLY_NAMED))
    assert [(region.name, region.kind, region.size // PAGE) for region in found] == [
        ("anon: leading", "anon", 3), ("anon:trailing ", "anon", 3), ("anon:", "anon", 3),
        ("anon:..%2F..%2Fetc%2Fpasswd", "anon", 3), ("anon:heap", "anon", 3), ("anon:stack:1", "anon", 3),
        ("anon:%2Fdev%2Fzero (deleted)", "anon", 3), ("anon:%252F", "anon", 3), ("anon:a~2", "anon", 3),
        ("anon:rw-p 00000000 00:00 0 %2Fetc%2Fpasswd", "anon", 3), ("anon:VmFlags: um", "anon", 3),
        ("anon: glibc: malloc arena", "anon", 3), (f"anon:{longest}", "anon", 3), (f"anon_shmem:{longest}", "anon", 3),
        ("anon:dup", "anon", 2), ("anon:dup~2", "anon", 2), ("anon:dup~2~2", "anon", 2), ("anon:dup~3", "anon", 2),
        ("anon:adjA", "anon", 2), ("anon:adjB", "anon", 2), ("anon.60000d004000", "anon", 2),
        ("anon:adjA~2", "anon", 2), ("anon:perm", "anon", 6), ("anon_shmem:sadj", "anon", 4), ("zero.data", "file", 2),
        ("anon:sadj", "anon", 2), ("anon_shmem:smiddle", "anon", 3), ("zero.data~2", "file", 3),
        ("anon_shmem:private memfd", "anon", 4),
    ]  # fmt: skip
    assert {region.deleted for region in found if region.path is None} == {False}
