"""How a tree comes to the kernel: TRANSPORTS, the table behind `-o fuse=`, and what each is given and cannot do."""

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple, Protocol

from memfs.fuse.filesystem import Filesystem
from memfs.fuse.log import Log


class Mounting(NamedTuple):
    """What is to be mounted, and where. `point` comes from mount.check_point; `trace` logs every request."""

    files: Filesystem
    point: str
    source: str
    allow_other: bool
    trace: bool


class Session(Protocol):
    """A mount being served."""

    def serve(self) -> None:
        """Mount, serve, and return when it has been unmounted. From the main thread. Raises MemfsError if it cannot
        be mounted."""

    def statistics(self) -> str:
        """What was done so far, in a line. From any thread."""


class Transport(NamedTuple):
    """A row: memfs.fuse.MODULE has `session(mounting, name, ready, log) -> Session`.

    `lacks` are the keys of LACKS that do not work through it."""

    name: str
    module: str
    help: str
    lacks: tuple[str, ...] = ()


_BY_PATH = ("cached_names", "interrupt", "identity")  # what libfuse's interface of paths cannot do

TRANSPORTS = (
    Transport("kernel", "kernel", "the kernel's protocol on /dev/fuse: nothing needs to be installed"),
    Transport("mfusepy", "libfuse", "libfuse 3, or 2 where only that is there, through mfusepy", _BY_PATH),
    Transport("fusepy", "libfuse", "libfuse 2 through fusepy", ("seek", "readdirplus", "1m", *_BY_PATH)),
    Transport("libfuse", "libfuse", "mfusepy, or fusepy where only that is installed", _BY_PATH),
)

LACKS = {
    "seek": "SEEK_DATA and SEEK_HOLE: a copy reads absent bytes, too, and stops there; use memfs cp",
    "readdirplus": "attributes together with names: a long listing asks for each file",
    "1m": "reads of 1 MiB, in one piece or two: they come in pieces of 128 KiB",
    "cached_names": "names kept by the kernel: every listing asks again",
    "interrupt": "reads that a signal ends: one that is stuck ends when the image answers or the server is killed",
    "identity": "directories of one process: below one that is open, a pid that is used again is the other process",
}
"""What a transport may be unable to do: what it is, a colon, and what that means."""


def session(name: str, mounting: Mounting, ready: Callable[[], None], log: Log) -> Session:
    """A session of the transport that -o fuse= names; `ready` is called once, when the kernel has been answered.

    Raises MemfsError if what it needs is not installed."""
    row = next(row for row in TRANSPORTS if row.name == name)
    made: Session = import_module(f"memfs.fuse.{row.module}").session(mounting, name, ready, log)
    return made
