"""Where the symbols of a kernel come from: the first source that is sure wins.

The file that the user names; /proc/kallsyms, if the kernel is the one that runs here; the tables in its own memory; and
the places where klogd looked for a System.map. A map is used only if it is this kernel's (verify.py)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from memfs.errors import MemfsError
from memfs.facts.symbols import files, search, tables, verify
from memfs.facts.symbols.columns import Symbols
from memfs.facts.symbols.tables import Machine, Read

IN_MEMORY = "kallsyms in the image's own memory"

_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,100}")
"""An OSRELEASE that may stand in a path: it comes out of the image."""

PATHS = (
    "/boot/System.map-{release}",
    "/boot/System.map",
    "/System.map",
    "/usr/src/linux/System.map",
    "/lib/modules/{release}/build/System.map",
    "/usr/lib/debug/boot/System.map-{release}",
    "/usr/lib/debug/.build-id/{build_id}.debug",
    "/usr/lib/debug/boot/vmlinux-{release}",
    "/usr/lib/debug/lib/modules/{release}/vmlinux",
)
"""klogd's search path, and where distributions put a vmlinux with symbols."""


class Kernel(NamedTuple):
    """What is known of the kernel whose symbols are wanted."""

    read: Read
    machine: Machine
    info: Mapping[str, str]  # VMCOREINFO
    text: Sequence[tuple[int, int]]  # where its text and read-only data are, to be searched
    kallsyms: str | None = None  # /proc/kallsyms, if it runs here
    file: str | None = None  # of -o symbols=


class Found(NamedTuple):
    """The symbols, where they are from, and what was refused on the way; or why there are none."""

    symbols: Symbols | None
    origin: str | None
    refused: tuple[str, ...]

    def sure(self) -> Symbols:
        """The symbols. Raises MemfsError (ENODATA) with the reasons if there are none."""
        if self.symbols is None:
            import errno

            raise MemfsError(
                "no symbols of this kernel are known",
                "; ".join(self.refused),
                "name its System.map or vmlinux: -o symbols=FILE",
                errno.ENODATA,
            )
        return self.symbols


def find(kernel: Kernel) -> Found:
    """The symbols of a kernel."""
    refused: list[str] = []
    for origin, load in _sources(kernel):
        try:
            return Found(load(), origin, tuple(refused))
        except MemfsError as error:
            refused.append(str(error))
            if origin == kernel.file:  # what the user asked for is not replaced by something else
                break
    return Found(None, None, tuple(refused))


class _File(NamedTuple):
    """A map in a file."""

    path: str
    kernel: Kernel

    def __call__(self) -> Symbols:
        kernel = self.kernel
        try:
            verify.check_build(files.build_id(self.path), kernel.info)
            symbols = files.load(self.path)
            return verify.fitted(symbols, kernel.read, kernel.info, 8 * kernel.machine.word)
        except MemfsError as error:
            error.subject = error.subject or self.path
            raise


class _Memory(NamedTuple):
    """The tables in memory."""

    kernel: Kernel

    def __call__(self) -> Symbols:
        kernel = self.kernel
        stext = verify.symbol_addresses(kernel.info).get("_stext")
        error: MemfsError | None = None
        for layout in self._layouts():
            try:
                return tables.symbols(kernel.read, kernel.machine, layout, stext, kernel.text)
            except MemfsError as failed:
                error = error or failed
        raise error or MemfsError(tables.NONE, "no kallsyms tables were found in it")

    def _layouts(self) -> Iterator[tables.Layout]:
        kernel = self.kernel
        told = tables.located(kernel.read, kernel.machine, verify.symbol_addresses(kernel.info))
        if told:
            yield told
        else:
            yield from search.layouts(kernel.read, kernel.machine, kernel.text)


Source = tuple[str, "_File | _Memory"]


def _sources(kernel: Kernel) -> Iterator[Source]:
    """Every source there may be, in order: what it is called, and what loads it."""
    if kernel.file is not None:
        yield kernel.file, _File(kernel.file, kernel)
    if kernel.kallsyms is not None:
        yield kernel.kallsyms, _File(kernel.kallsyms, kernel)
    yield IN_MEMORY, _Memory(kernel)
    for path in search_path(kernel.info):
        if os.path.exists(path):
            yield path, _File(path, kernel)


def search_path(info: Mapping[str, str]) -> list[str]:
    """Where a map of this kernel may lie."""
    release, build_id = info.get("OSRELEASE", ""), info.get("BUILD-ID", "").lower()
    known = {}
    if _RELEASE.fullmatch(release):
        known["release"] = release
    if re.fullmatch(r"[0-9a-f]{8,64}", build_id):
        known["build_id"] = f"{build_id[:2]}/{build_id[2:]}"
    out = []
    for pattern in PATHS:
        needs = re.findall(r"\{(\w+)\}", pattern)
        if all(name in known for name in needs):
            out.append(pattern.format(**known))
    return out
