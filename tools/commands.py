"""What memfs's own tables say of the command line, as small records that the pages are printed from."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import NamedTuple

from memfs.cli.main import COMMANDS
from memfs.tree.options import OPTIONS
from memfs.tree.roots import TABLES


class Argument(NamedTuple):
    """One option of a subcommand, or one of its arguments (which have no names)."""

    names: tuple[str, ...]  # -o, --debug: as they are typed
    value: str  # SOURCE: what stands in its place, or behind it; empty for a flag
    help: str
    choices: tuple[str, ...] = ()
    optional: bool = False
    many: bool = False

    @property
    def kind(self) -> str:
        """What completes it: one of KINDS' values, or nothing."""
        return KINDS.get(self.value, "")


class Command(NamedTuple):
    """A subcommand with all that it takes."""

    name: str
    help: str
    options: tuple[Argument, ...]
    arguments: tuple[Argument, ...]


KINDS = {
    "SOURCE": "file",
    "DEST": "file",
    "FILE": "file",
    "MOUNTPOINT": "directory",
    "DIR": "directory",
    "PATH": "image",  # a path of the tree: it takes a look at SOURCE
    "OPTS": "options",
}
"""What stands where a help says SOURCE, DIR, ..."""


def commands() -> list[Command]:
    """Every subcommand of memfs, as its parser knows it."""
    return [_command(name, text) for name, text in COMMANDS]


def option_words() -> list[tuple[str, str]]:
    """What may be written behind -o, with its help: a word for each choice, NAME= where the value is free."""
    words = []
    for option in OPTIONS:
        values = option.choices or ("",)
        words += [(f"{option.name}={value}" if option.value else option.name, option.help) for value in values]
    return words


def directories() -> list[str]:
    """Paths of the tree that have paths below them: threads, threads/{tid}."""
    found = []
    for row in (row for table in TABLES for row in table.rows()):
        parts = row.path.split("/")
        found += ["/".join(parts[:end]) for end in range(1, len(parts))]
        found += [row.path] if row.make is None else []
    return list(dict.fromkeys(found))


def _command(name: str, text: str) -> Command:
    """The same parser as main() makes; tests/test_pages.py holds it against --help."""
    parser = argparse.ArgumentParser(prog=f"memfs {name}")
    import_module(f"memfs.cli.{name.replace('-', '_')}").configure(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    found = [_argument(parser, action) for action in parser._actions if action.help != argparse.SUPPRESS]
    options = tuple(argument for argument in found if argument.names)
    return Command(name, text, options, tuple(argument for argument in found if not argument.names))


def _argument(parser: argparse.ArgumentParser, action: argparse.Action) -> Argument:
    takes = action.nargs != 0
    value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    return Argument(
        names=tuple(action.option_strings),
        value=value if takes else "",
        help=parser._get_formatter()._expand_help(action) if action.help else "",
        choices=tuple(str(choice) for choice in action.choices or ()),
        optional=action.nargs in ("?", "*") or bool(action.option_strings and not action.required),
        many=action.nargs in ("*", "+") or isinstance(action, argparse._AppendAction),
    )
