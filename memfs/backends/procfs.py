"""A directory as a source: a /proc, or a process in one."""

from __future__ import annotations

import errno
import gc
import os
import threading
from collections import OrderedDict

from memfs.backends.process import Process, open_image, started_ns
from memfs.errors import MemfsError, from_os_error
from memfs.image import Access, Found, Image, NoProcess, Target
from memfs.io import procfs
from memfs.io.empty import EmptySpace

_HIDES = ("2", "4", "invisible", "ptraceable")  # fs/proc/root.c (proc_param_specs), Linux 6.12

_KNOWN = 256
"""Processes that keep what was found out about them; of the others it is found out again."""

_FORGOTTEN = 64
"""So many that were forgotten may keep their descriptors: what was found out about a process refers to itself, and goes
when garbage is looked for, which a server does rarely."""


def open_directory(path: str, access: Access) -> Image:
    """The Image of a process or of a whole /proc. Raises MemfsError for any other directory."""
    try:
        directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _missing(path, error) from error
    try:
        options = procfs.options_of(directory)
        name = os.path.basename(os.path.realpath(path))
        if options is not None and name.isdigit():
            _refuse_threads(directory, path, int(name))
            taken, directory = directory, -1
            return open_image(taken, path, access)
        if options is not None and _is_root(directory):
            taken, directory = directory, -1
            return host_image(taken, path, access, options.get("hidepid") in _HIDES)
    except OSError as error:
        raise _missing(path, error) from error
    finally:
        if directory >= 0:
            os.close(directory)
    raise MemfsError(
        "this is a directory",
        "not a memory image",
        "name an ELF core, a process by its id or its directory in /proc, or /proc itself",
        errno.EISDIR,
        path,
    )


def _is_root(directory: int) -> bool:
    """Whether it is where a proc filesystem begins: nothing but that has `self`, and files of the machine. Where
    `self` leads is not asked: to us, nowhere in the /proc of another pid namespace."""
    try:
        os.stat("self", dir_fd=directory, follow_symlinks=False)
        os.stat("uptime", dir_fd=directory)
    except OSError:
        return False
    return True


def _refuse_threads(directory: int, path: str, number: int) -> None:
    """/proc has a hidden directory for every thread: what is shown is the process."""
    words = procfs.status_field(procfs.read("status", directory), "Tgid")
    if words and words[0].isdigit() and int(words[0]) != number and int(words[0]):
        raise MemfsError(f"this is a thread of process {words[0]}", hint=f"name that: {words[0]}", subject=path)


def _missing(path: str, error: OSError) -> MemfsError:
    """Why there is no such directory."""
    head, name = os.path.split(path)
    if error.errno not in (errno.ENOENT, errno.ESRCH) or not name.isdigit():
        return from_os_error(path, error)
    hidden = (_options(head) or {}).get("hidepid", "0")
    if hidden in _HIDES and os.geteuid():
        why, hint = f"it has ended, or is hidden ({head} has hidepid={hidden})", "look as root"
    else:
        why, hint = "it has ended, or never was", f"a file of that name is ./{name}"
    return MemfsError(f"no process {name}", why, hint, errno.ESRCH, path)


def _options(path: str) -> dict[str, str] | None:
    try:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return procfs.options_of(fd)
    finally:
        os.close(fd)


# -- all processes -------------------------------------------------------------------------------------------------


def host_image(directory: int, path: str, access: Access, hides: bool) -> Image:
    """An Image that is no memory, but has a Host. Takes the descriptor over."""
    host = ProcHost(directory, path, access, hides)
    return Image(
        kind="processes",
        format="proc filesystem",
        target=Target(0, os.uname().machine, 64, "little", "linux"),
        source=host,
        space=EmptySpace(),
        segments=(),
        notes=(),
        process=NoProcess(),
        segment_space=lambda segment: EmptySpace(),
        container=host,
    )


class ProcHost:
    """The processes below a /proc (a Host). Any thread may ask."""

    size = 0
    is_sparse = False

    def __init__(self, directory: int, path: str, access: Access, hides: bool) -> None:
        self.path = path
        self.hides = hides
        self._directory = directory
        self._access = access
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[int, int], Process] = OrderedDict()
        self._forgotten = 0
        self.mtime_ns = started_ns(0)

    def pids(self) -> list[int]:
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._directory)
        try:
            return sorted(int(name) for name in os.listdir(fd) if name.isdigit())
        finally:
            os.close(fd)

    def find(self, pid: int) -> Found:
        try:
            stat = procfs.parse_stat(procfs.read(f"{pid}/stat", self._directory))
            owner = os.stat(f"{pid}/mem", dir_fd=self._directory)
        except OSError as error:
            raise self._no_process(pid) from error
        if stat is None or not stat.leads:  # /proc has a hidden directory for every thread, too
            raise self._no_process(pid)
        return Found(pid, stat.start, owner.st_uid, owner.st_gid, started_ns(stat.start))

    def process(self, found: Found) -> Process:
        key = found.pid, found.start
        with self._lock:
            process = self._known.get(key)
            if process is not None:
                self._known.move_to_end(key)
                return process
        process = self._open(found.pid)
        if process.start != found.start:
            raise process.gone()
        with self._lock:
            self._known[key] = process
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
                self._forgotten += 1
            collects = self._forgotten >= _FORGOTTEN
            if collects:
                self._forgotten = 0
        if collects:
            gc.collect()
        return process

    def _open(self, pid: int) -> Process:
        try:
            fd = os.open(str(pid), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._directory)
        except OSError as error:
            raise self._no_process(pid, errno.ESRCH) from error
        return Process(fd, os.path.join(self.path, str(pid)), self._access)

    def process_of(self, thread: int) -> int:
        """FUSE hands over ids as the pid namespace of who mounted has them, and 0 for who is in none below that."""
        try:
            words = procfs.status_field(procfs.read(f"{thread}/status", self._directory), "Tgid") if thread else []
        except OSError:
            words = []
        if not words or not words[0].isdigit():
            raise self._no_process(thread)
        return int(words[0])

    def text(self, name: str) -> bytes:
        try:
            return procfs.read(name, self._directory)
        except OSError as error:
            raise from_os_error(os.path.join(self.path, name), error) from error

    def may(self, uid: int, found: Found) -> bool:
        """A user may look into what is theirs at this moment, unless yama allows that to nobody: a process becomes
        another's when it executes a setuid program."""
        if uid == 0:
            return True
        try:
            now = self.find(found.pid)
        except MemfsError:
            return False
        try:
            scope = procfs.read("sys/kernel/yama/ptrace_scope", self._directory).strip()
        except OSError:
            scope = b"0"
        return (uid, found.start) == (now.uid, now.start) and scope == b"0"

    def _no_process(self, pid: int, number: int = errno.ENOENT) -> MemfsError:
        return MemfsError("no such process", errno=number, subject=os.path.join(self.path, str(pid)))

    # -- as a Source -------------------------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> bytes:
        """A directory has no bytes."""
        return b""

    def close(self) -> None:
        with self._lock:
            self._known.clear()
            if self._directory >= 0:
                os.close(self._directory)
                self._directory = -1
