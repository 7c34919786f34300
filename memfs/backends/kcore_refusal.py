"""Whether a file is the memory of the kernel that runs, and why that cannot be opened.

Sources: fs/proc/kcore.c (open_kcore) and security/lockdown/lockdown.c, Linux 6.12: not root is EACCES, without
CAP_SYS_RAWIO and under lockdown=confidentiality EPERM, the capability being looked at first."""

from __future__ import annotations

import errno
import os

from memfs.errors import MemfsError
from memfs.io import procfs


def is_live(fd: int) -> bool:
    """Whether an open file is in a proc filesystem."""
    return procfs.options_of(fd) is not None


_CAP_SYS_RAWIO = 17


def explain(path: str, error: MemfsError) -> MemfsError:
    """Why a kcore cannot be opened, in one line; the same error for what is none."""
    if os.path.basename(path) != "kcore" or not _in_proc(os.path.dirname(os.path.abspath(path))):
        return error
    why, hint = reason(error, _read("/sys/kernel/security/lockdown"), _capable(), os.geteuid())
    return MemfsError("the memory of the kernel cannot be read", why, hint, error.errno, path)


def reason(error: MemfsError, lockdown: bytes, capable: bool, user: int) -> tuple[str, str]:
    """What stands in the way, and what to do."""
    if error.errno == errno.ENOENT:
        why = "there is no kcore in this /proc: the kernel has none (CONFIG_PROC_KCORE), or the container hides it"
        return why, "look from the host, or at a dump"
    if error.errno == errno.EACCES and user:
        return "only root may open it", "look as root"
    if error.errno in (errno.EPERM, errno.EACCES):
        if not capable:
            return "CAP_SYS_RAWIO is missing", "give it to the container (--cap-add SYS_RAWIO), or look from the host"
        if b"[confidentiality]" in lockdown or not lockdown:
            known = "the kernel is locked down (confidentiality)"
            why = known if lockdown else f"{known}, or confined otherwise"
            return why, "start it with lockdown=integrity, or look at a dump; see kernel_lockdown(7)"
        return "the kernel refuses it", "is it in another user namespace, or confined?"
    if "device" in error.what:
        return "another file is mounted over it: the container hides it", "look from the host"
    return error.what, error.hint


def _in_proc(directory: str) -> bool:
    try:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return is_live(fd)
    finally:
        os.close(fd)


def _capable() -> bool:
    words = procfs.status_field(_read(f"{procfs.PROC_ROOT}/self/status"), "CapEff")
    try:
        return bool(words) and bool(int(words[0], 16) >> _CAP_SYS_RAWIO & 1)
    except ValueError:
        return False


def _read(name: str) -> bytes:
    try:
        return procfs.read(name)
    except OSError:
        return b""
