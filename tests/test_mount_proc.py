"""Mounts of a /proc as a directory of all its processes, over every transport."""

import contextlib
import errno
import importlib.util
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from living import AREA_WORDS, ENVIRONMENT, SECRET, Live, area_of, pids, program_of, running
from mounting import daemons, eventually, memfs, mounted
from needs import need, run
from treecheck import read_path, whole

TIMEOUT = 60


# -- a whole /proc -------------------------------------------------------------------------------------------------


def born() -> dict[int, bytes]:
    """The processes of this machine, and when each was started."""
    out = {}
    for pid in pids(Path("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            out[pid] = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19]
    return out


def test_listing(live: Live, everything: Path) -> None:
    """The same processes as /proc, but those that came or went meanwhile; and files of the machine."""
    for _ in range(10):
        before = born()
        listed = pids(everything)
        after = born()
        stayed = {pid for pid, _ in before.items() & after.items()}  # a number may be another process's by then
        assert stayed <= listed
        assert {live.pid, os.getpid(), 1} <= listed
        extra = listed - before.keys() - after.keys()
        if not extra:  # else one came and went in between: other tests start programs
            break
        time.sleep(0.1)
    else:
        raise AssertionError(f"each time there were processes that /proc does not have, {extra}")
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
