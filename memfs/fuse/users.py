"""Who holds a mount: what fuser(1) would say, found without touching the mount, which may not answer.

Source: fs/proc/fd.c (mnt_id in fdinfo), fs/proc/task_mmu.c (the device in maps), Linux 6.12."""

from __future__ import annotations

import os
from collections.abc import Iterator

from memfs.fuse.mount import find, mounts

_NAMED = 5


def users(point: str) -> list[str]:
    """Mounts below it, and processes as `name (pid, what)`, the first few. Those of others are seen by root alone."""
    there = find(point)
    if there is None:
        return []
    found = [f"the mount {mount.point}" for mount in mounts() if mount.parent == there.number]
    for pid in sorted((name for name in os.listdir("/proc") if name.isdigit()), key=int):
        what = next(_held(pid, point, there.number, there.device), None)
        if what is not None:
            found.append(f"{_text(f'/proc/{pid}/comm').strip() or '?'} ({pid}, {what})")
    more = len(found) - _NAMED
    return [*found[:_NAMED], f"{more} more"] if more > 0 else found


def _held(pid: str, point: str, number: str, device: str) -> Iterator[str]:
    """What a process has there, one after the other. A process that ends in between has nothing."""
    for link, name in (("cwd", "its directory"), ("root", "its root"), ("exe", "its program")):
        target = _link(f"/proc/{pid}/{link}")
        if target == point or target.startswith(f"{point}/"):
            yield name
    for fd in _names(f"/proc/{pid}/fd"):
        if f"mnt_id:\t{number}\n" in _text(f"/proc/{pid}/fdinfo/{fd}"):
            yield os.path.relpath(_link(f"/proc/{pid}/fd/{fd}"), point)
    major, minor = device.split(":")
    mapped = f" {int(major):02x}:{int(minor):02x} "
    for line in _text(f"/proc/{pid}/maps").splitlines():
        if mapped in line:
            yield f"{os.path.relpath(line.split(maxsplit=5)[-1], point)} mapped"


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
