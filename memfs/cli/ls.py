"""memfs ls"""

from __future__ import annotations

import argparse
import os
import stat
import sys
import time
from collections.abc import Callable
from typing import Any

from memfs.api import OpenImage
from memfs.cli import common
from memfs.errors import MemfsError
from memfs.facts.naming import to_bytes
from memfs.tree import render
from memfs.tree.node import Dir, Link, Node

Failed = Callable[[MemfsError], None]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-l", dest="long", action="store_true", help="modes, sizes, times and where links lead")
    parser.add_argument("-R", dest="recursive", action="store_true", help="directories below, too")
    parser.add_argument("--json", action="store_true", help="for programs: an array of objects")
    common.add_source(parser)
    parser.add_argument("path", metavar="PATH", nargs="?", default="", help="a directory or file of the tree")


def run(arguments: argparse.Namespace) -> int:
    failures: list[MemfsError] = []

    def failed(error: MemfsError) -> None:
        from memfs.cli.main import complain

        complain(error, arguments.source)
        failures.append(error)

    with common.open_image(arguments) as image:
        node = image.node(common.tree_path(arguments.path)) if arguments.long else common.find(image, arguments.path)
        if arguments.json:
            _print_json(arguments, node, failed)
        elif isinstance(node, Dir):
            _print_dir(arguments, image, node, failed)
        else:
            _write(_line(arguments.path, node, image) if arguments.long else arguments.path)
    return 1 if failures else 0


def _print_dir(arguments: argparse.Namespace, image: OpenImage, top: Dir, failed: Failed) -> None:
    first = True

    def visit(path: str, node: Dir) -> None:
        nonlocal first
        if arguments.recursive:
            _write(("" if first else "\n") + (path or ".") + ":")
        first = False
        if arguments.long:
            for name, child in node.entries():
                _write(_line(name, child, image))
        else:
            for name in node.names():
                _write(name)

    if arguments.recursive:
        common.walk(arguments.path.strip("/"), top, visit, failed)
    else:
        visit(arguments.path, top)


def _line(name: str, node: Node, image: OpenImage) -> str:
    mtime_ns = node.who.mtime_ns if node.who else image.image.source.mtime_ns
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(mtime_ns // 10**9))
    leads = common.link_target(node) if isinstance(node, Link) else None
    target = f" -> {render.printable_bytes(leads)}" if leads is not None else ""
    return f"{stat.filemode(common.mode(node))} {node.stat().size or 0:>16} {when} {name}{target}"


def _print_json(arguments: argparse.Namespace, node: Node, failed: Failed) -> None:
    records: list[dict[str, Any]] = []

    def visit(path: str, directory: Dir) -> None:
        for name, child in directory.entries():
            records.append(_record(os.path.join(path, name) if arguments.recursive else name, child))

    if not isinstance(node, Dir):
        records.append(_record(arguments.path, node))
    elif arguments.recursive:
        common.walk(arguments.path.strip("/"), node, visit, failed)
    else:
        visit("", node)
    sys.stdout.buffer.write(render.to_json(records))


def _record(name: str, node: Node) -> dict[str, Any]:
    info = node.stat()
    out: dict[str, Any] = {"name": name, "kind": node.kind.name.lower(), "size": info.size, "data": info.data}
    if isinstance(node, Link):
        out["target"] = common.link_target(node)
    return out


def _write(line: str) -> None:
    sys.stdout.buffer.write(to_bytes(line) + b"\n")
