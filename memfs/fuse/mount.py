"""Mounting and unmounting: mount(2) as root, fusermount3 for everybody else; what /proc/self/mountinfo says.

Sources: fs/fuse/inode.c (fuse_fs_parameters), Linux 6.12; libfuse's util/fusermount.c for _FUSE_COMMFD. Nothing here
touches a mount point once it is mounted, before the server runs: that would wait for ourselves."""

import errno
import os
import re
import select
import signal
import stat
from typing import NamedTuple

from memfs.errors import MemfsError, from_os_error
from memfs.tree.options import IN_FORCE, escape

FSTYPE = "fuse.memfs"
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_READ_AHEAD_KIB = 1024
_PATIENCE = 2.0  # seconds for a server to answer
_WITHOUT = "memfs ls, cat and cp need no mount"


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo."""

    number: str
    parent: str
    device: str  # major:minor
    point: str
    fstype: str
    source: str


def mounts() -> list[Mount]:
    """All mounts that this process sees, the topmost last."""
    out = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split(" ")
            separator = fields.index("-")
            number, parent, device, _, point = fields[:5]
            out.append(
                Mount(number, parent, device, _plain(point), fields[separator + 1], _plain(fields[separator + 2]))
            )
    return out


def _plain(text: str) -> str:
    """mountinfo writes blanks and backslashes as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), text)


def find(point: str) -> Mount | None:
    """What is mounted at a path that is already absolute and free of links, without touching it."""
    return next((mount for mount in reversed(mounts()) if mount.point == point), None)


def check_point(path: str) -> str:
    """The absolute path of a directory that can be mounted on. Raises MemfsError."""
    point = os.path.join(
        os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.basename(os.path.abspath(path))
    )
    there = find(point)
    if there and there.fstype.startswith("fuse"):
        raise _taken(path, there)
    try:
        info = os.stat(path)
    except OSError as error:
        hint = f"make it: mkdir {path}" if error.errno == errno.ENOENT else ""
        raise from_os_error(path, error, "cannot mount there", hint) from error
    if not stat.S_ISDIR(info.st_mode):
        raise MemfsError("cannot mount there", "it is not a directory", "name one", errno.ENOTDIR, subject=path)
    point = os.path.realpath(path)
    there = find(point)
    if there and there.fstype == FSTYPE:
        raise _taken(path, there)
    return point


def _taken(path: str, there: Mount) -> MemfsError:
    """A FUSE mount is in the way: one that is served, or one whose server was killed."""
    command = f"memfs umount {path}" if there.fstype == FSTYPE else f"fusermount3 -u {path}"
    if _is_dead(there.point):
        why = f"a mount of {there.source} ({there.fstype}) was left there by a server that is dead"
        return MemfsError("the mount point is busy", why, f"remove it: {command}", errno.ENOTCONN, subject=path)
    why = f"{there.source} ({there.fstype}) is mounted there"
    return MemfsError("the mount point is busy", why, f"end it first: {command}", errno.EBUSY, subject=path)


def _is_dead(point: str) -> bool:
    """Whether a mount's server is gone. A process of its own asks, as nothing may ever answer; it keeps nothing of
    ours open, so that who waits for our output does not wait for it."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        os.closerange(0, send)
        os.closerange(send + 1, os.sysconf("SC_OPEN_MAX"))
        try:
            os.statvfs(point)
        except OSError as error:
            os.write(send, b"dead" if error.errno == errno.ENOTCONN else b"")
        finally:
            os._exit(0)
    os.close(send)
    try:
        answered, _, _ = select.select((receive,), (), (), _PATIENCE)
        return bool(answered) and os.read(receive, 4) == b"dead"
    finally:
        os.close(receive)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0 if answered else os.WNOHANG)


def mount(point: str, source: str, allow_other: bool) -> int:
    """Mount on a checked directory; returns the descriptor to serve. Raises MemfsError."""
    if os.geteuid() == 0:
        try:
            return _mount_as_root(point, source, allow_other)
        except MemfsError as error:
            if error.errno != errno.EPERM or not _helper():
                raise
    return _mount_by_helper(point, source, allow_other)


def _mount_as_root(point: str, source: str, allow_other: bool) -> int:
    try:
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _no_device(error) from error
    mode = stat.S_IFMT(os.stat(point).st_mode)
    data = f"fd={fd},rootmode={mode:o},user_id={os.geteuid()},group_id={os.getegid()}"
    if allow_other:
        data += ",allow_other,default_permissions"
    try:
        _system_mount(source, point, _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, data)
    except OSError as error:
        os.close(fd)
        hint = f"this needs CAP_SYS_ADMIN; {_WITHOUT}" if error.errno == errno.EPERM else _WITHOUT
        raise from_os_error(point, error, "mount(2) failed", hint) from error
    return fd


def _no_device(error: OSError) -> MemfsError:
    why = f"/dev/fuse: {os.strerror(error.errno or 0)}"
    return MemfsError("cannot mount", why, _NO_MODULE, error.errno or errno.ENODEV)


def _system_mount(source: str, point: str, flags: int, data: str) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
    if libc.mount(os.fsencode(source), os.fsencode(point), FSTYPE.encode(), flags, data.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _helper() -> str | None:
    """fusermount3, or fusermount where only that is there."""
    import shutil

    return shutil.which("fusermount3") or shutil.which("fusermount")


def _need_helper() -> str:
    helper = _helper()
    if helper is None:
        raise MemfsError(
            "cannot mount",
            "an ordinary user needs fusermount3, and it is not installed",
            f"install fuse3 (apt install fuse3, dnf install fuse3), or be root; {_WITHOUT}",
            errno.ENOENT,
        )
    return helper


_NO_MODULE = f"load the module (modprobe fuse), or give the container /dev/fuse; {_WITHOUT}"
_HELPER_HINTS = (
    ("allow_other", "add user_allow_other to /etc/fuse.conf"),
    ("determine username", f"the user needs a name in /etc/passwd; {_WITHOUT}"),
    ("/dev/fuse: Permission", f"let users open it, as udev does: chmod 0666 /dev/fuse; {_WITHOUT}"),
    ("/dev/fuse", _NO_MODULE),
    ("device not found", _NO_MODULE),
    ("Operation not permitted", f"this needs CAP_SYS_ADMIN; {_WITHOUT}"),
)
"""Words of what fusermount3 and libfuse print, and what to do about it."""


def _mount_by_helper(point: str, source: str, allow_other: bool) -> int:
    """fusermount3 mounts, and sends the descriptor of /dev/fuse over a socket."""
    import socket
    import subprocess

    helper = _need_helper()
    options = f"{','.join(IN_FORCE)},subtype=memfs,fsname={escape(source)}"
    if allow_other:
        options += ",allow_other,default_permissions"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        done = subprocess.run(
            (helper, "-o", options, "--", point),
            pass_fds=(theirs.fileno(),),
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        theirs.close()
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    if done.returncode or not fds:
        raise refused(point, "fusermount3", done.stderr.decode(errors="replace") or f"status {done.returncode}")
    os.set_inheritable(fds[0], False)
    return fds[0]


def refused(point: str, who: str, said: str) -> MemfsError:
    """What libfuse or its helper printed, as an error: its last line, and what to do about it."""
    why = re.sub(r"^\S*(fusermount3?|fuse): ", "", [line for line in said.splitlines() if line.strip()][-1])
    hint = next((hint for word, hint in _HELPER_HINTS if word in why), _WITHOUT)
    return MemfsError(f"{who} could not mount", why, hint, errno.EPERM, subject=point)


def raise_read_ahead(point: str) -> None:
    """Let the kernel read ahead as far as a request may be large; only root may, and it may fail (a container)."""
    there = find(point)
    if there is None:
        return
    try:
        fd = os.open(f"/sys/class/bdi/{there.device}/read_ahead_kb", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, str(_READ_AHEAD_KIB).encode())
    except OSError:
        pass
    finally:
        os.close(fd)


def unmount(point: str, lazy: bool = False) -> None:
    """Unmount a path that is already absolute. Raises MemfsError."""
    if os.geteuid() == 0:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
        if not libc.umount2(os.fsencode(point), flags):
            return
        number = ctypes.get_errno()
        if number != errno.EPERM or not _helper():
            raise not_unmounted(point, number)
    import subprocess

    command = (_need_helper(), "-u", *(("-z",) if lazy else ()), "--", point)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise not_unmounted(point, errno.EBUSY if "busy" in said else errno.EPERM, said)


def not_unmounted(point: str, number: int, said: str = "") -> MemfsError:
    """Why a mount is still there, and who holds it."""
    if number != errno.EBUSY:
        return MemfsError(
            "cannot unmount", said or os.strerror(number), f"see findmnt -t {FSTYPE}", number, subject=point
        )
    from memfs.fuse.users import users

    holders = users(point)
    why = f"in use by {', '.join(holders)}" if holders else "something is open there that cannot be seen from here"
    return MemfsError("the mount is busy", why, f"close it, or memfs umount -l {point}", number, subject=point)
