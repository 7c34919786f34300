"""The tree of a process image: the table PROCESS, and what makes each of its rows."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from memfs.errors import MemfsError
from memfs.facts import arguments, auxv, notes, regions, segments, summary, threads
from memfs.facts.naming import to_bytes, unique
from memfs.image import Image, Note, fact
from memfs.tree import headers, memory, render
from memfs.tree.node import Dir, Generated, Kind, Link, Node, RefusedLink
from memfs.tree.rows import Context, Listing, Make, Row, RowDir

_PATH_MAX = 4096
"""readlink(2) through FUSE gives no longer text: a longer path is shown in regions.json and maps alone."""

# -- rows of values ------------------------------------------------------------------------------------------------


def json_of(value: Callable[[Image], Any]) -> Make:
    """A JSON file of what a function of the image gives."""
    return lambda context: Generated(lambda: render.to_json(value(context.image)))


def text_of(value: Callable[[Image], bytes]) -> Make:
    """A file of bytes that a function of the image gives."""
    return lambda context: Generated(lambda: value(context.image))


def where(exists: Callable[[Image], Any], make: Make) -> Make:
    """The same row, only where a fact is there."""
    return lambda context: make(context) if exists(context.image) else None


def optional(value: Callable[[Image], bytes | None]) -> Make:
    """A file of bytes, only where the function gives some."""
    return where(lambda image: value(image) is not None, text_of(lambda image: value(image) or b""))


Part = Callable[[Image, threads.Thread], "bytes | None"]


def of_thread(data: Part, exists: Callable[[Image, threads.Thread], Any] | None = None) -> Make:
    """A file in a thread's directory, only where the thread has what it shows."""

    def make(context: Context) -> Node | None:
        image, thread = context.image, context.subject
        return Generated(lambda: data(image, thread) or b"") if (exists or data)(image, thread) else None

    return make


# -- info, maps, process-wide files --------------------------------------------------------------------------------


def _info_text(image: Image) -> bytes:
    return render.facts(summary.info(image))


def _elf(image: Image) -> bool:
    return headers.elf(image) is not None


def ehdr(image: Image) -> bytes | None:
    container = headers.elf(image)
    return container.ehdr.raw if container else None


def of_proc(name: str) -> Make:
    """A file that is the kernel's own, of a process that has one."""
    return where(lambda image: image.process.identity(), text_of(lambda image: image.process.text(name) or b""))


def _comm(image: Image) -> bytes | None:
    if image.process.identity() is not None:
        return image.process.text("comm")
    info = threads.psinfo(image)
    return info.fname + b"\n" if info else None


def _exe(context: Context) -> Node | None:
    try:
        path = arguments.exe(context.image)
    except MemfsError as error:
        if error.errno not in (errno.EACCES, errno.EPERM):
            raise
        return RefusedLink(error)
    return Link(path) if path and len(to_bytes(path)) < _PATH_MAX else None


def _auxv_text(image: Image) -> bytes:
    rows = [(e.name or f"AT_{e.type:#x}", hex(e.value)) for e in auxv.entries(image)]
    return render.columns(rows).encode()


def _auxv_records(image: Image) -> list[dict[str, Any]]:
    return [{"type": e.type, "name": e.name, "value": hex(e.value)} for e in auxv.entries(image)]


# -- notes ---------------------------------------------------------------------------------------------------------


@fact
def _note_names(image: Image) -> list[str]:
    return list(unique((notes.file_name(note) for note in image.notes), room=len(".json")))


def _note_record(image: Image, note: Note) -> dict[str, Any]:
    return {
        "name": _note_names(image)[note.number],
        "index": note.number,
        "owner": note.owner,
        "type": note.type,
        "type_name": notes.type_name(note),
        "offset": hex(note.offset),
        "size": note.size,
        "desc": notes.decode(image, note),
    }


def _notes_records(image: Image) -> list[dict[str, Any]]:
    return [_note_record(image, note) for note in image.notes]


def _note(context: Context) -> Node:
    return memory.note_file(context, context.subject)


def _note_json(context: Context) -> Node:
    return Generated(lambda: render.to_json(_note_record(context.image, context.subject)))


def _note_text(context: Context) -> Node:
    return Generated(lambda: _note_lines(context.image, context.subject))


def _note_lines(image: Image, note: Note) -> bytes:
    decoded = notes.decode(image, note)
    head = f"{note.owner}  {notes.type_name(note) or hex(note.type)}  {note.size} bytes at {note.offset:#x}\n"
    body = render.to_text(decoded) if decoded is not None else render.hexdump(image.desc(note)).encode()
    return render.encode(render.printable_bytes(head.rstrip()) + "\n") + body


# -- threads -------------------------------------------------------------------------------------------------------


def _thread_records(image: Image) -> list[dict[str, Any]]:
    out = []
    for thread in threads.threads(image):
        region = regions.region_at(image, thread.sp) if thread.sp else None
        out.append(
            {
                "tid": thread.tid,
                "pid": thread.pid,
                "comm": thread.comm,
                "crashed": thread.crashed,
                "signal": thread.signal,
                "pc": hex(thread.pc) if thread.pc is not None else None,
                "sp": hex(thread.sp) if thread.sp is not None else None,
                "stack": region.name if region else None,
            }
        )
    return out


def registers(image: Image, thread: threads.Thread) -> bytes | None:
    return threads.register_bytes(image, thread.task)


def registers_json(image: Image, thread: threads.Thread) -> bytes:
    return render.to_json({name: hex(value) for name, value in threads.registers(image, thread.task)})


def registers_text(image: Image, thread: threads.Thread) -> bytes:
    def describe(value: int) -> str | None:
        region = regions.region_at(image, value)
        return f"{region.name}+{value - region.start:#x}" if region else None

    values = threads.registers(image, thread.task)
    return render.registers_text([(name, value, image.target.word) for name, value in values], describe)


def _fpregs(image: Image, thread: threads.Thread) -> bytes | None:
    found = threads.fp_block(image, thread.task)
    return found[1] if found else None


def _fp_values(image: Image, thread: threads.Thread) -> list[tuple[str, int, int]]:
    found = threads.fp_block(image, thread.task)
    if found is None:
        return []
    block, data = found
    values = threads.decode_fields(block.fields, data, image.target.order)
    return [(name, value, field.shown) for (name, value), field in zip(values, block.fields, strict=True)]


def _fpregs_json(image: Image, thread: threads.Thread) -> bytes:
    return render.to_json({name: hex(value) for name, value, _ in _fp_values(image, thread)})


def _fpregs_text(image: Image, thread: threads.Thread) -> bytes:
    return render.registers_text(_fp_values(image, thread), lambda value: None)


def _signal(image: Image, thread: threads.Thread) -> bytes | None:
    return threads.signal_bytes(image, thread.task)


def _signal_record(image: Image, thread: threads.Thread) -> dict[str, Any] | None:
    info = threads.signal(image, thread.task)
    return info.record() if info else None


def _signal_json(image: Image, thread: threads.Thread) -> bytes:
    return render.to_json(_signal_record(image, thread))


def _signal_text(image: Image, thread: threads.Thread) -> bytes:
    return render.to_text(_signal_record(image, thread) or {})


def _status(image: Image, thread: threads.Thread) -> dict[str, Any] | None:
    return threads.status_record(image, thread)


def _status_json(image: Image, thread: threads.Thread) -> bytes:
    return render.to_json(_status(image, thread))


def of_task(name: str) -> Make:
    """A thread's file that is the kernel's own."""

    def data(image: Image, thread: threads.Thread) -> bytes:
        found = thread.task.text(name)
        if found is None:
            raise MemfsError("no such thread", "it has ended", errno=errno.ESRCH, subject=thread.name)
        return found

    return of_thread(data, lambda image, thread: image.process.identity() is not None)


def _task_names(image: Image) -> list[str]:
    return _thread_names(image) if image.process.identity() is not None else []


def _task(context: Context) -> Node:
    return Link(f"../threads/{context.subject.name}")


def _stack(context: Context) -> Node | None:
    sp = context.subject.sp
    region = regions.region_at(context.image, sp) if sp else None
    return Link(f"../../regions/{region.name}") if region else None


def _current(context: Context) -> Node | None:
    everyone = threads.threads(context.image)
    return Link(everyone[0].name) if everyone else None


# -- listings ------------------------------------------------------------------------------------------------------


def segment(context: Context) -> Node:
    return memory.segment_file(context, context.subject)


def _region(context: Context) -> Node:
    return memory.region_file(context, context.subject)


def _region_names(image: Image) -> list[str]:
    return [region.name for region in regions.regions(image)]


def _thread_names(image: Image) -> list[str]:
    return [thread.name for thread in threads.threads(image)]


LISTINGS = {
    "note": Listing(_note_names, lambda image: image.notes),
    "segment": Listing(segments.file_names, segments.listed, segments.sizes),
    "region": Listing(_region_names, regions.regions),
    "tid": Listing(_thread_names, threads.threads),
    "task": Listing(_task_names, threads.threads, kind=Kind.LINK),
}

PROCESS = (
    Row("info", text_of(_info_text), "what this image is, a fact a line; warnings last"),
    Row("info.json", json_of(summary.info), "the same for programs"),
    Row("headers/ehdr", optional(ehdr), "the ELF header"),
    Row("headers/ehdr.txt", where(_elf, text_of(headers.ehdr_text)), "the ELF header, decoded"),
    Row("headers/phdrs", where(_elf, text_of(headers.table_bytes)), "the program header table"),
    Row("headers/phdrs.txt", where(_elf, text_of(headers.phdrs_text)), "the program headers, one a line"),
    Row("headers.json", where(_elf, json_of(headers.record)), "both for programs"),
    Row("notes", None, "the notes, by index, owner and type"),
    Row("notes/{note}", _note, "a note's descriptor"),
    Row("notes/{note}.txt", _note_text, "the note, decoded or as a hexdump"),
    Row("notes/{note}.json", _note_json, "the note for programs"),
    Row("notes.json", json_of(_notes_records), "the table of notes"),
    Row("segments", None, "PT_LOADs and other program headers that have bytes, by index"),
    Row("segments/{segment}", segment, "the bytes of a segment"),
    Row("segments.json", json_of(segments.records), "the table of segments"),
    Row("regions", None, "memory by meaning: heap, stack, libc.so.6.text"),
    Row("regions/{region}", _region, "the bytes of a region"),
    Row("regions.json", json_of(memory.region_records), "the table of regions"),
    Row("maps", text_of(memory.maps), "the mappings as /proc/PID/maps prints them"),
    Row("mem", memory.whole, "the whole address space: the offset is the address"),
    Row("at", memory.by_address, "at/0x7ffd1000, at/0x7ffd1000:64, at/0x1000-0x2000: memory by address", listed=False),
    Row("auxv", where(auxv.raw, text_of(auxv.raw)), "the auxiliary vector"),
    Row("auxv.txt", where(auxv.raw, text_of(_auxv_text)), "the auxiliary vector, an entry a line"),
    Row("auxv.json", where(auxv.raw, json_of(_auxv_records)), "the auxiliary vector for programs"),
    Row("cmdline", optional(arguments.cmdline), "the arguments, each ended by NUL"),
    Row("environ", optional(arguments.environ), "the environment, each ended by NUL"),
    Row("comm", optional(_comm), "the name of the process"),
    Row("exe", _exe, "a link to where the executable was"),
    Row("threads", None, "the threads by id, the one that crashed first"),
    Row("threads/{tid}/registers", of_thread(registers), "the general registers (pr_reg)"),
    Row("threads/{tid}/registers.txt", of_thread(registers_text, registers), "name, value, what it points to"),
    Row("threads/{tid}/registers.json", of_thread(registers_json, registers), "the registers for programs"),
    Row("threads/{tid}/fpregs", of_thread(_fpregs), "the floating-point registers"),
    Row("threads/{tid}/fpregs.txt", of_thread(_fpregs_text, _fpregs), "the floating-point registers, one a line"),
    Row("threads/{tid}/fpregs.json", of_thread(_fpregs_json, _fpregs), "the floating-point registers for programs"),
    Row("threads/{tid}/siginfo", of_thread(_signal), "the signal (siginfo_t)"),
    Row("threads/{tid}/siginfo.txt", of_thread(_signal_text, _signal_record), "the signal, a field a line"),
    Row("threads/{tid}/siginfo.json", of_thread(_signal_json, _signal_record), "the signal for programs"),
    Row("threads/{tid}/comm", of_task("comm"), "the name of the thread (live)"),
    Row("threads/{tid}/stat", of_task("stat"), "the kernel's line about the thread (live)"),
    Row("threads/{tid}/status", of_task("status"), "what the kernel says of the thread (live)"),
    Row("threads/{tid}/status.json", of_thread(_status_json, _status), "ids, signals and times"),
    Row("threads/{tid}/stack", _stack, "a link to the region that sp points into"),
    Row("threads/current", _current, "a link to the thread that crashed, or the first"),
    Row("threads.json", json_of(_thread_records), "the table of threads"),
    Row("status", of_proc("status"), "what the kernel says of the process (live)"),
    Row("stat", of_proc("stat"), "the kernel's line about the process (live)"),
    Row("statm", of_proc("statm"), "its sizes, in pages (live)"),
    Row("limits", of_proc("limits"), "its resource limits (live)"),
    Row("smaps", of_proc("smaps"), "its mappings with what is resident of them (live)"),
    Row("task/{task}", _task, "a link to the thread's directory, as /proc has it (live)"),
)


def root(image: Image, absent_as_zero: bool = False) -> Dir:
    """The root directory of a process image, one for each image: it keeps what was found out."""
    key = "root", absent_as_zero
    with image.lock:
        if key not in image.cache:
            image.cache[key] = RowDir(Context(image, absent_as_zero), PROCESS, LISTINGS)
        made: Dir = image.cache[key]
    return made
