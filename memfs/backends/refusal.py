"""Why a process may not be looked into, and what to do: what the kernel says with one EACCES.

Source: kernel/ptrace.c (__ptrace_may_access) and security/yama/yama_lsm.c, Linux 6.12."""

import os
from typing import NamedTuple

from memfs.errors import MemfsError
from memfs.io import procfs

CAP_SYS_PTRACE = 19


class Situation(NamedTuple):
    """What decides about it. Ids are of users."""

    pid: int
    errno: int
    caller: int  # effective uid
    traces: bool  # the caller has CAP_SYS_PTRACE
    owner: int | None  # real uid of the process, None where it is not known
    files: int | None  # owner of /proc/PID/mem: root if the process is not dumpable
    yama: int | None  # kernel.yama.ptrace_scope, None where the kernel has no yama


_YAMA = {
    1: (
        "only its ancestors may look into a process",
        "look as root, or set it to 0: sysctl kernel.yama.ptrace_scope=0",
    ),
    2: ("only who has CAP_SYS_PTRACE may look into a process", "look as root"),
    3: ("nobody may look into a process", "this cannot be undone until the machine starts again"),
}


def explain(about: Situation) -> MemfsError:
    """One line about a refusal."""
    why, hint = _reason(about)
    return MemfsError(f"not allowed to look into process {about.pid}", why, hint, about.errno)


def _reason(about: Situation) -> tuple[str, str]:
    if about.yama == 3 or (about.yama in _YAMA and (about.traces or about.caller == about.owner == about.files)):
        why, hint = _YAMA[about.yama]
        return f"kernel.yama.ptrace_scope is {about.yama}: {why}", hint
    if about.traces:
        return "the kernel refuses it in spite of CAP_SYS_PTRACE", "is it in another user namespace, or confined?"
    if about.caller == 0:
        return "root has no CAP_SYS_PTRACE here", "give it to the container: --cap-add SYS_PTRACE"
    if about.owner is not None and about.owner != about.caller:
        return f"it belongs to user {about.owner}", "look as that user, or as root"
    if about.files is not None and about.files != about.caller:
        return "it is not dumpable (setuid, or by prctl(PR_SET_DUMPABLE))", "look as root"
    return "the kernel refuses it", "look as root; is it in another user namespace, or confined?"


def situation(pid: int, errno: int, directory: int) -> Situation:
    """What stands in the way at this moment. `directory` is a descriptor of /proc/PID."""
    return Situation(
        pid=pid,
        errno=errno,
        caller=os.geteuid(),
        traces=_traces(),
        owner=_owner(directory),
        files=_files(directory),
        yama=_yama(),
    )


def _traces() -> bool:
    words = procfs.status_field(_read(f"{procfs.PROC_ROOT}/self/status"), "CapEff")
    try:
        return bool(words) and bool(int(words[0], 16) >> CAP_SYS_PTRACE & 1)
    except ValueError:
        return False


def _owner(directory: int) -> int | None:
    words = procfs.status_field(_read("status", directory), "Uid")
    return int(words[0]) if words and words[0].isdigit() else None


def _files(directory: int) -> int | None:
    try:
        return os.stat("mem", dir_fd=directory).st_uid
    except OSError:
        return None


def _yama() -> int | None:
    text = _read(f"{procfs.PROC_ROOT}/sys/kernel/yama/ptrace_scope").strip()
    return int(text) if text.isdigit() else None


def _read(name: str, directory: int | None = None) -> bytes:
    try:
        return procfs.read(name, directory)
    except OSError:
        return b""
