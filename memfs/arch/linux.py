"""The notes of Linux that every machine shares but for the size of its words: PRSTATUS, PRPSINFO, SIGINFO.

Sources: include/linux/elfcore.h (elf_prstatus_common, elf_prpsinfo), include/uapi/linux/elfcore.h,
include/uapi/asm-generic/siginfo.h, Linux 6.12; arch/mips/include/uapi/asm/siginfo.h for the exchanged fields."""

import struct
from typing import NamedTuple

from memfs.arch.machine import Machine, Prstatus
from memfs.elf import names
from memfs.image import Note, Target

NT_PRSTATUS, NT_FPREGSET, NT_PRPSINFO, NT_AUXV = 1, 2, 3, 6
NT_SIGINFO, NT_FILE = 0x53494749, 0x46494C45


class Status(NamedTuple):
    """struct elf_prstatus, but the registers. Times are (seconds, microseconds)."""

    signo: int
    code: int
    errno: int
    cursig: int
    sigpend: int
    sighold: int
    pid: int
    ppid: int
    pgrp: int
    sid: int
    times: tuple[int, ...]  # utime, stime, cutime, cstime, each as two numbers


class Psinfo(NamedTuple):
    """struct elf_prpsinfo."""

    state: int
    sname: str
    zomb: int
    nice: int
    flag: int
    uid: int
    gid: int
    pid: int
    ppid: int
    pgrp: int
    sid: int
    fname: bytes
    psargs: bytes


class Siginfo(NamedTuple):
    """The head of siginfo_t, and the union behind it."""

    signo: int
    errno: int
    code: int
    union: bytes


_PROCESS_NOTES = {NT_PRSTATUS, NT_FPREGSET, NT_PRPSINFO, NT_AUXV, NT_SIGINFO, NT_FILE}


def owner(note: Note) -> str:
    """By whose layout a note is to be read: lldb writes PRSTATUS and its like under the name LINUX."""
    return "CORE" if note.owner == "LINUX" and note.type in _PROCESS_NOTES else note.owner


_STATUS_32, _STATUS_64 = "3ih2x2I4i8i", "3ih2x2Q4i8q"
_STATUS_BY_MACHINE = {names.EM_68K: "3ih2I4i8i"}
"""m68k aligns long to 2 bytes."""

_PSINFO = {
    # (bits of a long, size of the note): struct format
    (64, 136): "BcBb4xQ2I4i16s80s",
    (32, 128): "BcBbI2I4i16s80s",
    (32, 124): "BcBbI2H4i16s80s",
}


def parse_status(desc: bytes, target: Target) -> Status | None:
    """PRSTATUS up to pr_reg, None if the note is too small to be one."""
    generic = _STATUS_64 if target.bits == 64 else _STATUS_32
    code = target.prefix + _STATUS_BY_MACHINE.get(target.machine, generic)
    if len(desc) < struct.calcsize(code):
        return None
    values = struct.unpack_from(code, desc)
    return Status._make((*values[:10], values[10:]))


def register_block(desc: bytes, machine: Machine | None) -> bytes | None:
    """pr_reg out of a PRSTATUS; None where the machine is unknown or the size is another."""
    if machine is None or len(desc) != machine.prstatus.size:
        return None
    shape: Prstatus = machine.prstatus
    return desc[shape.registers : shape.registers + shape.registers_size]


def parse_psinfo(desc: bytes, target: Target) -> Psinfo | None:
    """PRPSINFO, None if its size is that of no known layout."""
    code = _PSINFO.get((target.bits, len(desc)))
    if code is None:
        return None
    state, sname, zomb, nice, flag, uid, gid, pid, ppid, pgrp, sid, fname, psargs = struct.unpack(
        target.prefix + code, desc
    )
    letter = sname.decode("latin-1")
    return Psinfo(
        state, letter, zomb, nice, flag, uid, gid, pid, ppid, pgrp, sid, fname.split(b"\0")[0], psargs.split(b"\0")[0]
    )


def parse_siginfo(desc: bytes, target: Target) -> Siginfo | None:
    """SIGINFO, None if it is too small. The union begins at the alignment of a pointer."""
    if len(desc) < 16:
        return None
    signo, second, third = struct.unpack_from(target.prefix + "3i", desc)
    errno, code = (third, second) if target.machine == names.EM_MIPS else (second, third)
    return Siginfo(signo, errno, code, desc[16 if target.bits == 64 else 12 :])
