"""Files of a /proc, read through a descriptor of their directory: a process that has ended is ESRCH there for ever, and
never another one that got its number.

Sources: fs/proc/array.c (do_task_stat), fs/proc/base.c (proc_pid_syscall), Linux 6.12; proc(5)."""

import os
from typing import NamedTuple

from memfs.io import native

PROC_ROOT = "/proc"
PF_KTHREAD = 0x00200000
_CHUNK = 1 << 16


class Stat(NamedTuple):
    """What /proc/PID/stat says, as far as it is needed. `start` is in clock ticks since the machine started."""

    pid: int
    comm: str
    state: str  # R, S, D, Z, ...
    ppid: int
    flags: int  # PF_...
    start: int
    exit_signal: int

    @property
    def leads(self) -> bool:
        """Whether it is a process, or the first thread of one: thread_group_leader() (include/linux/sched/signal.h)."""
        return self.exit_signal >= 0

    @property
    def lacks(self) -> str | None:
        """Why this process has no memory of its own; None if it has."""
        if self.state in "ZX":
            return "a zombie: it has ended, and its memory is gone"
        return "a kernel thread: it has no memory of its own" if self.flags & PF_KTHREAD else None


def parse_stat(raw: bytes) -> Stat | None:
    """A line of /proc/PID/stat. The name is between the first ( and the last ): it may hold anything."""
    head, _, rest = raw.partition(b" (")
    comm, _, tail = rest.rpartition(b") ")
    fields = tail.split()
    try:
        return Stat(
            pid=int(head),
            comm=comm.decode("utf-8", "surrogateescape"),
            state=fields[0].decode("ascii", "replace"),
            ppid=int(fields[1]),
            flags=int(fields[6]),
            start=int(fields[19]),
            exit_signal=int(fields[35]),
        )
    except (ValueError, IndexError):
        return None


def read(name: str, directory: int | None = None) -> bytes:
    """The whole of a small file below a directory's descriptor. Raises OSError."""
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)
    try:
        parts = []
        while part := os.read(fd, _CHUNK):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def stack_pointer(raw: bytes) -> tuple[int, int] | None:
    """Program counter and stack pointer out of /proc/PID/task/TID/syscall; None for a thread that runs.

    In a system call the line is its number, six arguments, sp and pc; blocked outside of one, -1, sp and pc."""
    words = raw.split()
    try:
        sp, pc = (int(word, 16) for word in words[-2:]) if len(words) in (3, 9) else (0, 0)
    except ValueError:
        return None
    return (pc, sp) if sp else None


def status_field(raw: bytes, name: str) -> list[str]:
    """The words behind `name:` in a status file; empty if it is not there."""
    for line in raw.splitlines():
        key, colon, value = line.partition(b":")
        if colon and key == name.encode():
            return value.decode("ascii", "replace").split()
    return []


def mount_options(mountinfo: bytes, device: int) -> dict[str, str] | None:
    """The options of the proc filesystem with a device number (st_dev); None if that is no proc filesystem."""
    wanted = f"{os.major(device)}:{os.minor(device)}".encode()
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(b" - ")
        fields, kind = head.split(), tail.split()
        if len(fields) > 2 and len(kind) > 2 and fields[2] == wanted and kind[0] == b"proc":
            words = kind[2].decode("utf-8", "replace").split(",")
            return {name: value for name, _, value in (word.partition("=") for word in words)}
    return None


def options_of(directory: int) -> dict[str, str] | None:
    """The mount options of the proc filesystem that a directory is in, none where that is not mounted in our own
    namespace; None if it is in no proc filesystem. Raises OSError."""
    device = os.fstat(directory).st_dev
    try:
        found = mount_options(read(f"{PROC_ROOT}/self/mountinfo"), device)
    except OSError:
        found = None
    is_proc = found is not None or native.filesystem(directory) == native.PROC_SUPER_MAGIC
    return (found or {}) if is_proc else None
