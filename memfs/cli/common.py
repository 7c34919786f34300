"""What subcommands share."""

from __future__ import annotations

import argparse
import errno
import os
import stat
from collections.abc import Callable

from memfs import api, backends
from memfs.errors import MemfsError
from memfs.tree import options
from memfs.tree.node import Dir, Kind, Link, Node

CHUNK = 1 << 20


_SOURCES = "an ELF core, /proc/kcore, a process by its id, or /proc"


def add_source(parser: argparse.ArgumentParser, sources: str = _SOURCES) -> None:
    """-o, --symbols and SOURCE."""
    parser.add_argument(
        "-o", dest="options", metavar="OPTS", action="append", default=[], help="options, see memfs mount --help"
    )
    parser.set_defaults(sloppy=False)
    parser.add_argument(
        "--symbols",
        dest="options",
        metavar="FILE",
        action="append",
        type=lambda path: f"symbols={options.escape(path)}",
        help="the same as -o symbols=FILE",
    )
    parser.add_argument("source", metavar="SOURCE", help=sources)


def settings_of(arguments: argparse.Namespace) -> options.Settings:
    """The options of -o. Raises MemfsError (EINVAL)."""
    return options.parse(*arguments.options, sloppy=arguments.sloppy)


def open_image(arguments: argparse.Namespace) -> api.OpenImage:
    """The image that the arguments name. Options are checked first."""
    settings = settings_of(arguments)
    return api.OpenImage(backends.open_source(arguments.source, settings.access), settings)


def tree_path(argument: str) -> str:
    """A path of the tree as the tree has it: arguments come in the locale's encoding, names are UTF-8."""
    return os.fsencode(argument).decode("utf-8", "surrogateescape")


def find(image: api.OpenImage, path: str) -> Node:
    """A node by path; a link that the path ends with is followed while it stays inside the tree."""
    path = tree_path(path).rstrip("/")
    node = image.node(path)
    for _ in range(40):
        target = node.target_for(None) if isinstance(node, Link) else "/"
        if target.startswith("/"):
            return node
        path = f"{path.rpartition('/')[0]}/{target}"
        node = image.node(path)
    return node


def mode(node: Node) -> int:
    """st_mode of a node, before any umask."""
    return {
        Kind.DIR: stat.S_IFDIR | 0o555,
        Kind.FILE: stat.S_IFREG | 0o444,
        Kind.LINK: stat.S_IFLNK | 0o777,
    }[node.kind]


_PASSING = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ESRCH)
"""What says of a part of what is alive that it may not be seen, or is no more."""


def walk(path: str, node: Dir, visit: Callable[[str, Dir], None], failed: Callable[[MemfsError], None]) -> None:
    """Visit a directory and all below it, each before its own. A directory below that may not be looked into, or has
    ended, is handed to `failed`, and the rest goes on."""
    visit(path, node)
    for name, child in node.entries():
        if isinstance(child, Dir):
            below = os.path.join(path, name)
            try:
                walk(below, child, visit, failed)
            except MemfsError as error:
                if error.errno not in _PASSING:
                    raise
                error.subject = error.subject or below
                failed(error)


def link_target(node: Link) -> str | None:
    """Where a link leads; None where that may not be seen."""
    try:
        return node.target_for(None)
    except MemfsError:
        return None


def not_a_file(path: str, node: Node) -> MemfsError:
    """Why a node cannot be read."""
    if isinstance(node, Dir):
        return MemfsError("this is a directory", hint="see memfs ls", errno=errno.EISDIR, subject=path)
    target = link_target(node) if isinstance(node, Link) else ""
    return MemfsError(f"this is a link to {target}", "it leads out of the image and is not followed", subject=path)
