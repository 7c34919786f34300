"""Where a server's lines go: stderr in the foreground, syslog in the background, or a file that the user named."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time

from memfs.errors import from_os_error, printable

_LINES_A_SECOND = 20  # a reader in a loop must not fill a disk


class Log:
    """One line at a time, from any thread. The same failure over and over is counted, not written."""

    def __init__(self, path: str | None, limited: bool = True) -> None:
        """`path` is opened for appending now, as the caller is where its name is meant. Raises MemfsError."""
        self._fd: int | None = None
        self._syslog = False
        self._limited = limited
        self._lock = threading.Lock()
        self._second = 0
        self._lines = self._left_out = 0
        if path is not None:
            try:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
                self._fd = os.open(path, flags, 0o600)
            except OSError as error:
                raise from_os_error(path, error, "cannot write the log", "name another with -o log=FILE") from error

    def to_syslog(self) -> None:
        """There is no stderr any more."""
        self._syslog = True

    def __call__(self, line: str) -> None:
        for text in self._due(line):
            self._write(printable(text))

    def _due(self, line: str) -> list[str]:
        """What of it is to be written now."""
        if not self._limited:
            return [line]
        with self._lock:
            second, out = int(time.monotonic()), []
            if second != self._second:
                if self._left_out:
                    out.append(f"{self._left_out} more lines in that second")
                self._second, self._lines, self._left_out = second, 0, 0
            self._lines += 1
            if self._lines > _LINES_A_SECOND:
                self._left_out += 1
                return []
            return [*out, line]

    def _write(self, line: str) -> None:
        if self._fd is not None:
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            self._to(self._fd, f"{when} memfs[{os.getpid()}]: {line}\n")
        elif self._syslog:
            with contextlib.suppress(OSError, ImportError):  # nor must it end for want of a descriptor
                import syslog

                syslog.openlog("memfs", syslog.LOG_PID, syslog.LOG_DAEMON)
                syslog.syslog(syslog.LOG_WARNING, line)
        else:
            sys.stderr.flush()
            self._to(2, f"memfs: {line}\n")

    def _to(self, fd: int, line: str) -> None:
        with contextlib.suppress(OSError):  # a full disk or a closed terminal must not end the mount
            os.write(fd, line.encode("utf-8", "surrogateescape"))
