"""memfs symbolize"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from typing import Any

from memfs.cli import common
from memfs.errors import MemfsError, from_os_error
from memfs.facts.symbols import files
from memfs.facts.symbols.columns import Symbols
from memfs.facts.symbols.oops import Found, Symbolizer

_PIECE = 1 << 16
_LINE_AT_MOST = 1 << 20
"""A longer line is looked at in pieces of about this size, in bytes."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs: an object a line")
    parser.add_argument("-v", dest="verbose", action="store_true", help="say how many addresses have no name")
    common.add_source(parser, "/proc/kallsyms, a System.map, a vmlinux, or an image of a kernel")
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="the text (default: standard input)")


def run(arguments: argparse.Namespace) -> int:
    fd, name = _open(arguments.file)
    symbolizer = Symbolizer(_symbols(arguments))
    unnamed = lines = 0
    for piece in _pieces(fd, name):
        if arguments.json:
            _write(b"".join(_records(symbolizer, piece, lines)))
            lines += piece.count(b"\n")
        else:
            _write(symbolizer.text(piece))
        if arguments.verbose:
            unnamed += symbolizer.unnamed(piece)
    if arguments.verbose:
        print(f"memfs: {unnamed} addresses without a name", file=sys.stderr)
    return 0


def _symbols(arguments: argparse.Namespace) -> Symbols:
    """A map of symbols, or those of an image of a kernel: what SOURCE is is found out by content."""
    if files.is_map(arguments.source):
        return files.load(arguments.source)
    from memfs.facts.symbols import of_image

    with common.open_image(arguments) as opened:
        if opened.image.kernel is None:
            raise MemfsError("this image has no kernel", "only a kernel has kernel symbols", "name a System.map")
        found = of_image.found(opened.image)
        for why in found.refused:
            print(f"memfs: {why}", file=sys.stderr)
        return found.sure()


def _open(path: str) -> tuple[int, str]:
    """The text: a descriptor, and what messages call it."""
    if path == "-":
        return 0, "standard input"
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC), path
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError):
            raise MemfsError("this is no path", subject=repr(path)) from error
        raise from_os_error(path, error) from error


def _pieces(fd: int, name: str) -> Iterator[bytes]:
    """Whole lines, as many as have come: nothing that can be named is kept back (`dmesg -w |`)."""
    rest = b""
    while True:
        try:
            more = os.read(fd, _PIECE)
        except OSError as error:
            raise from_os_error(name, error) from error
        if not more:
            break
        cut = more.rfind(b"\n") + 1
        if cut:
            yield rest + more[:cut]
            rest = more[cut:]
        else:
            rest += more
        if len(rest) > _LINE_AT_MOST:  # between two words, so that none is cut in two, as long as there are words
            cut = rest.rfind(b" ", 0, len(rest) - 256) + 1 or len(rest)
            yield rest[:cut]
            rest = rest[cut:]
    if rest:
        yield rest


def _records(symbolizer: Symbolizer, piece: bytes, lines: int) -> Iterator[bytes]:
    """A JSON object for each line: its number from 1 on, its text, and its addresses."""
    import json

    texts = piece.split(b"\n")
    for number, text in enumerate(texts if texts[-1] else texts[:-1], lines + 1):
        record = {
            "line": number,
            "text": text.decode("utf-8", "surrogateescape"),
            "addresses": [_address(symbolizer, found) for found in symbolizer.addresses(text)],
        }
        yield json.dumps(record).encode("ascii") + b"\n"


def _address(symbolizer: Symbolizer, found: Found) -> dict[str, Any]:
    """An address of a line; `column` counts bytes from 0. An address in no symbol has nulls."""
    out: dict[str, Any] = {"address": hex(found.address), "column": found.start}
    symbols, place = symbolizer.symbols, found.place
    if place is None:
        return out | dict.fromkeys(("name", "offset", "size", "module"))
    return out | {
        "name": symbols.name(place.symbol).decode("utf-8", "surrogateescape"),
        "offset": place.offset,
        "size": place.size,
        "module": symbols.modules[owner] if (owner := symbols.owners[place.symbol]) else None,
    }


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]
