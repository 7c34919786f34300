"""Threads: registers, signals and times, out of what a ProcessSource says of its tasks."""

from typing import Any, NamedTuple

from memfs import arch
from memfs.arch import linux, signals
from memfs.arch.machine import Block, Field
from memfs.facts import siginfo
from memfs.image import Image, Task, fact


class Thread(NamedTuple):
    """A thread. `name` is its directory: the tid, with ~2 where a damaged image has it twice."""

    name: str
    tid: int
    pid: int | None
    comm: str | None
    crashed: bool
    signal: str | None  # "SIGSEGV"
    pc: int | None
    sp: int | None
    task: Task


@fact
def psinfo(image: Image) -> linux.Psinfo | None:
    """PRPSINFO of a Linux process."""
    if image.target.os != "linux":
        return None
    desc = image.process.regset("CORE", linux.NT_PRPSINFO)
    return linux.parse_psinfo(desc, image.target) if desc is not None else None


@fact
def threads(image: Image) -> list[Thread]:
    """All threads, in the order of the image: a kernel writes the one that crashed first."""
    seen: dict[int, int] = {}
    out: list[Thread] = []
    for index, task in enumerate(image.process.tasks()):
        seen[task.tid] = seen.get(task.tid, 0) + 1
        name = str(task.tid) if seen[task.tid] == 1 else f"{task.tid}~{seen[task.tid]}"
        out.append(_of_proc(image, task, name) or _of_notes(image, task, name, first=index == 0))
    return out


@fact
def cpus(image: Image) -> list[Thread]:
    """The processors of a kernel image whose registers were saved, by number."""
    found = image.kernel.cpus() if image.kernel is not None else ()
    return [_of_notes(image, task, str(task.tid), first=False) for task in found]


def _of_notes(image: Image, task: Task, name: str, first: bool) -> Thread:
    """A thread of a core."""
    info, state = psinfo(image), status(image, task)
    signo = state.cursig if state else 0
    machine = arch.find(image.target)
    values = dict(registers(image, task))
    return Thread(
        name=name,
        tid=task.tid,
        pid=info.pid if info else None,
        comm=_text(info.fname) if info and first else None,
        crashed=first and bool(signo),
        signal=signals.signal_name(signo, image.target.machine) if signo else None,
        pc=values.get(machine.pc) if machine else None,
        sp=values.get(machine.sp) if machine else None,
        task=task,
    )


def _of_proc(image: Image, task: Task, name: str) -> Thread | None:
    """A thread of a live process."""
    identity = image.process.identity()
    if identity is None:
        return None
    place = task.place()
    comm = (task.text("comm") or b"").removesuffix(b"\n")
    return Thread(
        name=name,
        tid=task.tid,
        pid=identity.pid,
        comm=_text(comm),
        crashed=False,
        signal=None,
        pc=place.pc if place else None,
        sp=place.sp if place else None,
        task=task,
    )


def main_thread(image: Image) -> Thread | None:
    """The thread whose tid is the pid, else the first: its stack is `stack`."""
    everyone = threads(image)
    return next((t for t in everyone if t.tid == t.pid), everyone[0] if everyone else None)


def status(image: Image, task: Task) -> linux.Status | None:
    """PRSTATUS without the registers."""
    desc = task.regset("CORE", linux.NT_PRSTATUS)
    return linux.parse_status(desc, image.target) if desc is not None else None


def register_bytes(image: Image, task: Task) -> bytes | None:
    """pr_reg as the image has it, None where the machine's layout is unknown."""
    desc = task.regset("CORE", linux.NT_PRSTATUS)
    return linux.register_block(desc, arch.find(image.target)) if desc is not None else None


def registers(image: Image, task: Task) -> list[tuple[str, int]]:
    """The general registers, gdb's names in gdb's order; empty where the layout is unknown."""
    machine = arch.find(image.target)
    block = register_bytes(image, task)
    return decode_fields(machine.registers, block, image.target.order) if machine and block is not None else []


def decode_fields(fields: tuple[Field, ...], block: bytes, order: str) -> list[tuple[str, int]]:
    """Values out of a register block; fields beyond its end are left out."""
    out: list[tuple[str, int]] = []
    for field in fields:
        raw = block[field.offset : field.offset + field.size]
        if len(raw) == field.size:
            raw = raw[: field.shown] if order == "little" else raw[-field.shown :]
            out.append((field.name, int.from_bytes(raw, "little" if order == "little" else "big")))
    return out


def fp_block(image: Image, task: Task) -> tuple[Block, bytes] | None:
    """The first floating-point note that the machine's table lists and the thread has, with its bytes."""
    machine = arch.find(image.target)
    for block in machine.fpregs if machine else ():
        desc = task.regset(block.owner, block.type)
        if desc is not None and len(desc) == block.size:
            return block, desc
    return None


def signal_bytes(image: Image, task: Task) -> bytes | None:
    """The thread's siginfo_t."""
    return task.regset("CORE", linux.NT_SIGINFO) if image.target.os == "linux" else None


def signal(image: Image, task: Task) -> siginfo.Siginfo | None:
    """The thread's siginfo_t, decoded."""
    desc = signal_bytes(image, task)
    return siginfo.parse(desc, image.target) if desc is not None else None


def status_record(image: Image, thread: Thread) -> dict[str, Any] | None:
    """The fields of status.json; `state` is known of the thread that wrote PRPSINFO alone."""
    state = status(image, thread.task)
    if state is None:
        return None
    info = psinfo(image)
    first = bool(info) and threads(image)[0] is thread
    utime, stime, cutime, cstime = (state.times[i] + state.times[i + 1] / 1_000_000 for i in (0, 2, 4, 6))
    return {
        "tid": thread.tid,
        "pid": thread.pid,
        "ppid": state.ppid,
        "pgrp": state.pgrp,
        "sid": state.sid,
        "state": info.sname if info and first else None,
        "cursig": state.cursig,
        "sigpend": hex(state.sigpend),
        "sighold": hex(state.sighold),
        "utime": utime,
        "stime": stime,
        "cutime": cutime,
        "cstime": cstime,
    }


def signal_summary(image: Image) -> str | None:
    """What ended the process: "SIGSEGV (11), SEGV_MAPERR at 0x10"; None where nothing did."""
    everyone = threads(image)
    if not everyone:
        return None
    info = signal(image, everyone[0].task)
    if info and info.si_signo:
        return siginfo.summary(info)
    state = status(image, everyone[0].task)
    return f"{everyone[0].signal} ({state.cursig})" if state and state.cursig else None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
