"""memfs cat"""

from __future__ import annotations

import argparse
import os

from memfs.cli import common
from memfs.cli.main import complain
from memfs.errors import MemfsError
from memfs.io.buffers import room
from memfs.tree.node import File


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--offset", type=_number, default=0, metavar="N", help="begin here (bytes; 0x for hex)")
    parser.add_argument("--length", type=_number, default=None, metavar="N", help="at most so many bytes")
    common.add_source(parser)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a file of the tree: info, regions/heap, at/0x1000:64")


def _number(text: str) -> int:
    number = int(text, 0)
    if number < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number


def run(arguments: argparse.Namespace) -> int:
    status = 0
    with common.open_image(arguments) as image:
        for path in arguments.paths:
            try:
                node = common.find(image, path)
                if not isinstance(node, File):
                    raise common.not_a_file(path, node)
                _print(node, arguments.offset, arguments.length)
            except MemfsError as error:
                if arguments.debug:
                    raise
                if not error.subject:
                    error.subject = path
                complain(error, arguments.source)
                status = 1
    return status


def _print(node: File, offset: int, length: int | None) -> None:
    """A file's bytes to stdout; what comes before an error is printed before the error is raised."""
    reader = node.open()
    end = reader.size if length is None else min(reader.size, offset + length)
    buffer = room(min(common.CHUNK, max(0, end - offset)))
    while offset < end:
        got = reader.readinto(offset, buffer[: end - offset])
        written = 0
        while written < got:
            written += os.write(1, buffer[written:got])
        offset += got
    reader.close()
