"""memfs mount"""

from __future__ import annotations

import argparse
import os

from memfs.cli import common
from memfs.tree import options


def configure(parser: argparse.ArgumentParser) -> None:
    rows = "".join(f"  {name:<16} {text}\n" for name, text in options.table())
    parser.epilog = (
        f"options of -o, between commas (\\, for a comma in a value):\n{rows}\n"
        "mount(8)'s own words (ro, nodev, noauto, x-..., ...) may stand there too.\n"
    )
    parser.add_argument("-f", dest="foreground", action="store_true", help="stay in the foreground")
    parser.add_argument(
        "-d", dest="trace", action="store_true", help="print every request (and stay in the foreground)"
    )
    parser.add_argument("-v", dest="verbose", action="store_true", help="say what is mounted where")
    parser.add_argument(
        "-s", dest="sloppy", action="store_true", help="drop options that nobody knows, instead of refusing them"
    )
    common.add_source(parser)
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="a directory")


def run(arguments: argparse.Namespace) -> int:
    from memfs.fuse import daemon, mount
    from memfs.fuse.filesystem import Filesystem, default_owner
    from memfs.fuse.log import Log
    from memfs.fuse.transport import Mounting

    foreground = arguments.foreground or arguments.trace
    if not foreground:
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # a daemon keeps nothing open that its caller happened to have
    settings = common.settings_of(arguments)
    image = common.open_image(arguments)  # the source first: what is no image is never mounted
    point = mount.check_point(arguments.mountpoint)
    source = settings.fsname or os.path.abspath(image.image.source.path)
    if arguments.verbose:
        print(f"memfs: {source}: {image.image.format}, {image.image.target.arch}, on {point}", flush=True)
    owner = default_owner(settings.uid, settings.gid, settings.umask, image.image.source.mtime_ns)
    files = Filesystem(lambda: image.tree, owner, live=image.is_live)
    log = Log(settings.log, limited=not arguments.trace)
    return daemon.run(
        Mounting(files, point, source, settings.allow_other, arguments.trace), settings.fuse, log, foreground
    )
