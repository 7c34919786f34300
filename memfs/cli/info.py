"""memfs info"""

from __future__ import annotations

import argparse
import sys

from memfs.cli import common


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs: what info.json holds")
    common.add_source(parser)


def run(arguments: argparse.Namespace) -> int:
    with common.open_image(arguments) as image:
        sys.stdout.buffer.write(image.cat("info.json" if arguments.json else "info"))
    return 0
