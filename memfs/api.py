"""The Python interface: what `memfs.open` gives."""

from __future__ import annotations

import builtins
import os
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from memfs import backends
from memfs.errors import AbsentMemory, MemfsError, not_found
from memfs.image import Image, Note, Segment, Space, State
from memfs.io.buffers import room
from memfs.io.sparse import ZeroFilled
from memfs.tree import options, roots
from memfs.tree.node import Dir, File, Link, Node

if TYPE_CHECKING:  # what is concluded from an image is imported when it is asked for
    from memfs.facts.regions import Region
    from memfs.facts.symbols.columns import Symbols
    from memfs.facts.threads import Thread

_CHUNK = 1 << 20


class OpenImage:
    """An opened memory image. Use it as a context manager, or call `close`. Any thread may use it."""

    def __init__(self, image: Image, settings: options.Settings) -> None:
        self.image = image
        if settings.symbols is not None:
            from memfs.facts.symbols import files

            files.check(settings.symbols)
            image.symbols = settings.symbols
        self._settings = settings
        self._root: Dir | None = None

    def __enter__(self) -> OpenImage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the source."""
        self.image.close()

    def read(self, address: int, size: int, fill: bytes | None = None) -> bytes:
        """`size` bytes at an address.

        Bytes that the image does not have raise AbsentMemory, unless `fill`, one byte, stands for them. Raises
        MemfsError (EIO) where reading failed, ValueError for a negative size or a longer `fill`."""
        if size < 0 or (fill is not None and len(fill) != 1):
            raise ValueError("size must not be negative, fill must be one byte")
        if fill is None:
            whole = room(self._check(address, size))
            self._fill(address, whole, None)
            return builtins.bytes(whole)
        out = bytearray(fill) * size
        self._fill(address, memoryview(out), fill)
        return builtins.bytes(out)

    @property
    def _space(self) -> Space:
        """The address space as it is reached now."""
        space = self.image.now().space
        return ZeroFilled(space) if self._settings.absent_as_zero else space

    def _check(self, address: int, size: int) -> int:
        """`size`, if all of it is there: a size out of a damaged image must not cost memory first."""
        space, end = self._space, address + size
        tally = space.tally(address, end) if address >= 0 else None
        if address < 0 or (tally is not None and tally.data + tally.zero < size):
            reached = max(0, address)
            for run in space.runs(reached, max(0, end)):
                if run.state in (State.ABSENT, State.GAP):
                    raise AbsentMemory(run.start, gap=run.state == State.GAP)
                reached = run.end
            if address < 0 or reached < end:
                raise AbsentMemory(min(address, reached), gap=True)
        return size  # of a live process: it has come meanwhile

    def _fill(self, address: int, buffer: memoryview, fill: bytes | None) -> None:
        done = 0
        while done < len(buffer):
            try:
                done += self._space.readinto(address + done, buffer[done:])
            except AbsentMemory:
                if fill is None:
                    raise
                done = next(iter(self._space.runs(address + done, address + len(buffer)))).end - address

    @property
    def segments(self) -> Sequence[Segment]:
        """What the container says: program headers, those with bytes."""
        from memfs.facts import segments

        return segments.listed(self.image.now())

    @property
    def regions(self) -> Sequence[Region]:
        """Memory by meaning, by address."""
        from memfs.facts import regions

        return regions.regions(self.image.now())

    @property
    def threads(self) -> Sequence[Thread]:
        """The threads, the one that crashed first."""
        from memfs.facts import threads

        return threads.threads(self.image.now())

    @property
    def notes(self) -> Sequence[Note]:
        """The notes in the order of the image."""
        return self.image.notes

    @property
    def is_live(self) -> bool:
        """Whether the tree changes while it is looked at."""
        return roots.row(self.image.kind).live

    @property
    def symbols(self) -> Symbols:
        """The symbols of a kernel. Raises MemfsError (ENODATA) where none are known, TypeError for a process."""
        from memfs.facts.symbols import of_image

        return of_image.found(self.image).sure()

    @property
    def tree(self) -> Dir:
        """The root directory, as a mount shows it."""
        if self._root is None:
            self._root = roots.root(self.image, self._settings.absent_as_zero)
        return self._root

    def node(self, path: str) -> Node:
        """The node at a path of the tree; links that stay inside the tree are followed before the last component.

        Raises MemfsError (ENOENT, ENOTDIR)."""
        return resolve(self.tree, path)

    def cat(self, path: str) -> builtins.bytes:
        """The bytes of a file of the tree."""
        node = self.node(path)
        if not isinstance(node, File):
            raise MemfsError("this is not a file", subject=path)
        reader = node.open()
        out = bytearray()  # grows with what is there: a size out of a damaged image must not cost memory first
        buffer = room(min(_CHUNK, reader.size))
        while len(out) < reader.size:
            out += buffer[: reader.readinto(len(out), buffer[: reader.size - len(out)])]
        return builtins.bytes(out)


def open(source: str | os.PathLike[str], **settings: str | bool | None) -> OpenImage:
    """Open a memory image: an ELF core, a live process by its id or directory, /proc.

    `settings` are the options that stand behind `-o`: absent="zero".

    Raises MemfsError, whose text says what, why and what to do; TypeError for an option that does not exist."""
    chosen = options.from_keywords(settings)
    return OpenImage(backends.open_source(source, chosen.access), chosen)


def resolve(root: Dir, path: str) -> Node:
    """The node at a path; `.` and `..` work, and links inside the tree, but not the one that the path ends with."""
    import errno

    trail: list[Dir] = [root]
    parts = [part for part in path.split("/") if part]
    budget = 40
    node: Node = root
    while parts:
        part = parts.pop(0)
        if isinstance(node, Link):
            budget -= 1
            target = node.target_for(None)
            if target.startswith("/") or not budget:
                raise MemfsError("a link out of the image is not followed", errno=errno.ELOOP, subject=path)
            parts = [*target.split("/"), part, *parts]
            node = trail[-1]
            continue
        if not isinstance(node, Dir):
            raise MemfsError("a part of the path is not a directory", errno=errno.ENOTDIR, subject=path)
        if part in ("", "."):
            continue
        if part == "..":
            trail = trail[:-1] or [root]
            node = trail[-1]
            continue
        try:
            node = node.lookup(part)
        except MemfsError as error:
            if error.errno not in (errno.ENOENT, errno.ESRCH):
                raise
            raise not_found(path) from error
        if isinstance(node, Dir):
            trail.append(node)
    return node
