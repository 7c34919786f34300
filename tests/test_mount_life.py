"""The life of a mount: how it begins, who ends it, what happens when its source or its readers misbehave."""

import contextlib
import errno
import hashlib
import mmap
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from makecore import Header, core
from mounting import (
    ENV,
    Stuck,
    daemons,
    eventually,
    lacks,
    memfs,
    mount_command,
    mount_lines,
    mounted,
    nothing_left,
    one_line,
    remove,
    stuck_mount,
    watchdog,
)
from needs import need, need_fuse, need_tools, run
from treecheck import read_node, read_path

import memfs as package
from memfs.tree.node import Dir, File


def listing(point: Path) -> bytes:
    return run("ls", point, timeout=20).stdout


class Server(subprocess.Popen[bytes]):
    """A server in the foreground. What it prints goes to files: a pipe that nobody reads would stop it when full."""

    def __init__(self, point: Path, *options: str) -> None:
        self.out, self.err = point.with_suffix(".out"), point.with_suffix(".err")
        with self.out.open("wb") as out, self.err.open("wb") as err:
            super().__init__(mount_command(*options, point), env=ENV, stdout=out, stderr=err)

    def said(self) -> tuple[int, bytes, bytes]:
        """How it ended, and what it printed."""
        return self.wait(20), self.out.read_bytes(), self.err.read_bytes()


@contextlib.contextmanager
def foreground(source: Path, point: Path, *options: str) -> Iterator[Server]:
    """`memfs mount -f`, ready. Afterwards it has ended."""
    with nothing_left(point):
        server = Server(point, "-f", *options, str(source))
        try:
            eventually(lambda: mount_lines(point) or server.poll() is not None, "the mount")
            assert b"info" in listing(point), server.poll()
            yield server
            server.wait(20)
        finally:
            if server.poll() is None:
                remove(point)
                server.kill()
                server.wait(20)


# -- beginning and end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["SIGINT", "SIGTERM", "SIGHUP", "umount", "fusermount3"])
def test_foreground(secret_core: Path, point: Path, ending: str) -> None:
    with foreground(secret_core, point) as server:
        assert server.poll() is None
        end(server.pid, point, ending)
        assert server.said() == (0, b"", b"")
        assert not mount_lines(point)


@pytest.mark.parametrize("ending", ["SIGINT", "SIGTERM", "SIGHUP", "umount", "umount -l", "fusermount3"])
def test_background(secret_core: Path, point: Path, ending: str) -> None:
    with mounted(secret_core, point):
        (daemon,) = daemons(point)
        assert b"info" in listing(point)
        end(daemon, point, ending)
        eventually(lambda: not mount_lines(point), "the mount is gone")
        eventually(lambda: not daemons(point), "the daemon ends")
        assert os.listdir(point) == []


def end(pid: int, point: Path, how: str) -> None:
    if how.startswith("SIG"):
        os.kill(pid, getattr(signal, how))
    elif how.startswith("umount"):
        done = memfs("umount", *how.split()[1:], point)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    else:
        need_tools("fusermount3")
        assert run("fusermount3", "-u", point).returncode == 0


def test_usable_at_once(secret_core: Path, point: Path) -> None:
    """What runs directly behind `memfs mount` finds the files."""
    command = 'point=$1; shift; "$@" && cat "$point/comm" && "$1" -m memfs umount "$point" && ls "$point"'
    with nothing_left(point):
        for _ in range(5):
            done = run("sh", "-c", command, "sh", point, *mount_command(secret_core, point), env=ENV)
            assert (done.returncode, done.stdout, done.stderr) == (0, b"secret\n", b"")
        eventually(lambda: not daemons(point), "the daemons end")


def test_twenty_in_a_row(secret_core: Path, point: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with mounted(secret_core, point):
            assert b"regions" in listing(point)
    assert len(os.listdir("/proc/self/fd")) == before


def test_verbose(secret_core: Path, point: Path) -> None:
    with nothing_left(point):
        done = memfs("mount", "-v", secret_core, point)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == f"memfs: {secret_core}: ELF64 core, x86_64, on {point}\n".encode()
        assert memfs("umount", point).returncode == 0
        eventually(lambda: not daemons(point), "the daemon ends")


def test_trace(secret_core: Path, point: Path, transport: str) -> None:
    """-d prints every request, and stays in the foreground."""
    with nothing_left(point):
        server = Server(point, "-d", str(secret_core))
        try:
            eventually(lambda: mount_lines(point), "the mount")
            assert run("cat", point / "comm", timeout=20).stdout == b"secret\n"
            listing(point)
            assert memfs("umount", point).returncode == 0
            status, out, err = server.said()
        finally:
            remove(point)
            server.kill()
            server.wait(20)
    assert (status, out) == (0, b"")
    lines = err.decode().splitlines()
    if transport == "kernel":
        form = r"memfs: \d+: ([A-Z]+) node \d+ by process \d+"
        asked = "INIT LOOKUP OPEN READ RELEASE OPENDIR READDIRPLUS"
    else:
        form, asked = r"memfs: ([a-z]+) (?:/.*)?", "getattr open read release opendir readdir"
    found = [re.fullmatch(form, line) for line in lines]
    assert all(found), lines
    names = [match[1] for match in found if match]
    assert names[0] == asked.split()[0]
    assert set(asked.split()) <= set(names)


def test_the_daemon_lets_go_of_everything(secret_core: Path, point: Path, tmp_path: Path) -> None:
    with nothing_left(point), (tmp_path / "open").open("w") as inherited:
        done = memfs("mount", secret_core, point, pass_fds=(inherited.fileno(),), cwd=tmp_path)
        assert done.returncode == 0
        (daemon,) = daemons(point)
        links = {int(p.name): os.readlink(p) for p in Path(f"/proc/{daemon}/fd").iterdir()}
        assert {links[n] for n in (0, 1, 2)} == {"/dev/null"}
        assert sorted(link for n, link in links.items() if n > 2) == sorted(["/dev/fuse", str(secret_core)])
        assert os.readlink(f"/proc/{daemon}/cwd") == "/"
        assert os.getsid(daemon) == daemon != os.getsid(0)
        assert os.getpgid(daemon) == daemon
        stat = Path(f"/proc/{daemon}/stat").read_text().rpartition(")")[2].split()
        assert stat[4] == "0"  # no controlling terminal
        assert memfs("umount", point).returncode == 0
        eventually(lambda: not daemons(point), "the daemon ends")


def test_mounted_with_its_standard_files_closed(secret_core: Path, point: Path) -> None:
    """The core must not become descriptor 0, 1 or 2, which the daemon gives to /dev/null."""
    command = mount_command(secret_core, point)
    with nothing_left(point):
        assert run("sh", "-c", '"$@" <&- >&- 2>&-', "sh", *command, env=ENV).returncode == 0
        assert b"swordfish" in (point / "regions/heap").read_bytes()
        assert memfs("umount", point).returncode == 0
        eventually(lambda: not daemons(point), "the daemon ends")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signals_that_the_caller_ignores(secret_core: Path, point: Path, number: int) -> None:
    """As behind nohup, or in a script's background: SIGTERM and memfs umount end it whatever was ignored."""
    code = (
        "import os, signal, sys; signal.signal(int(sys.argv[1]), signal.SIG_IGN); os.execv(sys.argv[2], sys.argv[2:])"
    )
    with nothing_left(point):
        done = run(sys.executable, "-c", code, int(number), *mount_command(secret_core, point), env=ENV)
        assert done.returncode == 0, done.stderr
        (daemon,) = daemons(point)
        assert b"info" in listing(point)
        os.kill(daemon, signal.SIGTERM)
        eventually(lambda: not mount_lines(point) and not daemons(point), "it is over")


# -- mount points --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"a b", b"back\\slash", b"com,ma", b"new\nline", b"b\xffyte", "grün".encode(), b"-o"])
def test_odd_names(secret_core: Path, tmp_path: Path, name: bytes) -> None:
    """Of the mount point and of the source."""
    need_fuse()
    point, source = tmp_path / os.fsdecode(name), tmp_path / os.fsdecode(name + b".core")
    source.write_bytes(secret_core.read_bytes())
    with mounted(source, point):
        assert (point / "comm").read_bytes() == b"secret\n"
        (line,) = mount_lines(point)
        assert line[line.index("-") + 1] == "fuse.memfs"
        assert one_line(memfs("mount", source, point), "busy")


@pytest.mark.parametrize("form", ["relative", "link", "slash", "dots", "double"])
def test_forms_of_the_same_mount_point(secret_core: Path, point: Path, form: str) -> None:
    os.symlink("m", point.parent / "link")
    path = {"relative": "m", "link": "link", "slash": f"{point}/", "dots": "link/../m/.", "double": f"/{point}//"}[form]
    with nothing_left(point):
        assert memfs("mount", secret_core, path, cwd=point.parent).returncode == 0
        assert mount_lines(point)
        assert b"info" in listing(point)
        one_line(memfs("mount", secret_core, path, cwd=point.parent), "busy", f"memfs umount {path}")
        assert memfs("umount", path, cwd=point.parent).returncode == 0
        assert not mount_lines(point)

        def served() -> list[int]:
            return [*daemons(Path(path)), *daemons(point)]

        eventually(lambda: not served(), "the daemon ends")


def test_two_mounts_of_one_core(secret_core: Path, point: Path, tmp_path: Path) -> None:
    with mounted(secret_core, tmp_path / "other") as other:
        with mounted(secret_core, point):
            for name in os.listdir(point / "regions"):
                assert read_path(point / "regions" / name) == read_path(other / "regions" / name), name
        assert (other / "comm").read_bytes() == b"secret\n"


def test_a_mount_on_another_filesystem(secret_core: Path, point: Path) -> None:
    need(os.geteuid() == 0, "needs root to mount a tmpfs")
    assert run("mount", "-t", "tmpfs", "none", point).returncode == 0
    try:
        with nothing_left_but(1, point):
            assert memfs("mount", secret_core, point).returncode == 0
            assert b"info" in listing(point)
            assert memfs("umount", point).returncode == 0
            one_line(memfs("umount", point), "tmpfs is mounted there", "not a mount of memfs")
    finally:
        run("umount", "-l", point)


@contextlib.contextmanager
def nothing_left_but(count: int, point: Path) -> Iterator[None]:
    yield
    assert len(mount_lines(point)) == count
    eventually(lambda: not daemons(point), "the daemon ends")


# -- open files ----------------------------------------------------------------------------------------------------


def test_busy(secret_core: Path, point: Path) -> None:
    with mounted(secret_core, point):
        fd = os.open(point / "regions/heap", os.O_RDONLY)
        line = one_line(memfs("umount", point))
        assert "busy" in line.lower()
        assert "umount -l" in line
        assert b"info" in listing(point)
        assert memfs("umount", "-l", point).returncode == 0
        assert not mount_lines(point)
        assert b"swordfish" in os.pread(fd, 1 << 20, 0)
        assert daemons(point)
        os.close(fd)
        eventually(lambda: not daemons(point), "the daemon ends at the last close")


def test_busy_with_a_working_directory(secret_core: Path, point: Path) -> None:
    with mounted(secret_core, point):
        sleeper = subprocess.Popen(["sleep", "60"], cwd=point / "regions")
        try:
            one_line(memfs("umount", point), "busy")
            assert memfs("umount", "-l", point).returncode == 0
            assert b"swordfish" in Path(f"/proc/{sleeper.pid}/cwd/heap").read_bytes()
        finally:
            sleeper.kill()
            sleeper.wait(20)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_file_is_open(secret_core: Path, point: Path, number: int) -> None:
    """The mount is gone at once, what is open can be read to its end, then the server ends with status 0."""
    with foreground(secret_core, point) as server:
        fd = os.open(point / "regions/heap", os.O_RDONLY)
        server.send_signal(number)
        eventually(lambda: not mount_lines(point), "the mount is gone")
        server.send_signal(number)  # an impatient second one: nothing is mounted any more
        assert b"swordfish" in os.pread(fd, 1 << 20, 0)
        assert server.poll() is None
        os.close(fd)
        status, out, err = server.said()
        assert (status, out) == (0, b""), err.decode()
        assert b"Traceback" not in err


# -- readers -------------------------------------------------------------------------------------------------------


def all_bytes(directory: Dir) -> Iterator[bytes]:
    """What `find -type f ! -name mem -exec cat` prints: every file in the order of the tree."""
    for name, node in directory.entries():
        if isinstance(node, Dir):
            yield from all_bytes(node)
        elif isinstance(node, File) and name != "mem":
            yield read_node(node)[0]


def test_many_readers_and_killed_ones(secret_core: Path, point: Path) -> None:
    """Eight processes read every file; others are killed in the midst of it and disturb nobody."""
    want = hashlib.sha256(b"".join(all_bytes(package.open(str(secret_core)).tree))).hexdigest()
    command = "find . -type f ! -name mem -exec cat {} + 2>/dev/null | sha256sum"
    endless = ["sh", "-c", "while :; do cat regions/* segments/* >/dev/null 2>&1; done"]
    with mounted(secret_core, point):
        victims = [subprocess.Popen(endless, cwd=point, start_new_session=True) for _ in range(3)]
        readers = [subprocess.Popen(["sh", "-c", command], cwd=point, stdout=subprocess.PIPE) for _ in range(8)]
        try:
            for victim, number in zip(victims, (signal.SIGKILL, signal.SIGINT, signal.SIGTERM), strict=True):
                time.sleep(0.1)
                os.killpg(victim.pid, number)
            sums = [reader.communicate(timeout=60)[0].decode().split()[0] for reader in readers]
        finally:
            for process in (*victims, *readers):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL) if process in victims else process.kill()
                process.wait(20)
        assert sums == [want] * 8


def test_a_signal_does_not_disturb_a_read_that_ends(secret_core: Path, point: Path) -> None:
    """A reader with an interval timer, which has signals all the time, gets every byte and no EINTR."""
    code = """
        import os, signal, sys
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for _ in range(300):
            fd = os.open(sys.argv[1], os.O_RDONLY)
            assert len(os.pread(fd, 1 << 20, 0)) == os.fstat(fd).st_size
            os.close(fd)
        signal.setitimer(signal.ITIMER_REAL, 0)
    """
    with mounted(secret_core, point):
        done = run(sys.executable, "-c", textwrap.dedent(code), point / "regions/heap", timeout=60)
        assert done.returncode == 0, done.stderr.decode()


def test_forgotten_nodes_are_found_again(secret_core: Path, point: Path, transport: str) -> None:
    """The kernel drops what it knows; numbers and bytes are the same afterwards, and at/ too."""
    need(os.geteuid() == 0, "needs root to make the kernel forget")
    with foreground(secret_core, point, "-d") as server:

        def everything() -> dict[str, tuple[int, tuple[bytes, int]]]:
            files = [p for p in point.rglob("*") if p.is_file() and p.name != "mem"]
            return {str(p): (p.stat().st_ino, read_path(p)) for p in files}

        before = everything()
        start = os.getxattr(point / "regions/heap", "user.memfs.address").decode()
        heap = (point / "at" / start).read_bytes()
        fd = os.open(point / "regions/heap", os.O_RDONLY)
        for _ in range(2):
            Path("/proc/sys/vm/drop_caches").write_text("2")  # names and nodes, not the pages of others
            assert os.pread(fd, 1 << 20, 0) == heap
            assert everything() == before
            assert (point / "at" / start).read_bytes() == heap
        os.close(fd)
        assert memfs("umount", point).returncode == 0
        status, _, err = server.said()
        assert status == 0
        assert b"FORGET node" in err or transport != "kernel"  # libfuse does not say what the kernel forgets
        assert b"a bug" not in err


# -- a dead daemon, a source that changes --------------------------------------------------------------------------


def test_a_killed_daemon_is_named_and_cleaned_up(secret_core: Path, point: Path) -> None:
    with nothing_left(point):
        assert memfs("mount", secret_core, point).returncode == 0
        fd = os.open(point / "regions/heap", os.O_RDONLY)
        (daemon,) = daemons(point)
        os.kill(daemon, signal.SIGKILL)
        eventually(lambda: not daemons(point), "the daemon is dead")
        with pytest.raises(OSError) as caught:
            os.pread(fd, 1, 1 << 16)
        assert caught.value.errno == errno.ENOTCONN
        with contextlib.suppress(OSError):  # closed it is, whatever the dead server makes of its FLUSH
            os.close(fd)
        with pytest.raises(OSError) as caught:
            os.listdir(point)
        assert caught.value.errno == errno.ENOTCONN
        line = one_line(memfs("mount", secret_core, point))
        assert f"memfs umount {point}" in line
        done = memfs("umount", point)
        assert (done.returncode, done.stderr) == (0, b"")
        assert not mount_lines(point)
    with mounted(secret_core, point):
        assert (point / "comm").read_bytes() == b"secret\n"


def test_a_stopped_daemon_can_be_unmounted(secret_core: Path, point: Path) -> None:
    """A daemon that does not answer hangs neither `memfs mount` nor `memfs umount`."""
    with nothing_left(point):
        assert memfs("mount", secret_core, point).returncode == 0
        (daemon,) = daemons(point)
        os.kill(daemon, signal.SIGSTOP)
        try:
            one_line(memfs("mount", secret_core, point, timeout=20), "busy")
            done = memfs("umount", point, timeout=20)
            assert (done.returncode, done.stderr) == (0, b"")
            assert not mount_lines(point)
        finally:
            os.kill(daemon, signal.SIGCONT)
        eventually(lambda: not daemons(point), "the daemon ends")


@pytest.fixture
def copy(secret_core: Path, tmp_path: Path) -> Path:
    path = tmp_path / "copy.core"
    path.write_bytes(secret_core.read_bytes())
    return path


def test_an_unlinked_source_still_reads(copy: Path, point: Path) -> None:
    with mounted(copy, point):
        copy.unlink()
        assert b"swordfish" in (point / "regions/heap").read_bytes()
        assert memfs("umount", point).returncode == 0


def test_a_replaced_source_is_still_the_old_one(copy: Path, point: Path, tmp_path: Path) -> None:
    with mounted(copy, point):
        (tmp_path / "new").write_bytes(b"another file")
        (tmp_path / "new").rename(copy)
        assert b"swordfish" in (point / "regions/heap").read_bytes()


@pytest.mark.parametrize("how", ["cut", "emptied", "changed", "grown", "touched"])
def test_a_source_that_changes_gives_eio(copy: Path, point: Path, how: str) -> None:
    """Never zeros, never a mixture, never a signal: EIO, and the daemon lives."""
    with mounted(copy, point):
        (daemon,) = daemons(point)
        assert (point / "comm").read_bytes() == b"secret\n"
        segments = [point / "segments" / name for name in os.listdir(point / "segments")]
        whole = [p for p in segments if p.stat().st_blocks * 512 == p.stat().st_size > 0]
        assert len(whole) > 3
        opened = os.open(whole[0], os.O_RDONLY)
        try:
            if how == "changed":
                with copy.open("r+b") as file:
                    file.seek(20000)
                    file.write(b"x" * 40000)
            if how in ("changed", "touched"):
                os.utime(copy)
            else:
                os.truncate(copy, {"cut": 100_001, "emptied": 0, "grown": 1 << 20}[how])
            for path in (point / "regions/heap", point / "regions/stack", point / "notes/000-CORE-PRSTATUS", *whole):
                assert read_path(path) == (b"", errno.EIO), path
            with pytest.raises(OSError) as caught:
                os.pread(opened, 4096, 0)  # opened before
            assert caught.value.errno == errno.EIO
        finally:
            os.close(opened)
        with (point / "mem").open("rb") as mem, pytest.raises(OSError) as caught:
            os.pread(mem.fileno(), 16, int(os.getxattr(point / "regions/heap", "user.memfs.address"), 16))
        assert caught.value.errno == errno.EIO
        address = os.getxattr(point / "regions/heap", "user.memfs.address").decode()
        assert read_path(point / f"at/{address}:16") == (b"", errno.EIO)
        assert daemons(point) == [daemon]
        assert b"threads" in listing(point)
        assert (point / "comm").read_bytes() == b"secret\n"  # what was read before stays what it was
        done = run("ls", "-lR", point, timeout=60)
        assert all(b"Input/output error" in line for line in done.stderr.splitlines())
        assert run("grep", "-r", "swordfish", point / "regions", timeout=60).stdout == b""


def test_a_mapping_of_a_source_that_is_cut_off(copy: Path, point: Path) -> None:
    """A page that was never read is SIGBUS for who maps it; the daemon lives, and pages that were read stay."""
    code = """
        import mmap, os, sys
        file = open(sys.argv[1], "rb")
        mapping = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
        mapping.madvise(mmap.MADV_RANDOM)
        print(mapping[0], flush=True)
        os.truncate(sys.argv[2], 4096)
        print(mapping[0], flush=True)
        print(mapping[len(mapping) - 1], flush=True)
    """
    with mounted(copy, point):
        (daemon,) = daemons(point)
        sizes = {p: p.stat().st_size for p in (point / "regions").iterdir() if p.name in ("heap", "stack")}
        path = max(sizes, key=lambda p: sizes[p])
        assert sizes[path] >= 2 * mmap.PAGESIZE
        done = run(sys.executable, "-c", textwrap.dedent(code), path, copy, timeout=60)
        first, *rest = done.stdout.split()
        assert rest in ([first], [])
        assert done.returncode == -signal.SIGBUS
        assert daemons(point) == [daemon]
        assert b"info" in listing(point)


# -- stuck reads ---------------------------------------------------------------------------------------------------


@pytest.fixture
def stuck(point: Path, tmp_path: Path, transport: str) -> Iterator[Stuck]:
    file = tmp_path / "mapped"
    file.write_bytes(b"m" * (1 << 20))
    with stuck_mount(point, transport, file) as made:
        yield made


def test_stuck_reads_stop_nobody_else(stuck: Stuck) -> None:
    """Three reads hang; others go on; each ends with its own byte."""
    readers = stuck.readers(0, 1, 2)
    stuck.others_go_on()
    os.write(stuck.pipe, b"xyz")
    assert {reader.communicate(timeout=20)[0] for reader in readers} == {b"x", b"y", b"z"}
    stuck.others_go_on()
    (again,) = stuck.readers(0)
    os.write(stuck.pipe, b"w")
    assert again.communicate(timeout=20)[0] == b"w"
    stuck.end()


@pytest.mark.needs("interrupt")
def test_a_reader_that_is_stuck_can_be_killed(stuck: Stuck) -> None:
    """It goes away though its read never ends."""
    readers = stuck.readers(0, 1, 2)
    readers[0].kill()
    assert readers[0].wait(20) == -signal.SIGKILL
    readers[1].send_signal(signal.SIGTERM)
    assert readers[1].wait(20) == -signal.SIGTERM
    stuck.others_go_on()
    assert readers[2].poll() is None
    os.write(stuck.pipe, b"xyz")  # for the two that nobody waits for any more, and for the third
    assert readers[2].communicate(timeout=20)[0] in (b"x", b"y", b"z")
    stuck.end()


def test_a_reader_that_was_killed_is_gone_at_the_latest_when_its_read_ends(stuck: Stuck) -> None:
    readers = stuck.readers(0, 1)
    for reader in readers:
        reader.kill()
    stuck.others_go_on()
    os.write(stuck.pipe, b"xy")
    assert [reader.wait(20) for reader in readers] == [-signal.SIGKILL] * 2
    stuck.others_go_on()
    stuck.end()


def test_fifteen_stuck_reads(stuck: Stuck, transport: str) -> None:
    """One worker of sixteen is left: it is enough. When all is over, the threads end."""
    readers = stuck.readers(*range(15))
    stuck.others_go_on()
    killed = readers[:5]
    for reader in killed:
        reader.kill()
    os.write(stuck.pipe, b"x" * 15)
    assert [reader.wait(20) for reader in killed] == [-signal.SIGKILL] * 5
    assert [reader.communicate(timeout=20)[0] for reader in readers[5:]] == [b"x"] * 10
    for _ in range(50):
        stuck.others_go_on()
    idle = 6 if transport == "kernel" else 13  # libfuse keeps ten that are idle (max_idle_threads)
    assert len(os.listdir(f"/proc/{stuck.server.pid}/task")) <= idle


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_with_stuck_reads_can_be_ended(stuck: Stuck, number: int) -> None:
    """The mount is gone at once; the server stays for the open files, and ends when their readers do."""
    readers = stuck.readers(0, 1)
    stuck.server.send_signal(number)
    eventually(lambda: not mount_lines(stuck.point), "the mount is gone")
    for reader in readers:
        reader.kill()
    if lacks("interrupt"):
        os.write(stuck.pipe, b"xy")
    assert [reader.wait(20) for reader in readers] == [-signal.SIGKILL] * 2
    assert stuck.server.wait(20) == 0  # though, where reads can be interrupted, two threads are still in theirs


def test_a_killed_server_ends_stuck_reads(stuck: Stuck) -> None:
    readers = stuck.readers(0, 1)
    stuck.server.kill()
    for reader in readers:
        assert reader.communicate(timeout=20)[0] == b""
        assert reader.returncode == 1
    assert memfs("umount", stuck.point).returncode == 0


@pytest.mark.kernel_only("only this transport lets the kernel copy out of the source")
def test_a_source_that_is_cut_off_behind_its_check(stuck: Stuck) -> None:
    """The pipe comes up short: EIO for the reader, no signal for anybody."""
    assert read_path(stuck.point / "cut", 4096)[0][:4096] == b"m" * 4096
    fd = os.open(stuck.point / "cut", os.O_RDONLY | os.O_DIRECT)
    os.truncate(stuck.file, 4096)
    with pytest.raises(OSError) as caught:
        os.pread(fd, 65536, 65536)
    assert caught.value.errno == errno.EIO
    os.close(fd)
    assert stuck.server.poll() is None
    stuck.others_go_on()
    stuck.end()
    assert stuck.server.stderr
    assert b"cut off: EIO" in stuck.server.stderr.read()


def test_a_bug_is_eio_and_a_line_in_the_log(stuck: Stuck, transport: str) -> None:
    assert read_path(stuck.point / "bug") == (b"", errno.EIO)
    stuck.others_go_on()
    stuck.end()
    assert stuck.server.stderr
    name = "OPEN" if transport == "kernel" else "open"
    assert f"a bug in memfs: {name}: ZeroDivisionError" in stuck.server.stderr.read().decode()


@pytest.mark.kernel_only("only this transport gets ahead of a listing")
@pytest.mark.parametrize(("what", "method"), [("the root", "warm"), ("a listing", "prepare")])
def test_what_cannot_be_prepared(point: Path, tmp_path: Path, what: str, method: str) -> None:
    """What is made ahead is no part of an answer: if that breaks, the listing is whole and the mount lives."""
    path = tmp_path / "many.core"
    path.write_bytes(core([Header(address=0x10000 + 0x2000 * n, data=b"x") for n in range(1000)]))
    code = f"""if True:
        from memfs.fuse.operations import Operations
        def breaks(self):
            raise RuntimeError("broken on purpose")
        Operations.{method} = breaks
        from memfs.cli.main import main
        main(["mount", "-f", {str(path)!r}, {str(point)!r}])
    """
    with nothing_left(point):
        server = subprocess.Popen([sys.executable, "-c", code], env=ENV, stderr=subprocess.PIPE)
        try:
            eventually(lambda: mount_lines(point), "the mount")
            with watchdog(point):
                assert len(os.listdir(point / "segments")) == 1000
                assert (point / "segments" / "000-0000000000010000-rw-").read_bytes() == b"x"
            assert memfs("umount", point).returncode == 0
            _, err = server.communicate(timeout=20)
        finally:
            remove(point)
            server.kill()
            server.wait(20)
    assert f"{what} could not be prepared: RuntimeError" in err.decode()
    assert b"bug" not in err
