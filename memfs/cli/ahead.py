"""The data of a file, piece by piece; of a large one the next piece is read while the last is written."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Generator
from queue import SimpleQueue
from typing import NamedTuple

from memfs.cli.common import CHUNK
from memfs.errors import AbsentMemory, MemfsError
from memfs.tree.node import Reader

_BUFFERS = 4
_WORTH_A_THREAD = 8 << 20
_PAGE = 4096


class Filled(NamedTuple):
    """Bytes at an offset of the file; the buffer that they are in is used again for later ones."""

    start: int
    data: memoryview
    buffer: memoryview


def data(reader: Reader, size: int, total: int) -> Generator[Filled, None, None]:
    """What is data in [0, size) of a file, `total` bytes in about. A piece is good until the next is asked for.

    Pages of a live process that vanish while they are copied are left out. Raises MemfsError."""
    if total < _WORTH_A_THREAD:
        buffer = memoryview(bytearray(CHUNK))
        return _pieces(reader, size, lambda: buffer)
    return _ahead(reader, size)


def _pieces(reader: Reader, size: int, take: Callable[[], memoryview | None]) -> Generator[Filled, None, None]:
    """One after the other into the buffers that `take` gives; None of them is the end."""
    position = 0
    while position < size:
        try:
            start = reader.next_data(position)
        except MemfsError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        position = end = min(size, reader.next_hole(start))
        while start < end:
            buffer = take()
            if buffer is None:
                return
            got = _read(reader, start, buffer[: end - start])
            yield Filled(start, buffer[:got], buffer)
            start += got or _PAGE - start % _PAGE


def _read(reader: Reader, start: int, buffer: memoryview) -> int:
    try:
        return reader.readinto(start, buffer)
    except AbsentMemory:
        return 0


def _ahead(reader: Reader, size: int) -> Generator[Filled, None, None]:
    """The same with a thread that reads: reading and writing are each bound by memory, not by Python."""
    free: SimpleQueue[memoryview | None] = SimpleQueue()
    full: SimpleQueue[Filled | BaseException | None] = SimpleQueue()

    def read() -> None:
        try:
            for filled in _pieces(reader, size, free.get):
                full.put(filled)
            full.put(None)
        except BaseException as error:  # raised again where the bytes are wanted
            full.put(error)

    for _ in range(_BUFFERS):
        free.put(memoryview(bytearray(CHUNK)))
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        while (filled := full.get()) is not None:
            if isinstance(filled, BaseException):
                raise filled
            yield filled
            free.put(filled.buffer)
    finally:
        free.put(None)
        thread.join()
