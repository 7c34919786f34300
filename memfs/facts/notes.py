"""Notes by name, and decoded where their owner and type are known: by owner first, then by type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from memfs import arch
from memfs.arch import linux, signals
from memfs.elf import names
from memfs.elf.linux import parse_file_note
from memfs.elf.vmcoreinfo import OWNER, Vmcoreinfo
from memfs.facts import auxv, siginfo, threads
from memfs.image import Image, Note

Decoded = dict[str, Any]

_DESC_AT_MOST = 1 << 20
"""A larger descriptor is shown raw."""


def type_name(note: Note) -> str | None:
    """The type without NT_, None where unknown."""
    return names.note_type(linux.owner(note), note.type)


def file_name(note: Note) -> str:
    """NNN-OWNER-TYPE."""
    return f"{note.number:03d}-{note.owner}-{type_name(note) or hex(note.type)}"


def decode(image: Image, note: Note) -> Decoded | None:
    """The descriptor as an object for JSON; None where nobody here knows it, or its size is not the layout's."""
    if note.size > _DESC_AT_MOST:
        return None
    decoder = DECODERS.get((linux.owner(note), note.type)) if image.target.os == "linux" else None
    if decoder is None:
        return _registers(image, note)
    return decoder(image, image.desc(note))


def _registers(image: Image, note: Note) -> Decoded | None:
    machine = arch.find(image.target)
    for block in machine.fpregs if machine else ():
        if (block.owner, block.type, block.size) == (note.owner, note.type, note.size):
            fields = threads.decode_fields(block.fields, image.desc(note), image.target.order)
            return {name: hex(value) for name, value in fields}
    return None


def _prstatus(image: Image, desc: bytes) -> Decoded | None:
    status = linux.parse_status(desc, image.target)
    if status is None:
        return None
    out: Decoded = {
        "si_signo": status.signo,
        "si_code": status.code,
        "si_errno": status.errno,
        "cursig": status.cursig,
        "signal": signals.signal_name(status.cursig, image.target.machine) if status.cursig else None,
        "sigpend": hex(status.sigpend),
        "sighold": hex(status.sighold),
        "pid": status.pid,
        "ppid": status.ppid,
        "pgrp": status.pgrp,
        "sid": status.sid,
    }
    for index, name in enumerate(("utime", "stime", "cutime", "cstime")):
        out[name] = status.times[2 * index] + status.times[2 * index + 1] / 1_000_000
    machine = arch.find(image.target)
    block = linux.register_block(desc, machine)
    if machine and block is not None:
        fields = threads.decode_fields(machine.registers, block, image.target.order)
        out["registers"] = {name: hex(value) for name, value in fields}
    return out


def _prpsinfo(image: Image, desc: bytes) -> Decoded | None:
    info = linux.parse_psinfo(desc, image.target)
    if info is None:
        return None
    out = info._asdict()
    out["flag"] = hex(info.flag)
    out["fname"] = info.fname.decode("utf-8", "surrogateescape")
    out["psargs"] = info.psargs.decode("utf-8", "surrogateescape")
    return out


def _auxv(image: Image, desc: bytes) -> Decoded:
    return {"auxv": [{"type": e.type, "name": e.name, "value": hex(e.value)} for e in auxv.decode(desc, image)]}


def _siginfo(image: Image, desc: bytes) -> Decoded | None:
    info = siginfo.parse(desc, image.target)
    return info.record() if info else None


def _file(image: Image, desc: bytes) -> Decoded | None:
    files = parse_file_note(desc, image.target.prefix, image.target.word)
    if files is None:
        return None
    return {
        "files": [{"start": hex(f.start), "end": hex(f.end), "offset": hex(f.offset), "path": f.path} for f in files]
    }


def _vmcoreinfo(image: Image, desc: bytes) -> Decoded:
    return {"vmcoreinfo": dict(Vmcoreinfo(desc).values)}


DECODERS: dict[tuple[str, int], Callable[[Image, bytes], Decoded | None]] = {
    ("CORE", linux.NT_PRSTATUS): _prstatus,
    ("CORE", linux.NT_PRPSINFO): _prpsinfo,
    ("CORE", linux.NT_AUXV): _auxv,
    ("CORE", linux.NT_SIGINFO): _siginfo,
    ("CORE", linux.NT_FILE): _file,
    (OWNER, 0): _vmcoreinfo,
}
