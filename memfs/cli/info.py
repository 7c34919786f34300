"""memfs info"""

from __future__ import annotations

import argparse
import errno
import sys

from memfs.cli import common
from memfs.errors import MemfsError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs: what info.json holds")
    common.add_source(parser)


def run(arguments: argparse.Namespace) -> int:
    with common.open_image(arguments) as image:
        if image.image.kind == "processes":
            why = "there is no info about all processes together"
            raise MemfsError("this is a directory of processes", why, "name one: memfs info PID", errno.EISDIR)
        sys.stdout.buffer.write(image.cat("info.json" if arguments.json else "info"))
    return 0
