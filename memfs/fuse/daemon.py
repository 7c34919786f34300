"""From a tree to a running mount: the process that serves it, how it says that it is ready or why not, what ends it."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable

from memfs.errors import MemfsError
from memfs.fuse import mount, transport
from memfs.fuse.log import Log
from memfs.fuse.notify import notify
from memfs.fuse.transport import Mounting, Session
from memfs.io import mounts
from memfs.io.null import open_null

_READY = b"\0"
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_ALLOCATIONS = 100_000
"""So many objects more, and garbage is looked for: a listing of 150,000 names is none."""
_IGNORABLE = (signal.SIGINT, signal.SIGHUP)  # what nohup and a shell without job control ignore for us


def run(mounting: Mounting, name: str, log: Log, foreground: bool) -> int:
    """Mount and serve through the transport of that name. In the foreground, returns when it is over; else as soon as
    the mount is usable. Raises MemfsError if it cannot be mounted, whichever process finds out."""
    if foreground:
        ignored = {number for number in _IGNORABLE if signal.getsignal(number) is signal.SIG_IGN}
        _serve(mounting, name, log, lambda: None, ignored)
        return 0
    return _in_background(lambda send: _serve(mounting, name, log, lambda: _detach(send, log), set()))


def _serve(mounting: Mounting, name: str, log: Log, detach: Callable[[], None], ignored: set[signal.Signals]) -> None:
    def ready() -> None:
        mount.raise_read_ahead(mounting.point)
        if mounting.files.live:
            mounts.remember()
        notify("READY=1", f"MAINPID={os.getpid()}", f"STATUS={mounting.source} on {mounting.point}")
        detach()

    session = transport.session(name, mounting, ready, log)
    _watch_signals(session, mounting.point, log, ignored)
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS)
    gc.enable()
    session.serve()


def _watch_signals(session: Session, point: str, log: Log, ignored: set[signal.Signals]) -> None:
    """A thread waits for signals, as the main thread may be in C for as long as the mount lives. All threads that are
    started later leave them to it."""
    numbers = {*_ENDING, signal.SIGUSR1} - ignored
    for number in numbers:
        signal.signal(number, signal.SIG_DFL)  # what is ignored would never be waited for
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def wait() -> None:
        while True:
            if signal.sigwait(numbers) == signal.SIGUSR1:
                log(f"{point}: {session.statistics()}")
            else:
                notify("STOPPING=1")
                _end(point, log)

    threading.Thread(target=wait, daemon=True).start()


def _end(point: str, log: Log) -> None:
    """Unmount; open files can be read until they are closed, and then the session is over."""
    try:
        mount.unmount(point, lazy=True)
    except MemfsError as error:
        log(str(error))


def _in_background(serve: Callable[[int], None]) -> int:
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
        raise _understood(said)
    os.close(receive)
    status = 1
    try:
        os.setsid()
        os.chdir("/")
        serve(send)
        status = 0
    except MemfsError as error:
        parts = (error.what, error.why, error.hint, str(error.errno), error.subject)
        os.write(send, "\0".join(parts).encode("utf-8", "surrogateescape"))
    except Exception as error:  # the daemon's last line: whoever waits must be told
        os.write(send, f"the server died: {error!r}".encode("utf-8", "surrogateescape"))
    finally:
        os._exit(status)


def _understood(said: bytes) -> MemfsError:
    """What the child sent instead of being ready."""
    parts = [*said.decode("utf-8", "surrogateescape").split("\0"), "", "", "", "", ""]
    what, why, hint, number, subject = parts[:5]
    return MemfsError(what or "the server died before the mount was ready", why, hint, int(number or 5), subject)


def _detach(send: int, log: Log) -> None:
    """Ready: let go of the terminal, then say so."""
    null = open_null()
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    log.to_syslog()
    os.write(send, _READY)
    os.close(send)
