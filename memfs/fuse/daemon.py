"""From a tree to a running mount: the process that serves it, and how it says that it is ready, or why not."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable

from memfs.errors import MemfsError
from memfs.fuse import mount
from memfs.fuse.kernel import Server
from memfs.fuse.operations import Operations

_READY = b"\0"


def run(operations: Operations, point: str, source: str, allow_other: bool, foreground: bool, trace: bool) -> int:
    """Mount and serve. In the foreground, returns when it is over; else as soon as the mount is usable.

    `point` comes from mount.check_point. Raises MemfsError if it cannot be mounted, whichever process finds out."""
    if foreground:
        _serve(operations, point, source, allow_other, trace, lambda: None)
        return 0
    return _in_background(lambda ready: _serve(operations, point, source, allow_other, trace, ready))


def _serve(
    operations: Operations, point: str, source: str, allow_other: bool, trace: bool, ready: Callable[[], None]
) -> None:
    fd = mount.mount(point, source, allow_other)

    def initialized() -> None:
        mount.raise_read_ahead(point)
        ready()

    def end(number: int, frame: object) -> None:
        try:
            mount.unmount(point, lazy=True)  # open files can be read until they are closed
        except MemfsError as error:
            _log(str(error))

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    gc.freeze()
    gc.enable()
    Server(fd, operations, initialized, _log, trace).serve()


def _log(line: str) -> None:
    print(f"memfs: {line.rstrip()}", file=sys.stderr, flush=True)


def _in_background(serve: Callable[[Callable[[], None]], None]) -> int:
    """Fork; the child serves and tells through a pipe: a NUL for ready, else why not."""
    receive, send = os.pipe()
    child = os.fork()
    if child:
        os.close(send)
        with os.fdopen(receive, "rb") as pipe:
            said = pipe.read()
        if said == _READY:
            return 0
        os.waitpid(child, 0)
        what, why, hint, number, subject = [*said.decode("utf-8", "surrogateescape").split("\0"), "", "", "", "", ""][
            :5
        ]
        raise MemfsError(what or "the server died before the mount was ready", why, hint, int(number or 5), subject)
    os.close(receive)
    status = 1
    try:
        os.setsid()
        os.chdir("/")
        serve(lambda: _detach(send))
        status = 0
    except MemfsError as error:
        parts = (error.what, error.why, error.hint, str(error.errno), error.subject)
        os.write(send, "\0".join(parts).encode("utf-8", "surrogateescape"))
    except Exception as error:  # the daemon's last line: whoever waits must be told
        os.write(send, f"the server died: {error!r}".encode("utf-8", "surrogateescape"))
    finally:
        os._exit(status)


def _detach(send: int) -> None:
    """Ready: let go of the terminal, then say so."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    os.write(send, _READY)
    os.close(send)
