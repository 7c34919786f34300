"""memfs umount"""

from __future__ import annotations

import argparse
import errno
import os

from memfs.errors import MemfsError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-l", dest="lazy", action="store_true", help="now, even if files are open: they end with their last close"
    )
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="where memfs is mounted")


def run(arguments: argparse.Namespace) -> int:
    from memfs.fuse import mount

    path = os.path.abspath(arguments.mountpoint)
    # Only the directory above is looked at: the mount itself may not answer any more.
    point = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    there = mount.find(point)
    if there is None and os.path.realpath(path) != point:
        point = os.path.realpath(path)
        there = mount.find(point)
    if there is None or there.fstype != mount.FSTYPE:
        what = f"{there.fstype} is mounted there" if there else "nothing is mounted there"
        raise MemfsError(what, "not a mount of memfs", "see findmnt -t fuse.memfs", errno.EINVAL, arguments.mountpoint)
    mount.unmount(point, arguments.lazy)
    return 0
