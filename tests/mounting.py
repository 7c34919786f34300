"""Mounts for tests: a mount that hangs must not hang the tests, and nothing may be left behind."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from needs import REPO, need_fuse, run

from memfs.fuse.transport import TRANSPORTS

MEMFS = (sys.executable, "-m", "memfs")
ENV = {**os.environ, "PYTHONPATH": str(REPO)}
PATIENCE = 90

TRANSPORT = "kernel"  # what `memfs mount` is to go through: conftest.py sets it for each test of a mount

Done = subprocess.CompletedProcess[bytes]


def seeks() -> bool:
    """Whether SEEK_DATA and SEEK_HOLE come through the transport of this test."""
    return not any("seek" in row.lacks for row in TRANSPORTS if row.name == TRANSPORT)


def through(words: Sequence[object]) -> list[object]:
    """The words of a command, with the transport of this test."""
    chosen = ("-o", f"fuse={TRANSPORT}") if TRANSPORT != "kernel" and words[:1] == ("mount",) else ()
    return [*words[:1], *chosen, *words[1:]]


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


def eventually(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
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
