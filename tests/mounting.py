"""Mounts for tests: a mount that hangs must not hang the tests, and nothing may be left behind."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from needs import REPO, need_fuse, run

MEMFS = (sys.executable, "-m", "memfs")
ENV = {**os.environ, "PYTHONPATH": str(REPO)}
PATIENCE = 90


def memfs(*words: object, timeout: float = 60, **more: object) -> "subprocess.CompletedProcess[bytes]":
    """The command, from outside."""
    return run(*MEMFS, *words, timeout=timeout, env=ENV, **more)


def mount_lines(point: Path) -> list[list[str]]:
    """The lines of mountinfo about a mount point."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [line for line in lines if line[4] == str(point)]


def daemons(point: Path) -> list[int]:
    """Processes that were started to serve a mount point."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"mount" in words and os.fsencode(point) in words and (entry / "stat").read_text().split()[2] != "Z":
                    found.append(int(entry.name))
    return found


def abort(point: Path) -> None:
    """End every request of a mount, however stuck."""
    for line in mount_lines(point):
        with contextlib.suppress(OSError):
            Path(f"/sys/fs/fuse/connections/{line[2].split(':')[1]}/abort").write_text("1")


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
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def remove(point: Path) -> None:
    """Unmount, whatever it takes."""
    if mount_lines(point) and memfs("umount", point).returncode:
        memfs("umount", "-l", point)
    if mount_lines(point):
        abort(point)
        run("umount", "-l", point)


@contextlib.contextmanager
def mounted(source: object, point: Path, *options: object) -> Iterator[Path]:
    """A mount in the background; in the end no mount and no process is left."""
    need_fuse()
    point.mkdir(exist_ok=True)
    done = memfs("mount", *options, source, point)
    assert done.returncode == 0, done.stderr.decode()
    assert (done.stdout, done.stderr) == (b"", b"")
    assert mount_lines(point)
    try:
        with watchdog(point):
            yield point
    finally:
        remove(point)
        assert not mount_lines(point)
        eventually(lambda: not daemons(point), "the daemon ends")
