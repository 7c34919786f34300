"""memfs: the table of subcommands, and the one place where errors become a line and an exit status."""

import argparse
import contextlib
import errno
import gc
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple, NoReturn

from memfs import __version__
from memfs.errors import MemfsError, from_os_error, printable
from memfs.io.null import open_null


class Command(NamedTuple):
    """A subcommand: memfs.cli.NAME (with _ for -) has `configure(parser)` and `run(arguments) -> exit status`."""

    name: str
    help: str


COMMANDS = (
    Command("mount", "show an image as files below a directory"),
    Command("umount", "end a mount"),
    Command("info", "what an image is, a fact a line"),
    Command("ls", "list a directory of an image, without a mount"),
    Command("cat", "print files of an image, without a mount"),
    Command("cp", "copy out of an image, sparse, without a mount"),
    Command("symbolize", "name the kernel addresses in a text"),
    Command("tree", "what there is below a mount, a file a line"),
    Command("doctor", "what this machine has, what is missing, and what to do"),
    Command("install-helper", "let mount(8) and fstab mount memfs"),
)

EPILOG = """SOURCE is an ELF core of any machine and system, a process by its id, or /proc.

  memfs mount crash.core /mnt/c         then: ls, cat, strings, grep, xxd, gdb, ... below /mnt/c
  memfs mount /proc /mnt/proc           every process, alive: strings /mnt/proc/959/regions/heap
  memfs cat crash.core maps             the same files without a mount
  memfs umount /mnt/c
"""


class Format(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal. argparse itself asks shutil, and that as soon as there is an argument: three
    compressors are imported by then."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    """As shutil.get_terminal_size has it."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    with contextlib.suppress(ValueError, OSError):  # closed, or no terminal
        return (os.get_terminal_size(sys.__stdout__.fileno()).columns if sys.__stdout__ else 0) or 80
    return 80


class Parser(argparse.ArgumentParser):
    """Wrong usage is one line and exit 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {printable(message)}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand. Returns the exit status: 1 for what failed, 2 for wrong usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    gc.disable()  # what starts fast and ends soon makes no garbage that matters; the daemon turns it on again
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    command = next((c for c in COMMANDS if words and words[0] == c.name), None)
    if command is None:
        return _top(words)
    module = import_module(f"memfs.cli.{command.name.replace('-', '_')}")
    parser = Parser(
        prog=f"memfs {command.name}",
        description=command.help,
        formatter_class=Format,
    )
    module.configure(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = parser.parse_args(words[1:])
    try:
        status: int = module.run(arguments)
        sys.stdout.flush()
    except (MemfsError, OSError, MemoryError) as error:
        if arguments.debug:
            raise
        complain(error, getattr(arguments, "source", ""))
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def program() -> NoReturn:
    """The command `memfs`: main(), and out. The interpreter's tidying up costs 9 ms and frees what the kernel frees."""
    _fill_standard_files()
    status = main()
    with contextlib.suppress(OSError):  # has been complained about
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _fill_standard_files() -> None:
    """Let no file that is opened later become 0, 1 or 2, where a caller has closed them: writing to it would be an
    error that names the wrong file. Output that goes nowhere fails, as it does for every other program."""
    while (fd := open_null(os.O_RDONLY)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - for as long as we run
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def complain(error: MemfsError | OSError | MemoryError, source: str = "") -> None:
    """One line on stderr: memfs: SOURCE: what; why; what to do."""
    if isinstance(error, MemoryError):
        error = MemfsError("out of memory", hint="look at a part of it: memfs cat with a path, or --length")
    if isinstance(error, OSError):  # what is read raises MemfsError, so this is what is written
        output = "" if error.errno in (errno.EMFILE, errno.ENFILE) else "standard output"
        error = from_os_error(error.filename if isinstance(error.filename, str) else output, error)
        source = ""
    named = not source or error.subject.startswith((source, f"/proc/{source}"))
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    print(f"memfs: {error}" if named else f"memfs: {printable(source)}: {error}", file=sys.stderr)


def _top(words: Sequence[str]) -> int:
    """memfs without a subcommand: --help, --version, or wrong usage (exit 2)."""
    parser = Parser(
        prog="memfs",
        usage="memfs COMMAND [OPTION...] ARGUMENT...",
        description="Any memory image is a directory.",
        epilog="commands:\n"
        + "".join(f"  {c.name:<15} {c.help}\n" for c in COMMANDS)
        + "\nmemfs COMMAND --help says more.\n\n"
        + EPILOG,
        formatter_class=Format,
    )
    parser.add_argument("--version", action="version", version=f"memfs {__version__}")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return 2
    known = ", ".join(c.name for c in COMMANDS)
    parser.exit(2, f"memfs: {arguments.command!r} is no command; there are {known}; see memfs --help\n")
    return 2
