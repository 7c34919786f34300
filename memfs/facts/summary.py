"""What `info` says of an image."""

from __future__ import annotations

import os
from typing import Any

from memfs import arch
from memfs.arch import linux
from memfs.facts import arguments, auxv, notes, regions, segments, threads
from memfs.facts.origin import origin
from memfs.image import Identity, Image, Tally, fact


@fact
def info(image: Image) -> dict[str, Any]:
    """The fields of info.json, in the order in which `info` prints them."""
    process = _identity(image)
    words = arguments.arguments(image)
    tally = total(image)
    return {
        **origin(image),
        "pid": process.pid if process else None,
        "ppid": process.ppid if process else None,
        "comm": process.comm if process else None,
        "cmdline": _joined(words.cmdline),
        "cmdline_source": words.source,
        "exe": arguments.exe(image),
        "threads": len(threads.threads(image)),
        "signal": threads.signal_summary(image),
        "segments": len(image.segments),
        "regions": len(regions.regions(image)),
        "notes": len(image.notes),
        "resident_bytes": _resident(image),
        "data_bytes": tally.data if tally else None,
        "zero_bytes": tally.zero if tally else None,
        "absent_bytes": tally.absent if tally else None,
        "warnings": [*image.warnings, *_warnings(image)],
    }


def _identity(image: Image) -> Identity | None:
    """Who the process is: as its source says, or its PRPSINFO."""
    found = image.process.identity()
    info = threads.psinfo(image)
    if found is None and info is not None:
        found = Identity(info.pid, info.ppid, info.fname.decode("utf-8", "surrogateescape"), None)
    return found


def _resident(image: Image) -> int | None:
    """Bytes of a live process that are in memory, as /proc/PID/statm counts them."""
    words = (image.process.text("statm") or b"").split()
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE") if len(words) > 1 else None


def total(image: Image) -> Tally | None:
    """Bytes of the whole address space, each address counted once."""
    return image.space.tally(0, 1 << image.target.bits)


def _joined(cmdline: bytes | None) -> str | None:
    if cmdline is None:
        return None
    return cmdline.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "surrogateescape")


def _warnings(image: Image) -> list[str]:
    """What is odd in what the image means; what is odd in its container is in `image.warnings`."""
    out: list[str] = []
    target = image.target
    process = image.process.identity()
    if process is not None and process.lacks:
        out.append(process.lacks)
    if image.notes and target.os != "linux":
        out.append(f"notes of {target.os or 'an unknown system'} are shown raw: no threads or registers")
    elif image.notes and arch.find(target) is None and threads.threads(image):
        out.append(f"registers of {target.arch} are not decoded")
    raw = [
        n
        for n in image.notes
        if (linux.owner(n), n.type) in notes.DECODERS and target.os == "linux" and notes.decode(image, n) is None
    ]
    for note in raw[:8]:
        out.append(f"note {note.number} ({note.owner}, {notes.type_name(note)}) is damaged: shown raw")
    vector = auxv.entries(image)
    if vector and vector[-1].type != auxv.AT_NULL:
        out.append("the auxiliary vector has no end (AT_NULL)")
    if target.os == "linux" and image.notes and not auxv.raw(image):
        out.append("no auxiliary vector: stack, vdso and heap are named by registers alone")
    large = sum(1 for s in segments.listed(image) if segments.size(s) > segments.OFFSET_END)
    if large:
        out.append(f"{large:,} segments are larger than a file can be: their files end at {segments.OFFSET_END:#x}")
    high = image.space.tally(segments.OFFSET_END, 1 << 64) if target.bits == 64 else None
    if high and (any(high) if process is None else high.data + high.zero):  # of a live vsyscall page nothing can be had
        out.append(
            f"memory above {segments.OFFSET_END:#x} is not in mem, whose offsets end there: see segments, regions, at"
        )
    return out
