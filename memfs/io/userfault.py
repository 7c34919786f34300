"""Whether a process may register memory with a userfaultfd(2) at any moment: whether it has one.

What is registered stands in smaps (smaps.py), which is not made anew at each read. Who has handed its descriptor to
another process, and closed it, has registered its memory before, as CRIU does."""

import contextlib
import os
import time

_LINK = "anon_inode:[userfaultfd]"
_KEPT = 0.01  # seconds
_COST = 20  # ... and not looked for again before this many times the time that it took


class Userfaultfd:
    """What is known of the descriptors of one process. `directory` is an open descriptor of /proc/PID. Thread-safe."""

    def __init__(self, directory: int) -> None:
        self._directory = directory
        self._until = 0.0
        self._held = False

    def is_held(self) -> bool:
        """Whether it has one, or that may not be seen."""
        began = time.monotonic()
        if began > self._until:
            try:
                self._held = _holds_one(self._directory)
            except OSError:
                self._held = True
            ended = time.monotonic()
            self._until = ended + _KEPT + _COST * (ended - began)
        return self._held


def _holds_one(directory: int) -> bool:
    """Raises OSError."""
    listing = os.open("fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        for name in os.listdir(listing):
            with contextlib.suppress(OSError):  # it was closed meanwhile
                if os.readlink(name, dir_fd=listing) == _LINK:
                    return True
        return False
    finally:
        os.close(listing)
