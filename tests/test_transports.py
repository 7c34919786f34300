"""The transports: every test that mounts runs over each, but for those that say why not; the table of what one of them
lacks tells the truth; what is not installed is said."""

import contextlib
import fcntl
import json
import mmap
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import Crash
from makecore import Header, core
from mounting import (
    ENV,
    MEMFS,
    counted,
    daemons,
    eventually,
    memfs,
    mount_lines,
    mounted,
    nothing_left,
    one_line,
    stuck_mount,
)
from needs import REPO, need, need_tools, run

from memfs.fuse.transport import LACKS, TRANSPORTS, Transport

ALL = {row.name: set(row.lacks) for row in TRANSPORTS if row.name != "libfuse"}  # which is one of the others
COLLECT = """
import inspect, json, sys, pytest
class Collected:
    def pytest_collection_finish(self, session):
        for item in session.items:
            transport = item.callspec.params.get("transport") if hasattr(item, "callspec") else None
            marks = [[mark.name, *map(str, mark.args)] for mark in item.iter_markers()]
            name, source = item.nodeid.partition("[")[0], inspect.getsource(item.function)
            print("ITEM", json.dumps([name, transport, marks, source]))
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-o", "addopts=", "tests"],
                     plugins=[Collected()]))
"""
MOUNTS = (
    "mounted(",
    'memfs("mount"',
    "foreground(",
    "Server(",
    "mnt:",
    "stuck:",
    'user.memfs("mount"',
    "stuck_mount(",
    "looked(",
)
"""What the text of a test has in it that mounts."""


class Collected(NamedTuple):
    """A test function: what it runs over, its marks, and its text."""

    transports: set[str | None]
    kernel_only: str
    needs: set[str]
    source: str


@pytest.fixture(scope="module")
def collected() -> dict[str, Collected]:
    done = run(sys.executable, "-c", COLLECT, cwd=REPO, env=ENV, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    found: dict[str, Collected] = {}
    for line in done.stdout.decode().splitlines():
        if line.startswith("ITEM "):
            name, transport, marks, source = json.loads(line[5:])
            only = next((mark[1] for mark in marks if mark[0] == "kernel_only"), "")
            needs = {word for mark in marks if mark[0] == "needs" for word in mark[1:]}
            found.setdefault(name, Collected(set(), only, needs, source)).transports.add(transport)
    return found


def mounts(test: Collected) -> bool:
    return any(word in test.source.replace('memfs("mount", "--help")', "") for word in MOUNTS)


def test_every_test_of_a_mount_runs_over_every_transport(collected: dict[str, Collected]) -> None:
    mounting = {name: test for name, test in collected.items() if mounts(test)}
    assert len(mounting) > 90
    for name, test in mounting.items():
        able = {transport for transport, lacks in ALL.items() if not lacks & test.needs}
        assert test.transports == ({"kernel"} if test.kernel_only else able), name
        assert test.needs <= set(LACKS)
    everywhere = [test for test in mounting.values() if test.transports == set(ALL)]
    assert len(everywhere) > 0.8 * len(mounting)


def test_the_transport_is_the_one_that_was_asked_for(secret_core: Path, point: Path, transport: str) -> None:
    """By what the daemon has loaded."""
    with mounted(secret_core, point):
        (daemon,) = daemons(point)
        loaded = Path(f"/proc/{daemon}/maps").read_text()
    libraries = {name for name in ("libfuse.so.2", "libfuse3.so.3", "libfuse3.so.4") if name in loaded}
    assert (
        libraries
        <= {"kernel": set(), "mfusepy": {"libfuse3.so.3", "libfuse3.so.4"}, "fusepy": {"libfuse.so.2"}}[transport]
    )
    assert bool(libraries) == (transport != "kernel")


# -- what they lack, what they need --------------------------------------------------------------------------------

BY_NAME = pytest.mark.parametrize("row", TRANSPORTS, ids=lambda row: row.name)


@BY_NAME
@pytest.mark.kernel_only("it chooses its transport itself")
def test_what_a_transport_lacks_it_lacks(row: Transport, crash_core: Crash, point: Path) -> None:
    """The table tells the truth, in both directions: seek, readdirplus, cached_names."""
    lacks = row.lacks
    assert lacks == tuple(word for word in LACKS if word in lacks)
    log = point.with_suffix(".log")
    with mounted(crash_core.core, point, "-o", f"fuse={row.name},log={log}"):
        absent = next(p for p in (point / "segments").iterdir() if p.stat().st_blocks * 512 < p.stat().st_size)
        with absent.open("rb") as file:
            hole = os.lseek(file.fileno(), 0, os.SEEK_HOLE)
        assert (hole == absent.stat().st_size) == ("seek" in lacks)
        before = counted(point, log)
        names = os.listdir(point / "notes")
        listing = counted(point, log)
        for name in names:
            (point / "notes" / name).stat()
        after = counted(point, log)
        asked = sum(after.values()) - sum(listing.values())
        assert len(names) > 3
        assert (asked >= len(names)) == ("readdirplus" in lacks), (before, listing, after)
        os.listdir(point / "segments")
        first = counted(point, log)
        os.listdir(point / "segments")
        second = counted(point, log)
        assert listed(second) > 0
        assert (listed(second) > listed(first)) == ("cached_names" in lacks)


def large_pipes() -> bool:
    """Whether this user may have a pipe of 2 MiB."""
    read, write = os.pipe()
    try:
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 2 << 20)
    except PermissionError:
        return False
    finally:
        os.close(read)
        os.close(write)
    return True


@BY_NAME
@pytest.mark.kernel_only("it chooses its transport itself")
def test_how_much_a_transport_reads_at_once(row: Transport, point: Path, tmp_path: Path) -> None:
    """The cell `1m`: four reads of 1 MiB, direct, are a request or two each (252 pages and 4, where a pipe for 256 and
    a header is refused), or many more."""
    path, log = tmp_path / "large.core", point.with_suffix(".log")
    data = bytes(range(256)) * (4 << 12)
    path.write_bytes(core([Header(address=0x10000, data=data, memory_size=len(data) + 4096)]))
    with mounted(path, point, "-o", f"fuse={row.name},log={log}"):
        (segment,) = (point / "segments").iterdir()
        before = reads(counted(point, log))
        with segment.open("rb", buffering=0) as file, mmap.mmap(-1, 1 << 20) as buffer:  # whole pages, as dd has them
            for offset in range(0, len(data), 1 << 20):
                assert os.preadv(file.fileno(), [buffer], offset) == 1 << 20
                assert buffer[:] == data[offset : offset + (1 << 20)]
        requests = reads(counted(point, log)) - before
    assert requests == 4 * (8 if "1m" in row.lacks else 2 if row.name == "kernel" and not large_pipes() else 1)


@BY_NAME
@pytest.mark.kernel_only("it chooses its transport itself")
def test_who_is_stuck_can_be_killed_or_not(row: Transport, point: Path, tmp_path: Path) -> None:
    """The cell `interrupt`: a killed reader is gone while its read still hangs, or not before it ends."""
    file = tmp_path / "mapped"
    file.write_bytes(b"m")
    with stuck_mount(point, row.name, file) as stuck:
        (reader,) = stuck.readers(0)
        reader.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            reader.wait(3)
        assert (reader.poll() is None) == ("interrupt" in row.lacks)
        os.write(stuck.pipe, b"x")
        assert reader.wait(20) == -signal.SIGKILL
        stuck.end()


def listed(counts: dict[str, int]) -> int:
    """How many requests asked for names."""
    return sum(count for name, count in counts.items() if name.lower().startswith("readdir"))


def reads(counts: dict[str, int]) -> int:
    """How many requests asked for bytes."""
    return sum(count for name, count in counts.items() if name.lower() == "read")


@pytest.mark.parametrize("name", ["mfusepy", "fusepy", "libfuse"])
@pytest.mark.kernel_only("it chooses its transport itself")
def test_a_transport_that_is_not_installed(secret_core: Path, point: Path, venv: Path, name: str) -> None:
    done = run(venv, "-I", "-m", "memfs", "mount", "-o", f"fuse={name}", secret_core, point)
    one_line(done, "is not installed", "pip install 'memfs-fuse[")
    assert not mount_lines(point)


@pytest.mark.kernel_only("it chooses its transport itself")
def test_a_library_that_is_not_there(secret_core: Path, point: Path) -> None:
    env = {**ENV, "FUSE_LIBRARY_PATH": "/nonexistent/libfuse.so"}
    line = one_line(memfs("mount", "-o", "fuse=mfusepy", secret_core, point, env=env), "/nonexistent/libfuse.so")
    assert "fuse=" in line


@pytest.mark.kernel_only("it chooses its transport itself")
def test_mfusepy_over_libfuse_2(secret_core: Path, point: Path) -> None:
    env = {**ENV, "FUSE_LIBRARY_PATH": "libfuse.so.2"}
    need(b"libfuse.so.2" in run("ldconfig", "-p").stdout, "no libfuse 2")
    with nothing_left(point):
        assert memfs("mount", "-o", "fuse=mfusepy", secret_core, point, env=env).returncode == 0
        assert b"libfuse.so.2" in Path(f"/proc/{daemons(point)[0]}/maps").read_bytes()
        assert b"swordfish" in (point / "regions/heap").read_bytes()
        assert memfs("umount", point).returncode == 0
        eventually(lambda: not daemons(point), "the daemon ends")


def hidden(*libraries: str) -> str:
    """A shell's line that hides libraries, for a mount namespace."""
    listed = [line.split() for line in run("ldconfig", "-p").stdout.decode().splitlines() if " => " in line]
    paths = {words[0]: os.path.realpath(words[-1]) for words in listed}
    need(set(libraries) <= set(paths), f"not all of {', '.join(libraries)} are installed")
    return " && ".join(f"mount --bind /dev/null {paths[library]}" for library in libraries)


@pytest.mark.kernel_only("it chooses its transport itself")
@pytest.mark.parametrize("name", ["mfusepy", "libfuse"])
def test_libfuse_2_where_only_that_is_there(secret_core: Path, point: Path, name: str) -> None:
    need(os.geteuid() == 0, "needs root to hide a library")
    need_tools("unshare")
    memfs_command = shlex.join(MEMFS)
    script = f"""
        {hidden("libfuse3.so.3")} || exit 9
        {memfs_command} mount -o fuse={name} {secret_core} {point} || exit 1
        cat {point}/comm
        grep -ho 'libfuse[^/]*$' $(grep -ls {point} /proc/[0-9]*/cmdline | sed s/cmdline/maps/) 2>/dev/null | sort -u
        {memfs_command} umount {point}
    """
    with nothing_left(point):
        done = run("unshare", "-m", "--propagation", "private", "sh", "-c", script, env=ENV)
        assert (done.returncode, done.stderr) == (0, b""), done
        comm, *loaded = done.stdout.decode().splitlines()
        assert comm == "secret"
        assert loaded
        assert all(library.startswith("libfuse.so.2") for library in loaded)
        eventually(lambda: not daemons(point), "the daemon ends")


@pytest.mark.kernel_only("it chooses its transport itself")
@pytest.mark.parametrize("name", ["mfusepy", "fusepy", "libfuse"])
def test_where_no_libfuse_is_there(secret_core: Path, point: Path, name: str) -> None:
    need(os.geteuid() == 0, "needs root to hide a library")
    need_tools("unshare")
    words = shlex.join([*MEMFS, "mount", "-o", f"fuse={name}", str(secret_core), str(point)])
    script = f"{hidden('libfuse3.so.3', 'libfuse.so.2')} && exec {words}"
    done = run("unshare", "-m", "--propagation", "private", "sh", "-c", script, env=ENV)
    one_line(done, "is not installed", "apt install", "or leave out -o fuse=")
    assert not mount_lines(point)


@pytest.mark.kernel_only("it chooses its transport itself")
def test_libfuse_says_why_it_could_not_mount(secret_core: Path, point: Path) -> None:
    """What libfuse prints becomes the one line."""
    need(os.geteuid() == 0, "needs root to hide a device")
    need_tools("unshare")
    for name in ("mfusepy", "fusepy"):
        command = shlex.join([*MEMFS, "mount", "-o", f"fuse={name}", str(secret_core), str(point)])
        done = run("unshare", "-m", "sh", "-c", f"mount -t tmpfs none /dev && {command}", env=ENV)
        one_line(done, "could not mount", "device not found")
        assert not mount_lines(point)
