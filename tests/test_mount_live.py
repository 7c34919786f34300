"""Mounts of a live process, over every transport."""

import errno
import hashlib
import importlib.util
import json
import mmap
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from living import AREA, AREA_WORDS, SECRET, Live, area_of, own_part, running
from mounting import daemons, eventually, memfs, mounted
from needs import need, need_tools, run
from treecheck import read_path, whole

PAGE = 4096
TIMEOUT = 60


# -- a process -----------------------------------------------------------------------------------------------------


def test_files_of_a_process(live: Live, mount: Path, program: Path) -> None:
    for name in ("maps", "cmdline", "environ", "comm", "auxv", "limits", "statm", "status", "stat"):
        assert own_part(whole(mount / name)) == own_part(live.proc(name)), name
    assert own_part(whole(mount / "smaps")) == own_part(live.proc("smaps")) != b""
    assert os.readlink(mount / "exe") == str(program)
    assert set(os.listdir(mount / "task")) == set(os.listdir(f"/proc/{live.pid}/task"))
    assert whole(mount / "task" / str(live.pid) / "comm") == live.proc("comm")
    assert SECRET in whole(mount / "regions" / "heap")
    assert whole(mount / area_of(live)) == AREA_WORDS
    assert whole(mount / "at" / f"{live.at('secret'):#x}:{len(SECRET)}") == SECRET
    with (mount / "mem").open("rb", buffering=0) as mem:
        assert os.pread(mem.fileno(), len(SECRET), live.at("secret")) == SECRET
        with pytest.raises(OSError) as caught:
            os.pread(mem.fileno(), 16, 16)
        assert caught.value.errno == errno.ENODATA
    assert (mount / "maps").stat().st_size == 0
    assert (mount / area_of(live)).stat().st_size == AREA


def test_times_and_owner(live: Live, everything: Path) -> None:
    """A process is as old as it is, and whose the kernel says."""
    there = os.stat(f"/proc/{live.pid}/mem")
    for name in ("", "maps", "regions", "regions/heap"):
        info = os.stat(everything / str(live.pid) / name)
        assert (info.st_uid, info.st_gid) == (there.st_uid, there.st_gid), name
        assert abs(info.st_mtime - time.time()) < 300


def test_read_afresh_at_every_read(live: Live, mount: Path) -> None:
    with (mount / area_of(live)).open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 6, 0) == b"AREA 0"
        live.tell("change")
        assert os.pread(file.fileno(), 9, 0) == b"CHANGED 0"


def test_text_is_pinned_while_it_is_open(live: Live, mount: Path) -> None:
    """From the first open to the last close all readers see one text; then it is made anew."""
    path = mount / "maps"
    with path.open("rb", buffering=0) as first:
        before = first.read(1 << 20)
        assert before == live.proc("maps")
        live.tell("move")
        with path.open("rb", buffering=0) as second:
            assert second.read(1 << 20) == before != live.proc("maps")
        first.seek(0)
        assert first.read(1 << 20) == before
        assert path.stat().st_size == len(before)
    assert whole(path) == live.proc("maps") != before


def test_mapped(live: Live, mount: Path) -> None:
    """MAP_SHARED is refused; MAP_PRIVATE is what was there when it was first touched."""
    fd = os.open(mount / area_of(live), os.O_RDONLY)
    try:
        with pytest.raises(OSError) as caught:
            mmap.mmap(fd, PAGE, mmap.MAP_SHARED, mmap.PROT_READ)
        assert caught.value.errno == errno.ENODEV
        with mmap.mmap(fd, PAGE, mmap.MAP_PRIVATE, mmap.PROT_READ) as window:
            assert window[:6] == b"AREA 0"
            live.tell("change")
            assert window[:6] == b"AREA 0"
        with mmap.mmap(fd, PAGE, mmap.MAP_PRIVATE, mmap.PROT_READ) as window:
            assert window[:9] == b"CHANGED 0"
    finally:
        os.close(fd)


def test_what_is_mapped_instead_is_never_shown(live: Live, mount: Path) -> None:
    path = mount / area_of(live)
    with path.open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 6, 0) == b"AREA 0"
        live.tell("other")
        with pytest.raises(OSError) as caught:
            os.pread(file.fileno(), 6, 0)
        assert caught.value.errno == errno.ENODATA
        eventually(lambda: not path.exists(), "the region is gone")
    assert whole(mount / "regions" / "memfd:other.data").startswith(b"OTHER 0")


def test_exec(live: Live, mount: Path) -> None:
    with (mount / "regions" / "heap").open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 4, 0)
        live.tell("exec")
        live.answer(b"ready")
        live.settle()
        with pytest.raises(OSError) as caught:
            os.pread(file.fileno(), 4, 0)
        assert caught.value.errno == errno.ENODATA
    assert whole(mount / "cmdline") == b"./live\0after\0exec\0"
    assert whole(mount / "maps") == live.proc("maps")
    assert SECRET in whole(mount / "regions" / "heap")


def test_exit_with_files_open(live: Live, mount: Path) -> None:
    with (mount / "regions" / "heap").open("rb", buffering=0) as heap, (mount / "maps").open("rb") as maps:
        text = maps.read()
        live.process.kill()
        live.process.wait(20)
        with pytest.raises(OSError) as caught:
            os.pread(heap.fileno(), 4, 0)
        assert caught.value.errno == errno.ESRCH
        maps.seek(0)
        assert maps.read() == text
    for look in (lambda: os.listdir(mount), lambda: (mount / "maps").read_bytes()):
        with pytest.raises(OSError) as caught:
            look()
        assert caught.value.errno in (errno.ESRCH, errno.ENOENT)


# -- what people do with files -------------------------------------------------------------------------------------


def shell(command: str, *words: object) -> bytes:
    done = run("sh", "-c", command, "sh", *words, timeout=TIMEOUT)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


TOOLS = {
    "cat": ('cat "$1"', lambda data: data),
    "tail": ('tail -c 100 "$1"', lambda data: data[-100:]),
    "head": ('head -c 100 "$1"', lambda data: data[:100]),
    "dd": ('dd if="$1" bs=1000 skip=3 count=2 2>/dev/null', lambda data: data[3000:5000]),
    "sha256sum": ('sha256sum < "$1" | cut -c 1-64', lambda data: hashlib.sha256(data).hexdigest().encode() + b"\n"),
    "xxd": ('xxd -p "$1" | xxd -r -p', lambda data: data),
    "strings": ('strings "$1" | head -2', lambda data: b"AREA 0\nAREA 64\n"),
    "grep": ('grep -c -a "AREA 4096" "$1"', lambda data: b"1\n"),
    "grep -r": ('cd "$(dirname "$1")" && grep -rlab "AREA 4096" "$(basename "$1")"', lambda data: None),
    "rg": ('rg --no-config -a -c --no-mmap "AREA 4096" "$1"', lambda data: b"1\n"),
    "rg, mapped": ('rg --no-config -a -c --mmap "AREA 4096" "$1"', lambda data: b"1\n"),
    "less": ('less -f "$1" | head -c 6', lambda data: data[:6]),
}  # fmt: skip


@pytest.mark.parametrize("tool", TOOLS)
def test_tools(live: Live, mount: Path, tool: str) -> None:
    need_tools(tool.split(",")[0].split(" ")[0])
    command, expected = TOOLS[tool]
    said = shell(command, mount / area_of(live))
    wanted = expected(AREA_WORDS)
    assert said == wanted if wanted is not None else said, tool


def test_tools_on_text(live: Live, mount: Path) -> None:
    assert shell('tail -n 1 "$1"', mount / "maps") == live.proc("maps").splitlines(keepends=True)[-1]
    assert shell('wc -l < "$1"', mount / "maps").split() == [str(live.proc("maps").count(b"\n")).encode()]
    assert shell('cp "$1" "$2" && cat "$2"', mount / "maps", mount.parent / "copy") == live.proc("maps")
    assert own_part(shell('LESS= less "$1" < /dev/null', mount / "status")) == own_part(live.proc("status")) != b""


def test_cp(live: Live, mount: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shell('cp "$1" "$2"', mount / area_of(live), copy)
    assert copy.read_bytes() == AREA_WORDS


@pytest.mark.needs("seek")
def test_cp_sparse(live: Live, mount: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    memfd = mount / "regions" / "memfd:a memfd.data"
    shell('cp --sparse=always "$1" "$2"', memfd, copy)
    assert copy.read_bytes() == whole(memfd)
    assert copy.stat().st_blocks * 512 <= PAGE


def test_yara(live: Live, mount: Path) -> None:
    need(importlib.util.find_spec("yara"), "no yara-python (pip install .[dev])")
    import yara

    rules = yara.compile(source='rule secret { strings: $a = "a secret in the heap of live.c" condition: $a }')
    found = [
        path.name for path in (mount / "regions").iterdir() if path.name in ("heap", "stack") and rules.match(str(path))
    ]
    assert found == ["heap"]


# -- races ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["unmap", "other", "move", "exec", "exit"])
def test_changes_in_the_middle_of_reads(program: Path, point: Path, word: str) -> None:
    """Nothing hangs, and no bytes come that the region never had."""
    with running(program) as live:
        live.settle()
        with mounted(live.pid, point):
            fd = os.open(point / area_of(live), os.O_RDONLY)
            seen: list[bytes] = []
            errors: list[int] = []
            stop = threading.Event()

            def reading() -> None:
                while not stop.is_set():
                    offset = random.randrange(0, AREA, PAGE)
                    try:
                        data = os.pread(fd, 3 * PAGE, offset)
                    except OSError as error:
                        errors.append(error.errno or 0)
                        continue
                    if data != AREA_WORDS[offset : offset + len(data)]:
                        seen.append(data)

            readers = [threading.Thread(target=reading, daemon=True) for _ in range(3)]
            for reader in readers:
                reader.start()
            time.sleep(0.2)
            live.tell(word, answered=False)
            time.sleep(0.5)
            stop.set()
            for reader in readers:
                reader.join(20)
                assert not reader.is_alive(), "a read hangs"
            os.close(fd)
            assert not seen
            assert set(errors) == {errno.ESRCH if word == "exit" else errno.ENODATA}


# -- what is mapped of the mount itself ----------------------------------------------------------------------------

MIRROR = """
import ctypes, mmap, os, sys
base = f"{sys.argv[1]}/{os.getpid()}"
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
size = 4 * mmap.PAGESIZE
room = libc.mmap(None, 3 * size, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
at = room + size
fd = os.open(f"{base}/mem", os.O_RDONLY)
assert libc.mmap(at, size, mmap.PROT_READ, mmap.MAP_PRIVATE | 0x10, fd, at) == at  # MAP_FIXED
print(hex(at), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("lazily", [False, True], ids=["mounted", "unmounted lazily"])
def test_a_file_that_shows_its_own_pages(everything: Path, lazily: bool) -> None:
    """A process maps the file that shows the place of that mapping: reading it must not wait for itself."""
    mirror = subprocess.Popen(
        [sys.executable, "-c", MIRROR, everything], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert mirror.stdout
        at = int(mirror.stdout.readline(), 16)
        fds = [os.open(everything / str(mirror.pid) / name, os.O_RDONLY) for name in ("mem", f"at/{at:#x}:8192")]
        if lazily:
            assert memfs("umount", "-l", everything).returncode == 0
        for fd, offset in zip(fds, (at, 0), strict=True):
            with pytest.raises(OSError) as caught:
                os.pread(fd, PAGE, offset)
            assert caught.value.errno == errno.ENODATA
            os.close(fd)
        if not lazily:
            assert b"/mem" in whole(everything / str(mirror.pid) / "maps")
            assert json.loads(whole(everything / str(mirror.pid) / "regions.json"))
    finally:
        mirror.communicate("", timeout=20)


def test_the_server_looks_at_itself(everything: Path) -> None:
    """Its own memory is there as everybody's, and nothing waits for anything."""
    (daemon,) = daemons(everything)
    here = everything / str(daemon)
    assert whole(here / "cmdline") == Path(f"/proc/{daemon}/cmdline").read_bytes()
    looked = 0
    for name in os.listdir(here / "regions"):
        data, number = read_path(here / "regions" / name)
        assert number in (0, errno.ENODATA, errno.ENOENT), name  # it starts threads
        looked += len(data)
    assert looked > 1 << 20
    for name in ("info", "maps", "threads.json", "regions.json", "smaps"):
        assert whole(here / name), name


def test_grep_of_a_whole_process(live: Live, mount: Path) -> None:
    """It ends, and finds what it seeks wherever it is shown."""
    done = run("grep", "-rlF", SECRET.decode(), mount, timeout=TIMEOUT)
    found = {line.removeprefix(f"{mount}/") for line in done.stdout.decode().splitlines()}
    assert "regions/heap" in found
    assert any(name.startswith("segments/") for name in found)
    assert "maps" not in found
    allowed = b"No data available", b"No such file or directory"  # of memory that went while grep was on its way
    assert not [line for line in done.stderr.splitlines() if not line.endswith(allowed)]
