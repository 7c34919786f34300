"""A descriptor to fill a place with."""

from __future__ import annotations

import os


def open_null() -> int:
    """/dev/null; where a container has none, the root directory, which nobody can read from or write to."""
    try:
        return os.open(os.devnull, os.O_RDWR)
    except OSError:
        return os.open("/", os.O_RDONLY)
