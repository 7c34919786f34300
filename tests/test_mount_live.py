"""Mounts of what is alive: a process, and a /proc as a directory of all of them, over every transport."""

import contextlib
import errno
import hashlib
import importlib.util
import json
import mmap
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from living import AREA, ENVIRONMENT, SECRET, Live, own_part, program_of, running
from mounting import LET_GO, daemons, eventually, memfs, mounted, seeks
from needs import need, need_tools, run
from treecheck import read_path

PAGE = 4096
TIMEOUT = 60

AREA_WORDS = b"".join(f"AREA {at}".encode().ljust(64, b"\0") for at in range(0, AREA, 64))


@pytest.fixture
def mount(live: Live, point: Path) -> Iterator[Path]:
    """A mount of that process."""
    with mounted(live.pid, point):
        yield point


@pytest.fixture
def everything(point: Path) -> Iterator[Path]:
    """A mount of /proc."""
    with mounted("/proc", point):
        yield point


def whole(path: Path) -> bytes:
    """All bytes of a file, which has no error in it."""
    data, number = read_path(path)
    assert not number, (path, errno.errorcode[number])
    return data


def area_of(live: Live) -> str:
    return f"regions/anon.{live.at('area'):x}"


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


# -- a whole /proc -------------------------------------------------------------------------------------------------


def pids(directory: Path) -> set[int]:
    return {int(name) for name in os.listdir(directory) if name.isdigit()}


def born() -> dict[int, bytes]:
    """The processes of this machine, and when each was started."""
    out = {}
    for pid in pids(Path("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            out[pid] = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19]
    return out


def test_listing(live: Live, everything: Path) -> None:
    """The same processes as /proc, but those that came or went meanwhile; and files of the machine."""
    before = born()
    listed = pids(everything)
    after = born()
    stayed = {pid for pid, _ in before.items() & after.items()}  # a number may be another process's by then
    assert stayed <= listed <= before.keys() | after.keys()
    assert {live.pid, os.getpid(), 1} <= listed
    names = [name for name in os.listdir(everything) if not name.isdigit()]
    assert names == ["self", "stat", "uptime", "meminfo", "version", "mounts", "cpuinfo", "loadavg"]


def test_root_files(everything: Path) -> None:
    assert whole(everything / "version") == Path("/proc/version").read_bytes()
    assert whole(everything / "cpuinfo").startswith(Path("/proc/cpuinfo").read_bytes()[:12])
    assert whole(everything / "stat").startswith(b"cpu ")
    assert b"btime " in whole(everything / "stat")
    assert abs(float(whole(everything / "uptime").split()[0]) - float(Path("/proc/uptime").read_text().split()[0])) < 20
    assert whole(everything / "meminfo").splitlines()[0] == Path("/proc/meminfo").read_bytes().splitlines()[0]
    assert os.fsencode(everything) in whole(everything / "mounts")
    assert len(whole(everything / "loadavg").split()) == 5


def test_self_is_the_reader(everything: Path) -> None:
    assert os.readlink(everything / "self") == str(os.getpid())
    done = run(
        "sh", "-c", 'cat "$1/self/comm" && echo $$ && readlink "$1/self" && exec readlink "$1/self"', "sh", everything
    )
    assert done.returncode == 0, done.stderr
    comm, shell_pid, link, own = done.stdout.decode().split()
    assert comm == "cat"
    assert own == shell_pid != link
    found = []
    thread = threading.Thread(target=lambda: found.append(os.readlink(everything / "self")))
    thread.start()
    thread.join(20)
    assert found == [str(os.getpid())]


def test_processes_come_and_go(program: Path, everything: Path) -> None:
    with running(program) as live:
        live.settle()
        here = everything / str(live.pid)
        assert live.pid in pids(everything)
        assert SECRET in whole(here / "regions" / "heap")
        heap = (here / "regions" / "heap").open("rb", buffering=0)
        assert os.pread(heap.fileno(), 4, 0)
    with heap, pytest.raises(OSError) as caught:
        os.pread(heap.fileno(), 4, 0)
    assert caught.value.errno == errno.ESRCH
    assert live.pid not in pids(everything)
    assert not here.exists()
    assert not (here / "maps").exists()
    with pytest.raises(FileNotFoundError):
        os.listdir(here)


@pytest.mark.needs("identity")
def test_a_directory_that_is_open_when_the_process_ends(program: Path, everything: Path) -> None:
    with running(program) as live:
        fd = os.open(everything / str(live.pid), os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError) as caught:
            os.open("maps", os.O_RDONLY, dir_fd=fd)
        assert caught.value.errno in (errno.ENOENT, errno.ESRCH)
        assert "maps" in os.listdir(fd)  # a listing is of the moment when it was opened
    finally:
        os.close(fd)


@contextlib.contextmanager
def another(reborn: Path, pid: int) -> Iterator[None]:
    """Another process with this id."""
    need(os.geteuid() == 0, "only root may choose the id of a process")
    other = subprocess.Popen([reborn, str(pid), "/bin/sleep", "120"], stderr=subprocess.PIPE)
    try:
        comm = Path(f"/proc/{pid}/comm")
        eventually(lambda: other.poll() is not None or read_path(comm)[0] == b"sleep\n", "the other")
        need(other.poll() is None, "the kernel lets nobody choose the id of a process")
        yield
    finally:
        other.kill()
        other.communicate(timeout=20)


def test_a_pid_that_is_used_again(program: Path, everything: Path, tmp_path: Path) -> None:
    """Another process with the same id is another one: a file that is open belongs to the one that ended."""
    with running(program) as live:
        live.settle()
        here = everything / str(live.pid)
        inode = here.stat().st_ino
        heap = (here / "regions" / "heap").open("rb", buffering=0)
        assert whole(here / "comm") == b"live64\n"
    with heap, another(program_of("reborn", tmp_path), live.pid):
        with pytest.raises(OSError) as caught:
            os.pread(heap.fileno(), 4, 0)
        assert caught.value.errno == errno.ESRCH
        assert whole(here / "comm") == b"sleep\n"
        assert here.stat().st_ino != inode
        assert SECRET not in whole(here / "regions" / "heap")


@pytest.mark.needs("identity")
def test_a_directory_whose_pid_is_used_again(program: Path, everything: Path, tmp_path: Path) -> None:
    with running(program) as live:
        live.settle()
        here = everything / str(live.pid)
        directory = os.open(here, os.O_RDONLY | os.O_DIRECTORY)
        below = os.open(here / "regions", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with another(program_of("reborn", tmp_path), live.pid):
            for fd, name in ((directory, "comm"), (directory, "maps"), (directory, "regions"), (below, "heap")):
                with pytest.raises(OSError) as caught:
                    os.open(name, os.O_RDONLY, dir_fd=fd)
                assert caught.value.errno in (errno.ENOENT, errno.ESRCH), name
            assert whole(here / "comm") == b"sleep\n"
    finally:
        os.close(directory)
        os.close(below)


def test_threads_are_no_processes(live: Live, everything: Path) -> None:
    """/proc has a hidden directory for every thread: here it is not."""
    assert Path(f"/proc/{live.number('blocked')}/comm").exists()
    assert not (everything / str(live.number("blocked"))).exists()
    for name in (f"0{live.pid}", f"+{live.pid}", "-1", "0", "99999999999999999999", "²", "self2"):
        assert not (everything / name).exists(), name


def test_kernel_threads_and_zombies(program: Path, everything: Path) -> None:
    with running(program) as live:
        live.tell("exit", answered=False)
        eventually(lambda: live.state() == "Z", "it has ended")
        here = everything / str(live.pid)
        assert json.loads(whole(here / "info.json"))["warnings"] == ["a zombie: it has ended, and its memory is gone"]
        assert os.listdir(here / "regions") == []
        assert whole(here / "stat") == live.proc("stat")
    if Path("/proc/2/comm").read_text() == "kthreadd\n":
        assert "kernel thread" in json.loads(whole(everything / "2" / "info.json"))["warnings"][0]
        assert os.listdir(everything / "2" / "segments") == []


# -- psutil --------------------------------------------------------------------------------------------------------


@pytest.fixture
def there(everything: Path) -> Iterator[ModuleType]:
    """psutil, looking at the mount."""
    need(importlib.util.find_spec("psutil"), "no psutil (pip install .[dev])")
    import psutil

    psutil.PROCFS_PATH = str(everything)
    psutil.process_iter.cache_clear()
    yield psutil
    psutil.PROCFS_PATH = "/proc"


def on_proc(psutil: ModuleType, look: Callable[[], object]) -> object:
    """The same looked at in /proc itself."""
    mount, psutil.PROCFS_PATH = psutil.PROCFS_PATH, "/proc"
    try:
        return look()
    finally:
        psutil.PROCFS_PATH = mount


def test_psutil_on_a_process(live: Live, there: ModuleType) -> None:
    looks: dict[str, Callable[[], object]] = {
        name: (lambda name=name: getattr(there.Process(live.pid), name)())
        for name in (
            "name", "cmdline", "environ", "exe", "ppid", "status", "num_threads", "uids", "gids", "memory_info",
            "create_time", "username",
        )
    }  # fmt: skip
    looks["memory_maps"] = lambda: [
        (area.addr, area.perms, area.path, area.rss, area.size, area.anonymous, area.swap)
        for area in there.Process(live.pid).memory_maps(grouped=False)
    ]
    looks["threads"] = lambda: sorted(thread.id for thread in there.Process(live.pid).threads())
    for name, look in looks.items():
        assert look() == on_proc(there, look), name
    assert looks["environ"]() == ENVIRONMENT


def test_psutil_on_everything(live: Live, there: ModuleType) -> None:
    assert there.boot_time() == on_proc(there, there.boot_time)
    assert live.pid in there.pids()
    found = {process.pid: process.info for process in there.process_iter(["pid", "name", "cmdline", "create_time"])}
    assert found[live.pid]["name"] == "live64"
    assert found[os.getpid()]["cmdline"] == on_proc(there, lambda: there.Process(os.getpid()).cmdline())
    assert there.pid_exists(live.pid)
    assert there.virtual_memory().total == on_proc(there, lambda: there.virtual_memory().total)


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


def test_processes_that_come_and_go_while_all_is_listed(everything: Path) -> None:
    """find over everything, while processes start and end: no error but that something is gone."""
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            subprocess.run(["/bin/true"], check=False, timeout=20)

    threads = [threading.Thread(target=churn, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            done = run("find", everything, "-maxdepth", "2", "-name", "comm", "-type", "f", timeout=TIMEOUT)
            complaints = [line for line in done.stderr.splitlines() if b"No such" not in line]
            assert not complaints
            assert done.stdout.count(b"/comm\n") > 5
            assert run("ls", "-l", everything, timeout=TIMEOUT).stdout.count(b"\n") > 10
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)


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


# -- other users ---------------------------------------------------------------------------------------------------

USER, OTHER = 65533, 65532

LOOK = """
import errno, json, os, sys
base, said = sys.argv[1], {}
def attempt(name, look):
    try:
        look()
        said[name] = "ok"
    except OSError as error:
        said[name] = errno.errorcode[error.errno]
attempt("list", lambda: os.listdir(base))
attempt("stat", lambda: os.stat(base + "/regions/heap"))
attempt("xattr", lambda: os.getxattr(base + "/regions/heap", "user.memfs.address"))
attempt("exe", lambda: os.readlink(base + "/exe"))
attempt("at", lambda: os.stat(base + "/at/0x1000"))
for name in ("maps", "environ", "cmdline", "regions/heap", "mem", "info", "threads.json"):
    attempt(name, lambda: open(base + "/" + name, "rb").read(16))
print(json.dumps(said))
"""


def look_as(uid: int, base: Path) -> dict[str, str]:
    """What a user may do with a process of a mount."""
    python = shutil.which("python3", path="/usr/bin:/bin")
    need(python, "no /usr/bin/python3, which every user may run")
    done = run(python, "-c", LOOK, base, user=uid, group=uid, extra_groups=[], cwd="/")
    assert done.returncode == 0, done.stderr
    said: dict[str, str] = json.loads(done.stdout)
    return said


@pytest.fixture
def open_to_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A mount of /proc that root made for everybody."""
    need(os.geteuid() == 0, "only root can be other users")
    with tempfile.TemporaryDirectory(prefix="live-") as name:
        os.chmod(name, 0o755)
        point = Path(name) / "m"
        with mounted("/proc", point, "-o", "allow_other,umask=022"):
            yield point


def test_other_users_see_what_the_kernel_lets_them(program: Path, open_to_all: Path) -> None:
    """Their own processes, and nothing of root's or of each other's, whatever the modes say."""
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    need(not scope.exists() or scope.read_text().strip() == "0", "yama lets nobody look")
    public = open_to_all.parent / "live"
    shutil.copyfile(program, public)
    public.chmod(0o755)
    with (
        running(public, user=USER, group=USER, extra_groups=[]) as theirs,
        running(program) as roots,
    ):
        theirs.settle()
        mine = look_as(USER, open_to_all / str(theirs.pid))
        assert mine.pop("mem") == "ENODATA"  # nothing is mapped at 0
        assert mine.pop("at") == "ENOENT"
        assert set(mine.values()) == {"ok"}, mine
        for uid, live in ((USER, roots), (OTHER, theirs), (OTHER, roots)):
            said = look_as(uid, open_to_all / str(live.pid))
            assert set(said.values()) == {"EACCES"}, (uid, said)
        theirs.tell("undumpable")
        assert set(look_as(USER, open_to_all / str(theirs.pid)).values()) == {"EACCES"}
        assert SECRET in whole(open_to_all / str(theirs.pid) / "regions" / "heap")


AGAIN = """
import errno, os, sys
base, offset = sys.argv[1], int(sys.argv[2], 16)
files = {name: os.open(base + "/" + name, os.O_RDONLY) for name in ("mem", "regions/heap", f"at/{offset:#x}:16")}
below = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
def attempt(name, look):
    try:
        look()
        print(name, "ok", flush=True)
    except OSError as error:
        print(name, errno.errorcode[error.errno], flush=True)
def all():
    for name, fd in files.items():
        attempt(name, lambda: os.pread(fd, 4, offset if name == "mem" else 0))
    attempt("seek", lambda: os.lseek(files["mem"], offset, os.SEEK_DATA))
    attempt("openat", lambda: os.close(os.open("mem", os.O_RDONLY, dir_fd=below)))
    attempt("stat", lambda: os.stat("regions/heap", dir_fd=below))
    print("end", flush=True)
all()
sys.stdin.readline()
all()
"""


def test_what_is_open_when_a_setuid_program_is_executed(program: Path, open_to_all: Path) -> None:
    """A user has files of an own process open, which then becomes root's: nothing of that may be seen through them."""
    python = shutil.which("python3", path="/usr/bin:/bin")
    need(python, "no /usr/bin/python3, which every user may run")
    public, setuid = open_to_all.parent / "live", open_to_all.parent / "setuid"
    for path, mode in ((public, 0o755), (setuid, 0o4755)):
        shutil.copyfile(program, path)
        path.chmod(mode)
    need(not os.statvfs(setuid).f_flag & os.ST_NOSUID, "the temporary directory is mounted nosuid")
    with running(public, user=USER, group=USER, extra_groups=[]) as live:
        live.settle()
        command = [str(python), "-c", AGAIN, str(open_to_all / str(live.pid)), live.words["secret"]]
        user = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, user=USER, group=USER, extra_groups=[]
        )
        try:
            assert user.stdout
            assert user.stdin
            before = dict(line.split() for line in iter(user.stdout.readline, "end\n"))
            assert before.pop("seek") == "ok" or not seeks()
            assert set(before.values()) == {"ok"}, before
            live.tell(f"exec {setuid}", answered=False)
            live.answer()
            live.answer(b"ready")
            assert os.stat(f"/proc/{live.pid}/mem").st_uid == 0
            user.stdin.write("again\n")
            user.stdin.flush()
            after = dict(line.split() for line in iter(user.stdout.readline, "end\n"))
        finally:
            user.kill()
            user.communicate(timeout=20)
    assert after.pop("seek") == "EACCES" or not seeks()
    assert set(after.values()) == {"EACCES"}, after


def test_hidden_processes_stay_hidden(tmp_path: Path) -> None:
    """The /proc of hidepid=2 shows root everything: through root's mount others do not see it either."""
    need(os.geteuid() == 0, "only root can be other users")
    with tempfile.TemporaryDirectory(prefix="live-") as name:
        os.chmod(name, 0o755)
        proc, point = Path(name) / "proc", Path(name) / "m"
        proc.mkdir()
        made = run("mount", "-t", "proc", "-o", "hidepid=2", "proc", proc)
        need(made.returncode == 0, "no proc can be mounted here")
        try:
            with mounted(proc, point, "-o", "allow_other,umask=022"):
                assert os.getpid() in pids(point)
                for look in (("ls", point), ("stat", point / str(os.getpid())), ("cat", point / "uptime")):
                    done = run(*look, user=USER, group=USER, extra_groups=[], cwd="/")
                    assert b"Permission denied" in done.stderr, look
                    assert not done.stdout, look
        finally:
            # whoever looks for what uses a mount opens this one, too, for a moment
            eventually(lambda: run("umount", proc).returncode == 0, "the unmount")


def test_without_allow_other_nobody_else_looks(program: Path, everything: Path) -> None:
    need(os.geteuid() == 0, "only root can be other users")
    done = run("ls", everything, user=USER, group=USER, extra_groups=[], cwd="/")
    assert b"Permission denied" in done.stderr


# -- namespaces ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def elsewhere(script: str, *words: object) -> Iterator["subprocess.Popen[bytes]"]:
    """A shell in pid and mount namespaces of its own, with its own /proc; it has said "ready"."""
    need(os.geteuid() == 0, "only root makes namespaces here")
    need_tools("unshare")
    command = [
        "unshare",
        "-m",
        "-p",
        "-f",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        LET_GO + script,
        "sh",
        *map(str, words),
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout
        assert process.stderr
        line = process.stdout.readline()
        need(line == b"ready\n", f"no namespaces can be made here: {line!r}")
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


def test_in_other_namespaces(program: Path, everything: Path, tmp_path: Path) -> None:
    """A process whose ids and files are other ones: its program is on a filesystem that it alone sees."""
    script = """
        set -e
        mount -t tmpfs none /mnt
        cp "$1" /mnt/hidden
        cd /mnt
        sleep 600 | /mnt/hidden > /mnt/said &
        while ! grep -q ready /mnt/said; do sleep 0.05; done
        echo ready
        wait
    """
    with elsewhere(script, program) as outer:
        found = [pid for pid in pids(Path("/proc")) if read_path(Path(f"/proc/{pid}/comm"))[0] == b"hidden\n"]
        assert len(found) == 1, outer
        here = everything / str(found[0])
        assert not Path("/mnt/hidden").exists()
        assert os.readlink(here / "exe") == "/mnt/hidden"
        heap = whole(here / "regions" / "heap")
        assert SECRET in heap
        text = whole(here / "regions" / "hidden.text")
        regions = {region["name"]: region for region in json.loads(whole(here / "regions.json"))}
        offset = int(regions["hidden.text"]["offset"], 16)
        assert text == program.read_bytes()[offset:][: len(text)].ljust(len(text), b"\0")
        assert own_part(whole(here / "status")) == own_part(Path(f"/proc/{found[0]}/status").read_bytes()) != b""
        assert json.loads(whole(here / "info.json"))["pid"] == found[0]


def test_the_proc_of_another_namespace(program: Path, point: Path, tmp_path: Path) -> None:
    """A /proc that shows the processes of a container alone, mounted from outside."""
    script = """
        sleep 600 | "$1" > "$2" &
        while ! grep -q ready "$2"; do sleep 0.05; done
        echo ready
        wait
    """
    with elsewhere(script, program, tmp_path / "said") as outer:
        shell_pid = int(run("pgrep", "-P", outer.pid).stdout.split()[0])
        proc = Path(f"/proc/{shell_pid}/root/proc")
        with mounted(proc, point):
            listed = pids(point)
            assert listed == pids(proc)
            assert 1 in listed
            assert whole(point / "1" / "comm") == b"sh\n"
            inside = next(pid for pid in listed if read_path(proc / str(pid) / "comm")[0] == b"live64\n")
            assert SECRET in whole(point / str(inside) / "regions" / "heap")
            assert json.loads(whole(point / str(inside) / "info.json"))["pid"] == inside
            with pytest.raises(OSError) as caught:
                os.readlink(point / "self")
            assert caught.value.errno == errno.ENOENT  # who reads is not in that namespace


# -- many ----------------------------------------------------------------------------------------------------------


@pytest.mark.kernel_only("what takes long is made below the transports")
def test_five_thousand_processes(everything: Path, tmp_path: Path) -> None:
    count = 5000
    limit = int(Path("/proc/sys/kernel/pid_max").read_text())
    need(limit > 3 * count, f"only {limit} processes can be")
    many = subprocess.Popen(
        [program_of("many", tmp_path), str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert many.stdout
        started = {int(line) for line in iter(many.stdout.readline, "ready\n")}
        need(len(started) == count, f"only {len(started)} processes could be started")
        listed = run("ls", everything, timeout=TIMEOUT)
        assert listed.returncode == 0
        assert started <= {int(word) for word in listed.stdout.split() if word.isdigit()}
        long = run("ls", "-l", everything, timeout=TIMEOUT)
        assert not [line for line in long.stderr.splitlines() if b"No such file" not in line]  # others end
        assert long.stdout.count(b"\n") > count
        done = memfs("ls", "-l", "/proc")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(b"\n") > count
        (daemon,) = daemons(everything)
        some = sorted(started)[:1000]
        assert whole(everything / str(some[0]) / "comm") == b"many\n"
        assert whole(everything / str(some[0]) / "maps") == Path(f"/proc/{many.pid}/maps").read_bytes()
        for pid in some:
            assert whole(everything / str(pid) / "regions" / "vdso")[:4] == b"\x7fELF"
        assert len(os.listdir(f"/proc/{daemon}/fd")) < 800  # of 1024, which most may have
    finally:
        many.communicate(timeout=60)
    eventually(lambda: not started & pids(everything), "they are gone")


@pytest.mark.kernel_only("what takes long is made below the transports")
def test_sixty_thousand_mappings(program: Path, point: Path) -> None:
    most = int(Path("/proc/sys/vm/max_map_count").read_text())
    need(most > 62_000, f"only {most} mappings can be")
    with running(program, env={"MAPPINGS": "60000"}) as live:
        live.settle()
        with mounted(live.pid, point):
            names = run("ls", point / "regions", timeout=TIMEOUT)
            assert names.returncode == 0, names.stderr
            assert names.stdout.count(b"\n") > 60_000
            assert SECRET in whole(point / "regions" / "heap")
            assert whole(point / area_of(live)) == AREA_WORDS
            assert len(json.loads(whole(point / "regions.json"))) > 60_000
            assert whole(point / "maps") == live.proc("maps")
            assert len(os.listdir(point / "segments")) == live.proc("maps").count(b"\n")


@pytest.mark.kernel_only("it is about the numbers of nodes, which that transport alone gives the kernel")
def test_files_that_were_looked_up_long_ago(live: Live, mount: Path) -> None:
    """What is no longer kept is found again: descriptors without reading (O_PATH), and texts that are open."""
    held = os.open(mount / "regions" / "heap", os.O_PATH)
    gone = os.open(mount / area_of(live), os.O_PATH)
    with (mount / "maps").open("rb", buffering=0) as maps:
        text = maps.read(1 << 20)
        for name in os.listdir(mount / "segments"):
            os.stat(mount / "segments" / name)
        for at in range(300):
            os.stat(mount / "at" / f"{live.at('secret') + at:#x}:1")
        live.tell("unmap")
        maps.seek(0)
        assert maps.read(1 << 20) == text != live.proc("maps")
    with open(f"/proc/self/fd/{held}", "rb") as heap:
        assert SECRET in heap.read()
    # found again within the moment for which a look at the process is good, it is a mapping whose bytes are gone
    refusals = (errno.ESTALE, errno.ENOENT, errno.ENODATA)
    eventually(lambda: read_path(Path(f"/proc/self/fd/{gone}")) in [(b"", error) for error in refusals], "it is gone")
    os.close(held)
    os.close(gone)
