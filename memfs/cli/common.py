"""What subcommands share."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Callable

from memfs import api, backends
from memfs.errors import MemfsError
from memfs.tree import options
from memfs.tree.node import Dir, Kind, Link, Node

CHUNK = 1 << 20


def add_source(parser: argparse.ArgumentParser) -> None:
    """-o and SOURCE."""
    parser.add_argument(
        "-o", dest="options", metavar="OPTS", action="append", default=[], help="options, see memfs mount --help"
    )
    parser.add_argument("source", metavar="SOURCE", help="an ELF core")


def open_image(arguments: argparse.Namespace) -> api.OpenImage:
    """The image that the arguments name. Options are checked first."""
    settings = options.parse(*arguments.options)
    return api.OpenImage(backends.open_source(arguments.source), settings)


def tree_path(argument: str) -> str:
    """A path of the tree as the tree has it: arguments come in the locale's encoding, names are UTF-8."""
    return os.fsencode(argument).decode("utf-8", "surrogateescape")


def find(image: api.OpenImage, path: str) -> Node:
    """A node by path; a link that the path ends with is followed while it stays inside the tree."""
    path = tree_path(path).rstrip("/")
    node = image.node(path)
    for _ in range(40):
        if not isinstance(node, Link) or node.target.startswith("/"):
            return node
        path = f"{path.rpartition('/')[0]}/{node.target}"
        node = image.node(path)
    return node


def mode(node: Node) -> int:
    """st_mode of a node, before any umask."""
    return {
        Kind.DIR: stat.S_IFDIR | 0o555,
        Kind.FILE: stat.S_IFREG | 0o444,
        Kind.LINK: stat.S_IFLNK | 0o777,
    }[node.kind]


def walk(path: str, node: Dir, visit: Callable[[str, Dir], None]) -> None:
    """Visit a directory and all below it, each before its own."""
    visit(path, node)
    for name, child in node.entries():
        if isinstance(child, Dir):
            walk(os.path.join(path, name), child, visit)


def not_a_file(path: str, node: Node) -> MemfsError:
    """Why a node cannot be read."""
    import errno

    if isinstance(node, Dir):
        return MemfsError("this is a directory", hint="see memfs ls", errno=errno.EISDIR, subject=path)
    target = node.target if isinstance(node, Link) else ""
    return MemfsError(f"this is a link to {target}", "it leads out of the image and is not followed", subject=path)
