"""memfs cp: out of an image, with holes where the image has no bytes."""

from __future__ import annotations

import argparse
import errno
import os
import stat
import sys
import time
from collections.abc import Iterable

from memfs.cli import common
from memfs.cli.main import complain
from memfs.cli.pieces import Pieces
from memfs.cli.sparsefile import SparseFile
from memfs.errors import MemfsError, from_os_error
from memfs.image import Run, State
from memfs.tree.node import AddressSpace, Dir, File, Link, MemoryReader, Node, Reader


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-r", dest="recursive", action="store_true", help="directories and all below them (but not mem)"
    )
    common.add_source(parser)
    parser.add_argument("path", metavar="PATH", help="a file or directory of the tree")
    parser.add_argument("destination", metavar="DEST", help="a file, or a directory to copy into")


def run(arguments: argparse.Namespace) -> int:
    with common.open_image(arguments) as image:
        node = common.find(image, arguments.path)
        destination = arguments.destination
        if os.path.isdir(destination):
            name = os.path.basename(arguments.path.rstrip("/")) or os.path.basename(arguments.source)
            destination = os.path.join(destination, name)
        copy = _Copy(arguments.source)
        if isinstance(node, Dir):
            if not arguments.recursive:
                raise MemfsError(
                    "this is a directory", hint="copy it with -r", errno=errno.EISDIR, subject=arguments.path
                )
            copy.directory(node, destination)
        elif isinstance(node, File):
            copy.file(node, destination)
        else:
            raise common.not_a_file(arguments.path, node)
        copy.summary()
    return 1 if copy.failed else 0


class _Copy:
    """One run of cp: what was copied, what was absent, what failed."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._absent = 0
        self._skipped = False
        self.failed = 0

    def directory(self, node: Dir, destination: str) -> None:
        """A directory and all below it; what fails is said, and the rest goes on."""
        try:
            os.makedirs(destination, exist_ok=True)
        except OSError as error:
            raise from_os_error(destination, error) from error
        for name, child in node.entries():
            path = os.path.join(destination, name)
            try:
                self._any(child, path)
            except MemfsError as error:
                error.subject = error.subject or path
                complain(error, self._source)
                self.failed += 1

    def _any(self, node: Node, path: str) -> None:
        if isinstance(node, Dir):
            self.directory(node, path)
        elif isinstance(node, AddressSpace):
            self._skipped = True
        elif isinstance(node, File):
            self.file(node, path)
        elif isinstance(node, Link):
            target = node.target_for(None)
            try:
                os.symlink(target, path)
            except FileExistsError:
                pass
            except OSError as error:
                raise from_os_error(path, error) from error

    def file(self, node: File, destination: str) -> None:
        """One file, sparse: only data is written. Raises MemfsError."""
        self._check(destination)
        existed = os.path.lexists(destination)
        reader = node.open()
        size = _extent(node, reader)
        progress = _Progress(os.path.basename(destination), node.stat().data if sys.stderr.isatty() else 0)
        try:
            fd = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise from_os_error(destination, error) from error
        copy = SparseFile(fd)
        pieces = Pieces(reader, *_runs(reader, size), copy, progress.add)
        complete = False
        try:
            copy.resize(size)
            pieces.run(size)
            complete = True
        except OSError as error:
            if not existed:
                os.unlink(destination)
            raise _too_large(destination, error, size) from error
        finally:
            progress.end()
            copy.close(None if complete else pieces.whole, pieces.at_work)
            reader.close()
        self._absent += pieces.absent

    def _check(self, destination: str) -> None:
        """Refuse what would destroy the image itself, or cannot be written at an offset."""
        try:
            there, image = os.lstat(destination), os.stat(self._source)
        except OSError:  # nothing is in the way
            return
        if os.path.samestat(there, image):
            why, hint = "it is the image itself", "name another file"
        elif stat.S_ISLNK(there.st_mode):
            why, hint = "it is a symbolic link, which is not followed", "remove it, or name what it leads to"
        elif stat.S_ISFIFO(there.st_mode) or stat.S_ISSOCK(there.st_mode):
            why, hint = "it has no offsets to write at", f"use memfs cat and > {destination}"
        else:
            return
        raise MemfsError("cannot copy there", why, hint, errno.EINVAL, destination)

    def summary(self) -> None:
        """What a user must know of the copy, on stderr."""
        if self._absent:
            print(f"memfs: {self._absent:,} bytes are not in the image: they are holes in the copy", file=sys.stderr)
        if self._skipped:
            print("memfs: mem was left out: regions/ and segments/ have the same bytes", file=sys.stderr)


def _extent(node: File, reader: Reader) -> int:
    """How large the copy will be. `mem` ends with its last byte of data."""
    if not isinstance(node, AddressSpace):
        return reader.size
    runs = node.space.runs(node.base, node.base + node.size)
    return max((run.end - node.base for run in runs if run.state is State.DATA), default=0)


def _runs(reader: Reader, size: int) -> tuple[Iterable[Run], int]:
    """What a file has in its first `size` bytes, and the address that it begins with."""
    if isinstance(reader, MemoryReader):
        return reader.space.runs(reader.base, reader.base + size), reader.base
    return (Run(0, size, State.DATA, None),), 0


def _too_large(destination: str, error: OSError, size: int) -> MemfsError:
    if error.errno in (errno.EFBIG, errno.EINVAL):
        return MemfsError(
            f"the copy would have {size:,} bytes",
            "this filesystem has no files of that size",
            "copy to tmpfs (/dev/shm) or XFS, or one of regions/ or segments/",
            errno.EFBIG,
            destination,
        )
    return from_os_error(destination, error)


class _Progress:
    """Bytes of data, rate and time left, on a terminal alone."""

    def __init__(self, name: str, total: int) -> None:
        self._name = name
        self._total = total
        self._done = 0
        self._begin = self._shown = time.monotonic()
        self._active = sys.stderr.isatty()
        self._drawn = False

    def add(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if self._active and now - self._shown > 0.2:
            self._shown = now
            self._drawn = True
            rate = self._done / (now - self._begin)
            left = max(0, self._total - self._done) / rate if rate else 0
            text = (
                f"{self._name}: {_human(self._done)} of {_human(self._total)}, {_human(int(rate))}/s, {left:.0f} s left"
            )
            print(f"\r{text[:100]:<100}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._drawn:
            print("\r" + " " * 100 + "\r", end="", file=sys.stderr, flush=True)


def _human(count: int) -> str:
    number = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 1024 or unit == "TiB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
