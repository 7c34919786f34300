"""Command line and environment, off the stack where the kernel put them.

Source: fs/binfmt_elf.c (create_elf_tables) and fs/exec.c (bprm), Linux 6.12. From low to high addresses: argc,
argv pointers, NULL, envp pointers, NULL, the auxiliary vector, ..., argv strings, environment strings, file name.
The AUXV note has the vector's bytes, so its place on the stack is found by looking for them."""

import struct
from typing import NamedTuple

from memfs.errors import MemfsError
from memfs.facts import auxv, regions, threads
from memfs.image import Image, fact

_STACK_AT_MOST = 16 << 20
_STRINGS_AT_MOST = 4 << 20
_POINTERS_AT_MOST = 1 << 18


class Arguments(NamedTuple):
    """As /proc/PID/cmdline and environ: strings, each ended by NUL. `source` says where they come from."""

    cmdline: bytes | None
    environ: bytes | None
    source: str | None


@fact
def arguments(image: Image) -> Arguments:
    """Command line and environment, off the stack; else the command line of PRPSINFO, which is cut at 80 bytes."""
    if image.process.identity() is not None:
        return Arguments(cmdline(image), None, "/proc")
    found = _from_stack(image)
    if found is not None:
        return found
    info = threads.psinfo(image)
    if info and info.psargs:
        return Arguments(info.psargs.rstrip(b" ") + b"\0", None, "pr_psargs")
    return Arguments(None, None, None)


def cmdline(image: Image) -> bytes | None:
    """The arguments, each ended by NUL."""
    live = image.process.identity() is not None
    return image.process.text("cmdline") if live else arguments(image).cmdline


def environ(image: Image) -> bytes | None:
    """The environment, each ended by NUL. Raises MemfsError (EACCES) for what is another's."""
    live = image.process.identity() is not None
    return image.process.text("environ") if live else arguments(image).environ


@fact
def exe(image: Image) -> str | None:
    """The executable's path: of the file that holds AT_PHDR or AT_ENTRY, else what AT_EXECFN points to; of a live
    process what the kernel says. Raises MemfsError (EACCES)."""
    if image.process.identity() is not None:
        return image.process.link("exe")
    path = regions.executable(image)
    if path is None:
        address = auxv.value(image, auxv.AT_EXECFN)
        text = read_some(image, address, 4096).split(b"\0")[0] if address else b""
        path = text.decode("utf-8", "surrogateescape") or None
    return path


def _from_stack(image: Image) -> Arguments | None:
    anchor = auxv.value(image, auxv.AT_EXECFN) or auxv.value(image, auxv.AT_RANDOM)
    region = regions.region_at(image, anchor) if anchor else None
    vector = auxv.raw(image)
    if region is None or anchor is None or len(vector) < 8 * image.target.word:
        return None
    low = max(region.start, anchor - _STACK_AT_MOST)
    below = read_some(image, low, anchor - low)
    place = below.rfind(vector[: 8 * image.target.word])  # four entries: nothing else looks like them
    if place < 0:
        return None
    pointers = _pointers_below(below, place, image)
    if pointers is None:
        return None
    argv, envp = pointers
    above = low + place + len(vector)
    first_argument = min((p for p in argv if above <= p < region.end), default=None)
    first_variable = min((p for p in envp if above <= p < region.end), default=None)
    name = auxv.value(image, auxv.AT_EXECFN)
    end = name if name is not None and name >= above else None
    cmdline = _strings(image, first_argument, first_variable or end)
    environ = _strings(image, first_variable, end)
    if not argv:
        cmdline = b""
    if not envp:
        environ = b""
    return Arguments(cmdline, environ, "the stack") if cmdline is not None else None


def _pointers_below(below: bytes, place: int, image: Image) -> tuple[list[int], list[int]] | None:
    """argv and envp, walking down from the auxiliary vector; argc must agree."""
    target = image.target
    code = target.prefix + ("Q" if target.word == 8 else "I")
    low = max(0, place - _POINTERS_AT_MOST * target.word)
    low += (place - low) % target.word
    words = [w for (w,) in struct.iter_unpack(code, below[low:place])]
    if not words or words[-1]:
        return None
    words.pop()
    envp: list[int] = []
    while words and words[-1]:
        envp.append(words.pop())
    if not words:
        return None
    words.pop()
    argv: list[int] = []
    while words and words[-1] != len(argv):
        argv.append(words.pop())
    return (argv, envp) if words else None


def _strings(image: Image, start: int | None, end: int | None) -> bytes | None:
    """[start, end) if both are known and the bytes are there."""
    if start is None or end is None or not 0 < end - start <= _STRINGS_AT_MOST:
        return None
    data = read_some(image, start, end - start)
    return data if len(data) == end - start else None


def read_some(image: Image, address: int, size: int) -> bytes:
    """The bytes from an address on, as many of `size` as are there, without an error."""
    buffer = bytearray(max(0, min(size, _STACK_AT_MOST)))
    try:
        got = image.space.readinto(address, memoryview(buffer)) if buffer else 0
    except MemfsError:
        got = 0
    return bytes(buffer[:got])
