"""A source becomes an Image. One file per format, one row each in BACKENDS.

A backend module has `open_image(source: FileSource) -> Image`. The kind of a file is found out by its content,
never by its name."""

import os
from importlib import import_module
from typing import NamedTuple

from memfs.errors import MemfsError, from_os_error, printable
from memfs.image import Access, Image
from memfs.io.file import FileSource, open_file
from memfs.io.procfs import PROC_ROOT, options_of


class Backend(NamedTuple):
    """A format: the bytes at `offset` by which it is known, and the module that reads it."""

    name: str
    offset: int
    magic: bytes
    module: str


class Foreign(NamedTuple):
    """What is recognised only to say what it is, and what to do about it."""

    name: str
    offset: int
    magic: bytes
    hint: str


BACKENDS = (Backend("ELF core", 0, b"\x7fELF", "memfs.backends.elf"),)

FOREIGN = (
    Foreign("compressed with gzip", 0, b"\x1f\x8b", "unpack it: gzip -dk {path}"),
    Foreign("compressed with xz", 0, b"\xfd7zXZ\0", "unpack it: xz -dk {path}"),
    Foreign("compressed with zstd", 0, b"\x28\xb5\x2f\xfd", "unpack it: zstd -d {path}"),
    Foreign("compressed with bzip2", 0, b"BZh", "unpack it: bzip2 -dk {path}"),
    Foreign("compressed with lz4", 0, b"\x04\x22\x4d\x18", "unpack it: lz4 -d {path}"),
    Foreign("compressed with lzop", 0, b"\x89LZO\0\r\n\x1a\n", "unpack it: lzop -d {path}"),
    Foreign("a zip archive", 0, b"PK\x03\x04", "unpack it: unzip {path}"),
    Foreign("a 7z archive", 0, b"7z\xbc\xaf\x27\x1c", "unpack it: 7z x {path}"),
    Foreign("a tar archive", 257, b"ustar", "unpack it: tar -xf {path}"),
    Foreign(
        "a compressed kernel dump (kdump)", 0, b"KDUMP   ", "this version reads ELF cores: makedumpfile -E writes one"
    ),
    Foreign("a flattened kernel dump", 0, b"makedumpfile\0", "put it together with: makedumpfile -R OUT < {path}"),
    Foreign("a LiME memory dump", 0, b"EMiL", "this version reads ELF cores only"),
    Foreign("a Windows minidump", 0, b"MDMP", "this version reads ELF cores only"),
    Foreign("a Windows crash dump", 0, b"PAGEDU", "this version reads ELF cores only"),
    Foreign("a Mach-O file", 0, b"\xcf\xfa\xed\xfe", "this version reads ELF cores only"),
)

EVERYTHING = Access()
_HEAD = 512
_SOURCES = "an ELF core, /proc/kcore, a process by its id, or /proc"


def open_source(source: str | os.PathLike[str], access: Access = EVERYTHING) -> Image:
    """Open whatever `source` names: a file, a process (its id, or its directory in a /proc), a /proc.

    `access` is about what is alive. Raises MemfsError with what, why and what to do."""
    path = os.fspath(source)
    is_pid = isinstance(source, str) and source.isascii() and source.isdigit()
    if is_pid:
        path = f"{PROC_ROOT}/{source}"
    if not path or "\0" in path:
        raise MemfsError("this is no path", hint=f"name {_SOURCES}", subject=repr(path))
    if is_pid or os.path.isdir(path):
        from memfs.backends.procfs import open_directory

        return open_directory(path, access)
    try:
        file = open_file(path)
    except MemfsError as error:
        from memfs.backends import kcore_refusal

        raise kcore_refusal.explain(path, error) from error
    try:
        return _open_file(file)
    except OSError as error:
        file.close()
        raise from_os_error(path, error) from error
    except BaseException:
        file.close()
        raise


def _open_file(file: FileSource) -> Image:
    head = file.read(0, _HEAD)
    if not head:
        raise MemfsError(
            "the file is empty",
            "nothing was dumped",
            "see ulimit -c, the free space and /proc/sys/kernel/core_pattern",
            subject=file.path,
        )
    if head.startswith(b"\x7fELF") and not os.fstat(file.fd).st_blocks and options_of(file.fd) is not None:
        from memfs.backends import kcore_live

        live = kcore_live.open_image(file.path)
        file.close()
        return live
    for backend in BACKENDS:
        if head[backend.offset :].startswith(backend.magic):
            image: Image = import_module(backend.module).open_image(file)
            return image
    for foreign in FOREIGN:
        if head[foreign.offset :].startswith(foreign.magic):
            hint = foreign.hint.format(path=_shell_quote(file.path))
            raise MemfsError(f"this is {foreign.name}", "it cannot be read in place", hint, subject=file.path)
    if b"\x7fELF".startswith(head):
        raise MemfsError(
            f"the file ends after {len(head)} bytes",
            "that is inside the ELF magic",
            "it was cut off: copy it again",
            subject=file.path,
        )
    raise MemfsError(
        "not a memory image",
        f"it begins with the bytes {head[:4].hex(' ')}, not with an ELF header",
        f"name {_SOURCES}",
        subject=file.path,
    )


def _shell_quote(path: str) -> str:
    plain = path.isascii() and all(c.isalnum() or c in "/._-+,:@%=" for c in path)
    return path if plain else "'" + printable(path).replace("'", "'\\''") + "'"
