"""A descriptor to fill a place with."""

from __future__ import annotations

import os


def open_null(flags: int = os.O_RDWR) -> int:
    """/dev/null; where a container has none, the root directory, which nobody can read from or write to."""
    try:
        return os.open(os.devnull, flags)
    except OSError:
        return os.open("/", os.O_RDONLY)
