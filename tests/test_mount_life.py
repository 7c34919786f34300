"""The life of a mount: how it begins, who ends it, what happens when its source or its readers misbehave."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from mounting import ENV, MEMFS, abort, daemons, eventually, memfs, mount_lines, mounted, remove, watchdog
from needs import need_fuse, need_tools, run


@pytest.fixture
def point(tmp_path: Path) -> Path:
    need_fuse()
    directory = tmp_path / "m"
    directory.mkdir()
    return directory


def listing(point: Path) -> bytes:
    return run("ls", point, timeout=20).stdout


def one_line(done: "subprocess.CompletedProcess[bytes]") -> str:
    """The one line of a failure."""
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert len(lines) == 1, lines
    assert lines[0].startswith("memfs: ")
    return lines[0]


@pytest.mark.parametrize("ending", ["SIGINT", "SIGTERM", "SIGHUP", "umount", "fusermount3"])
def test_foreground(secret_core: Path, point: Path, ending: str) -> None:
    server = subprocess.Popen([*MEMFS, "mount", "-f", secret_core, point], env=ENV, stderr=subprocess.PIPE)
    try:
        eventually(lambda: mount_lines(point), "the mount")
        assert b"info" in listing(point)
        if ending.startswith("SIG"):
            server.send_signal(getattr(signal, ending))
        elif ending == "umount":
            assert memfs("umount", point).returncode == 0
        else:
            need_tools("fusermount3")
            assert run("fusermount3", "-u", point).returncode == 0
        assert server.wait(20) == 0
        assert server.stderr is not None
        assert server.stderr.read() == b""
        assert not mount_lines(point)
    finally:
        remove(point)
        server.kill()
        server.wait(20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_the_daemon(secret_core: Path, point: Path, number: int) -> None:
    with mounted(secret_core, point):
        (daemon,) = daemons(point)
        os.kill(daemon, number)
        eventually(lambda: not mount_lines(point), "the mount is gone")


def test_trace_and_verbose(secret_core: Path, point: Path) -> None:
    server = subprocess.Popen(
        [*MEMFS, "mount", "-d", "-v", secret_core, point], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        eventually(lambda: mount_lines(point), "the mount")
        assert (point / "comm").read_bytes() == b"secret\n"
        assert memfs("umount", point).returncode == 0
        out, err = server.communicate(timeout=20)
        assert b"ELF64 core, x86_64" in out
        assert b"LOOKUP" in err
        assert b"READ" in err
    finally:
        remove(point)
        server.kill()


def test_the_daemon_lets_go_of_everything(secret_core: Path, point: Path, tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as inherited:
        done = memfs("mount", secret_core, point, pass_fds=(inherited.fileno(),))
    assert done.returncode == 0
    try:
        (daemon,) = daemons(point)
        links = {int(p.name): os.readlink(p) for p in Path(f"/proc/{daemon}/fd").iterdir()}
        assert {links[n] for n in (0, 1, 2)} == {"/dev/null"}
        assert sorted(link for n, link in links.items() if n > 2) == ["/dev/fuse", str(secret_core)]
        assert os.readlink(f"/proc/{daemon}/cwd") == "/"
        assert os.getsid(daemon) == daemon
    finally:
        remove(point)


def test_busy(secret_core: Path, point: Path) -> None:
    with mounted(secret_core, point):
        fd = os.open(point / "regions/heap", os.O_RDONLY)
        line = one_line(memfs("umount", point))
        assert "busy" in line.lower()
        assert "umount -l" in line
        assert memfs("umount", "-l", point).returncode == 0
        assert not mount_lines(point)
        assert b"swordfish" in os.pread(fd, 1 << 20, 0)
        assert daemons(point)
        os.close(fd)
        eventually(lambda: not daemons(point), "the daemon ends at the last close")


def test_twenty_in_a_row(secret_core: Path, point: Path) -> None:
    for _ in range(20):
        with mounted(secret_core, point):
            assert b"regions" in listing(point)
    assert not daemons(point)


def test_many_readers_and_killed_ones(secret_core: Path, point: Path) -> None:
    with mounted(secret_core, point):
        command = "for i in 1 2 3; do find . -type f ! -name mem -exec cat {} + ; done 2>/dev/null | sha256sum"
        readers = [subprocess.Popen(["sh", "-c", command], cwd=point, stdout=subprocess.PIPE) for _ in range(6)]
        victims = [
            subprocess.Popen(["sh", "-c", "while :; do cat regions/* >/dev/null 2>&1; done"], cwd=point)
            for _ in range(3)
        ]
        for index, victim in enumerate(victims):
            time.sleep(0.1)
            victim.send_signal((signal.SIGKILL, signal.SIGINT, signal.SIGTERM)[index])
        sums = {reader.communicate(timeout=80)[0] for reader in readers}
        for victim in victims:
            victim.kill()
            victim.wait(20)
        assert len(sums) == 1


def test_a_killed_daemon_is_named_and_cleaned_up(secret_core: Path, point: Path) -> None:
    try:
        assert memfs("mount", secret_core, point).returncode == 0
        (daemon,) = daemons(point)
        os.kill(daemon, signal.SIGKILL)
        eventually(lambda: not daemons(point), "the daemon is dead")
        line = one_line(memfs("mount", secret_core, point))
        assert f"memfs umount {point}" in line
        assert memfs("umount", point).returncode == 0
        assert not mount_lines(point)
    finally:
        remove(point)


def test_an_unlinked_source_still_reads(secret_core: Path, point: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.core"
    copy.write_bytes(secret_core.read_bytes())
    with mounted(copy, point):
        copy.unlink()
        assert b"swordfish" in (point / "regions/heap").read_bytes()


def errno_of(path: Path) -> int:
    try:
        path.read_bytes()
    except OSError as error:
        return error.errno or -1
    return 0


@pytest.mark.parametrize("how", ["cut", "emptied", "changed", "grown"])
def test_a_source_that_changes_gives_eio(secret_core: Path, point: Path, tmp_path: Path, how: str) -> None:
    copy = tmp_path / "copy.core"
    copy.write_bytes(secret_core.read_bytes())
    with mounted(copy, point):
        (daemon,) = daemons(point)
        assert (point / "comm").read_bytes() == b"secret\n"
        if how == "changed":
            with copy.open("r+b") as file:
                file.seek(20000)
                file.write(b"x" * 40000)
            os.utime(copy)
        else:
            os.truncate(copy, {"cut": 100_001, "emptied": 0, "grown": 1 << 20}[how])
        for path in (
            "regions/heap",
            "regions/stack",
            "segments/005-" + next((point / "segments").glob("005-*")).name[4:],
        ):
            assert errno_of(point / path) == errno.EIO, path
        assert daemons(point) == [daemon]
        assert b"threads" in listing(point)
        assert (point / "comm").read_bytes() == b"secret\n"  # what was read before stays what it was


STUCK = """
    import os, sys, threading
    from memfs.fuse import daemon, mount
    from memfs.fuse.operations import Operations, default_owner
    from memfs.tree.node import BytesReader, Dir, File, Generated, Kind, Reader, Stat

    class Stuck(Reader):
        size = 4096

        def readinto(self, offset, buffer):
            return os.readv(PIPE, (buffer[:1],))

    class StuckFile(File):
        direct = True

        def stat(self, exact=True):
            return Stat(Kind.FILE, 4096, 4096)

        def open(self):
            return Stuck()

    class Root(Dir):
        files = {"a": StuckFile(), "b": StuckFile(), "c": StuckFile(), "free": Generated(lambda: b"free" * 1000)}

        def names(self):
            return list(self.files)

        def child(self, index):
            return list(self.files.values())[index]

        def find(self, name):
            return self.names().index(name) if name in self.files else None

    PIPE = int(sys.argv[2])
    point = mount.check_point(sys.argv[1])
    daemon.run(Operations(Root, default_owner(None, None, 0o077, 0)), point, "stuck", False, True, False)
"""


def test_stuck_reads_stop_nobody_else(point: Path) -> None:
    """Two reads hang in the kernel; others go on; a killed reader goes away though its read never ends."""
    receive, send = os.pipe()
    command = [sys.executable, "-c", textwrap.dedent(STUCK), str(point), str(receive)]
    server = subprocess.Popen(command, env=ENV, pass_fds=(receive,))
    readers: list[subprocess.Popen[bytes]] = []
    try:
        eventually(lambda: mount_lines(point), "the mount")
        with watchdog(point, 60):
            readers = [subprocess.Popen(["head", "-c", "1", point / name], stdout=subprocess.PIPE) for name in "abc"]
            time.sleep(0.5)
            assert all(reader.poll() is None for reader in readers)
            assert run("cat", point / "free", timeout=20).stdout == b"free" * 1000
            readers[0].kill()
            assert readers[0].wait(20) == -signal.SIGKILL
            readers[1].send_signal(signal.SIGTERM)
            assert readers[1].wait(20) == -signal.SIGTERM
            assert run("cat", point / "free", timeout=20).stdout == b"free" * 1000
            os.write(send, b"xyz")  # for the two that nobody waits for any more, and for the third
            assert readers[2].communicate(timeout=20)[0] in (b"x", b"y", b"z")
            assert len(os.listdir(point)) == 4
        assert memfs("umount", point).returncode == 0
        assert server.wait(20) == 0
    finally:
        for reader in readers:
            reader.kill()
        abort(point)
        remove(point)
        server.kill()
        server.wait(20)
        os.close(receive)
        os.close(send)


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


def test_mounted_with_its_standard_files_closed(secret_core: Path, point: Path) -> None:
    """The core must not become descriptor 0, 1 or 2, which the daemon gives to /dev/null."""
    command = " ".join([*MEMFS, "mount", str(secret_core), str(point), "<&- >&- 2>&-"])
    try:
        assert run("sh", "-c", command, env=ENV).returncode == 0
        assert b"swordfish" in (point / "regions/heap").read_bytes()
    finally:
        remove(point)
