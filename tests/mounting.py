"""Mounts for tests: a mount that hangs must not hang the tests, and nothing may be left behind."""

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from needs import REPO, need, need_fuse, run

from memfs.fuse.transport import TRANSPORTS

MEMFS = (sys.executable, "-m", "memfs")
ENV = {**os.environ, "PYTHONPATH": str(REPO)}
PATIENCE = 90

LET_GO = 'while read -r _ m t _; do [ "$t" != fuse.memfs ] || umount -l "$m"; done < /proc/self/mounts\n'
"""For a script in a mount namespace of its own: a copy of another test's mount would keep that alive, and its server,
after it was unmounted."""

TRANSPORT = "kernel"  # what `memfs mount` is to go through: conftest.py sets it for each test of a mount
USES: list[str] = []  # the transports of the mounts of a test: conftest.py sees to it that it was the one

Done = subprocess.CompletedProcess[bytes]


def lacks(what: str) -> bool:
    """Whether the transport of this test cannot do something (memfs.fuse.transport.LACKS)."""
    return any(what in row.lacks for row in TRANSPORTS if row.name == TRANSPORT)


def seeks() -> bool:
    """Whether SEEK_DATA and SEEK_HOLE come through the transport of this test."""
    return not lacks("seek")


def through(words: Sequence[object]) -> list[object]:
    """The words of a command, with the transport of this test."""
    if words[:1] != ("mount",):
        return [*words]
    USES.append(TRANSPORT)
    chosen = ("-o", f"fuse={TRANSPORT}") if TRANSPORT != "kernel" else ()
    return [*words[:1], *chosen, *words[1:]]


def mount_command(*words: object) -> list[str]:
    """`memfs mount` with words, through the transport of this test, as others than these tests call it."""
    return [*MEMFS, *map(str, through(("mount", *words)))]


def memfs(*words: object, timeout: float = 60, **more: object) -> Done:
    """The command, from outside."""
    return run(*MEMFS, *through(words), timeout=timeout, **{"env": ENV, **more})


def mount_lines(point: Path) -> list[list[str]]:
    """The lines of mountinfo about a mount point."""
    lines = [line.split(" ") for line in os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).splitlines()]
    return [line for line in lines if plain(line[4]) == str(point)]


def plain(text: str) -> str:
    """mountinfo writes blanks and backslashes as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), text)


def daemons(point: Path) -> list[int]:
    """Processes that were started to serve a mount point."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                stat = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                if b"mount" in words and os.fsencode(point) in words and stat[0] != b"Z":
                    found.append(int(entry.name))
    return found


def abort(point: Path) -> None:
    """End every request of a mount, however stuck: by its connection, and by its server's death where fusectl is
    not mounted."""
    for line in mount_lines(point):
        with contextlib.suppress(OSError):
            Path(f"/sys/fs/fuse/connections/{line[2].split(':')[1]}/abort").write_text("1")
    for daemon in daemons(point):
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGKILL)


def eventually(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def watchdog(point: Path, seconds: float = PATIENCE) -> Iterator[None]:
    """Abort the mount if what is done with it takes too long: reads then fail instead of hanging."""
    timer = threading.Timer(seconds, abort, (point,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def remove(point: Path) -> None:
    """Unmount, whatever it takes; end what still serves it."""
    with watchdog(point, 30):
        if mount_lines(point) and memfs("umount", point).returncode:
            memfs("umount", "-l", point)
    while mount_lines(point):
        abort(point)
        assert run("umount", "-l", point).returncode == 0
    with contextlib.suppress(AssertionError):
        eventually(lambda: not daemons(point), "the daemon ends")
    for daemon in daemons(point):
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGKILL)


@contextlib.contextmanager
def nothing_left(point: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Whatever happens inside, there is neither mount nor process afterwards; that there is none by itself is
    asserted if nothing else went wrong."""
    try:
        with watchdog(point, patience):
            yield
    except BaseException:
        remove(point)
        raise
    mounts, processes = mount_lines(point), daemons(point)
    if mounts or processes:
        remove(point)
    assert not mounts, "left mounted"
    assert not processes, "the daemon did not end"


@contextlib.contextmanager
def fuse_for_users() -> Iterator[None]:
    """/dev/fuse as udev makes it: anybody may open it. A machine without udev has it for root alone, so its mode is
    changed for a while; a lock on the device itself lets one test at a time do that, whichever process it is in."""
    need_fuse()
    mode = os.stat("/dev/fuse").st_mode & 0o777
    need(mode & 0o006 == 0o006 or os.geteuid() == 0, "users may not open /dev/fuse: chmod 0666 /dev/fuse")
    with open("/dev/fuse", "rb", buffering=0) as device:
        eventually(lambda: _locked(device.fileno()), "another test is done with /dev/fuse", 300)
        mode = os.stat("/dev/fuse").st_mode & 0o777
        if mode & 0o006 != 0o006:
            os.chmod("/dev/fuse", 0o666)
        try:
            yield
        finally:
            if mode & 0o006 != 0o006:
                os.chmod("/dev/fuse", mode)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def mounted(
    source: object, point: Path, *options: object, by: Callable[..., Done] = memfs, patience: float = PATIENCE
) -> Iterator[Path]:
    """A mount in the background, made and ended by `by` (another user's memfs); in the end no mount and no process
    is left, and the daemon has ended by itself."""
    need_fuse()
    point.mkdir(exist_ok=True)
    with nothing_left(point, patience):
        done = by("mount", *options, source, point)
        assert done.returncode == 0, done.stderr.decode()
        assert (done.stdout, done.stderr) == (b"", b"")
        assert mount_lines(point)
        yield point
        if mount_lines(point):
            done = by("umount", point)
            assert done.returncode == 0, done.stderr.decode()
            assert not mount_lines(point)
        eventually(lambda: not daemons(point), "the daemon ends")


def counted(point: Path, log: Path) -> dict[str, int]:
    """The requests so far, by SIGUSR1."""
    before = log.read_text().count("\n") if log.exists() else 0
    (daemon,) = daemons(point)
    os.kill(daemon, signal.SIGUSR1)
    eventually(lambda: log.read_text().count("\n") > before, "a line of statistics")
    line = log.read_text().splitlines()[-1]
    found = re.search(rf" memfs\[{daemon}\]: {re.escape(str(point))}: (\d+) requests \((.*)\), .*files open", line)
    assert found, line
    return {name: int(count) for name, count in re.findall(r"(\w+) (\d+)", found[2])}


def one_line(done: Done, *words: str, status: int = 1) -> str:
    """The one line of a failure, with these words in it."""
    lines = done.stderr.decode(errors="surrogateescape").splitlines()
    assert done.returncode == status, done
    assert len(lines) == 1, lines
    assert lines[0].startswith("memfs")
    assert status != 1 or lines[0].startswith("memfs: ")
    assert all(word in lines[0] for word in words), lines[0]
    assert "Traceback" not in lines[0]
    assert done.stdout == b""
    return lines[0]


# -- reads that do not end -----------------------------------------------------------------------------------------


class Stuck(NamedTuple):
    """A mount of tests/programs/stuck.py: its server, and the pipe that lets one read end for each byte."""

    server: "subprocess.Popen[bytes]"
    point: Path
    pipe: int
    file: Path

    def readers(self, *numbers: int) -> "list[subprocess.Popen[bytes]]":
        """Processes that read a byte of stuckN, once all of their reads have reached the server."""
        started = [
            subprocess.Popen(["head", "-c", "1", self.point / f"stuck{number}"], stdout=subprocess.PIPE)
            for number in numbers
        ]
        time.sleep(0.5)
        assert all(reader.poll() is None for reader in started)
        return started

    def others_go_on(self) -> None:
        assert run("cat", self.point / "free", timeout=20).stdout == b"free" * 1000
        assert b"stuck3" in run("ls", self.point, timeout=20).stdout

    def end(self) -> None:
        """The unmount, by which the server ends."""
        assert memfs("umount", self.point).returncode == 0
        assert self.server.wait(PATIENCE) == 0


@contextlib.contextmanager
def stuck_mount(point: Path, transport: str, file: Path) -> Iterator[Stuck]:
    """A mount whose reads end when they are told to. What still hangs in the end, ends by the death of its server."""
    USES.append(transport)
    receive, send = os.pipe()
    program = REPO / "tests" / "programs" / "stuck.py"
    command = [str(word) for word in (sys.executable, program, "mount", transport, receive, file, point)]
    with nothing_left(point, 60):
        server = subprocess.Popen(command, env=ENV, pass_fds=(receive,), stderr=subprocess.PIPE)
        os.close(receive)
        try:
            eventually(lambda: mount_lines(point) or server.poll() is not None, "the mount")
            yield Stuck(server, point, send, file)
        finally:
            os.close(send)  # every stuck read ends: end of file
            with contextlib.suppress(AssertionError):
                eventually(lambda: not mount_lines(point) or memfs("umount", point).returncode == 0, "the unmount", 5)
            remove(point)
            if server.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(10)
            server.kill()
            server.communicate(timeout=20)
