"""Which filesystems are mounts of memfs. What a process has mapped of one is never read through it: a file that shows
the very pages into which it is mapped would wait for itself, and the whole mount with it.

Source: fs/proc_namespace.c (show_mountinfo), Linux 6.12; proc(5)."""

from __future__ import annotations

import time

from memfs.io import procfs

_TYPE = b"fuse.memfs"
_FRESH = 1.0  # seconds

Device = tuple[int, int]

_seen: set[Device] = set()  # ever, by us: it may be unmounted (umount -l) while something of it is still mapped
_others: set[Device] = set()
_read_at = float("-inf")


def devices(mountinfo: bytes) -> tuple[set[Device], set[Device]]:
    """Device numbers (major, minor) in the lines of a mountinfo: of memfs, and of all other filesystems."""
    ours: set[Device] = set()
    others: set[Device] = set()
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(b" - ")
        fields, kind = head.split(b" "), tail.split(b" ")
        major, colon, minor = fields[2].partition(b":") if len(fields) > 2 else (b"", b"", b"")
        if colon and major.isdigit() and minor.isdigit():
            (ours if kind[0] == _TYPE else others).add((int(major), int(minor)))
    return ours, others - ours


def remember() -> None:
    """Look which there are. A server does so when its own is mounted."""
    global _others, _read_at
    _read_at = time.monotonic()
    try:
        ours, _others = devices(procfs.read(f"{procfs.PROC_ROOT}/self/mountinfo"))
    except OSError:
        return
    _seen.update(ours)
    _seen.difference_update(_others)  # a number that was given to another since


def is_memfs(device: Device, directory: int | None = None) -> bool:
    """Whether a device number, as maps and stat(2) give it, is that of a mount of memfs.

    Numbers are given again: what a process whose /proc directory is named sees under it tells what it is now."""
    if device[0]:  # filesystems without a device have major 0
        return False
    if time.monotonic() > _read_at + _FRESH:
        remember()
    if device not in _seen:
        return False
    try:
        _, others = devices(procfs.read("mountinfo", directory)) if directory is not None else (set(), set())
    except OSError:
        others = set()
    _seen.difference_update(others)
    return device in _seen
