"""The manual pages, in roff (man(7)). What is a table in memfs is printed from that table; the rest is prose below.

In prose, `words between backticks` are printed bold."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

from commands import Argument, Command, commands

from memfs import __version__
from memfs.tree.options import DROPPED, IN_FORCE, OPTIONS
from memfs.tree.roots import TABLES, Table

COMMON = ("--help", "--debug")
"""Options of every subcommand: they are said once, and left out of the synopsis."""

MORE = {
    "mount": """SOURCE is opened and checked first: what is no image is never mounted. The command returns when the
mount can be used; the process behind it goes on until `memfs umount`, `fusermount3 -u`, `umount`, SIGTERM, SIGINT or
SIGHUP ends it. SIGUSR1 makes it log how many requests it has answered.

As root nothing else need be installed. An ordinary user needs `fusermount3`. Where neither is to be had, `memfs info`,
`ls`, `cat` and `cp` show the same files without a mount.

The words of `-o` are below, under MOUNT OPTIONS.""",
    "umount": "A mount that is busy is refused without `-l`.",
    "ls": "`at` is not listed, but can be read: see `memfs`(5).",
    "cat": """Where bytes are absent from the image, what lies before them is printed, then it is an error. The other
files are printed all the same.""",
    "cp": """The copy has holes where the image has no bytes; how many were absent is said on standard error, and is no
failure. A symbolic link in the way of DEST is not followed.""",
    "symbolize": """Every kernel or module address in the text that lies in a symbol is followed by
` name+0xoffset/0xsize [module]`, as klogd did for an oops: `[<c03441a0>]`, `0xffffffff81234567`, words of 16 digits (8
for a kernel of 32 bits). What has a name, and all else, is printed as it is, line by line as it comes:

`dmesg -w | memfs symbolize /proc/kallsyms`

With `--json` an object a line: `line`, `text`, and `addresses` with `address`, `column`, `name`, `offset`, `size` and
`module`. Addresses without a name are no failure.""",
    "doctor": """A line for each thing that memfs can use: `ok`, `limited` or `missing`, what was found, and what to do.
Exit status 0 says that this user can mount.""",
    "install-helper": "As root. `mount.memfs`(8) says what the helper does.",
}
"""What a subcommand's help has no room for. A subcommand need not have a row."""

STATUS = (
    ("0", "All was done."),
    ("1", "Something failed: one line on standard error says what, why, and what to do."),
    ("2", "Wrong usage."),
    ("130", "Interrupted from the keyboard."),
)

EXAMPLES = (
    ("Look at a core as files:", "memfs mount crash.core /mnt/c\nstrings /mnt/c/regions/heap\nmemfs umount /mnt/c"),
    ("The same without a mount:", "memfs ls crash.core regions\nmemfs cat crash.core threads/current/registers.txt"),
    ("64 bytes at an address:", "memfs cat crash.core at/0x7ffd1000:64 | xxd"),
    ("Copy a region, with holes where the core has no bytes:", "memfs cp crash.core regions/heap heap.bin"),
    ("Name the addresses in an old oops:", "memfs symbolize System.map oops.txt"),
    ("Let others look too:", "memfs mount -o allow_other,umask=0022 crash.core /mnt/c"),
    ("Zeros for what was not dumped, for tools that stop at the first error:",
     "memfs mount -o absent=zero crash.core /mnt/c"),
)  # fmt: skip

HELPER_OPTIONS = (
    ("-o OPTIONS", "Words between commas: those below, and the words of `mount`(8)."),
    ("-f", "Fake: mount nothing, and exit with 0."),
    ("-n", "Accepted: nothing is written to /etc/mtab in any case."),
    ("-s", "Sloppy: words that nobody knows are dropped. A wrong value of one that is known stays an error."),
    ("-v", "Say what is mounted where."),
    ("-r, -w, -t TYPE, -N NAMESPACE", "Accepted: `mount`(8) has seen to them, and a mount of memfs is read-only."),
)

STATES = (
    ("data", "Bytes of the image. A read gives them. SEEK_DATA calls it data."),
    ("zero", "A hole of the image's own file. A read gives zeros. SEEK_DATA calls it a hole."),
    (
        "absent",
        """Belongs to the process, but is not in the image: not dumped (p_memsz beyond p_filesz), or cut off. A read
gives what lies before it, then ENODATA; with `-o absent=zero`, zeros. SEEK_DATA calls it a hole.""",
    ),
    ("gap", "Nothing was mapped there. A read gives ENODATA, whatever the options. SEEK_DATA calls it a hole."),
)

ERRORS = (
    ("ENODATA", "The image does not have the byte that the read begins with."),
    ("ENOENT", "No such file; under `at`, an address where nothing is mapped."),
    ("EIO", "Reading the image failed, or it was changed under the mount: old bytes are never mixed with new ones."),
    ("EROFS", "An attempt to write."),
)

ATTRIBUTES = (
    ("user.memfs.address", "Where the first byte was in memory, in hex."),
    ("user.memfs.size", "How many bytes, in hex."),
    ("user.memfs.permissions", "As in `r-x`."),
    ("user.memfs.offset", "Where the bytes are in the image, in hex. This and what follows only where it is known."),
    ("user.memfs.physical", "The physical address, in hex."),
    ("user.memfs.path", "The file that was mapped."),
    ("user.memfs.origin", "Where the bytes come from."),
)

FORMATS = (
    ("NAME", "The bytes, exactly as the image has them."),
    ("NAME.txt", "The same for people: a fact or a record a line."),
    (
        "NAME.json",
        """The same for programs. Addresses, offsets and register values are strings of hex (`"0x7ffd1c000"`), sizes and
counts are integers, what is not known is null. It is ASCII: bytes that are no UTF-8 stand as `\\udcXX`.""",
    ),
    ("DIR.json", "Beside DIR: an array with an object for each entry of DIR, in the same order."),
)

REGIONS = (
    ("NAME.text, .rodata, .data, .rwx, .none", "A mapped file, by its permissions."),
    ("NAME.bss", "Anonymous memory right behind a file's data."),
    ("NAME.absent", "A file that was mapped, and that the image has no memory of."),
    ("stack, stack:TID", "The main thread's stack, and another thread's."),
    ("heap", "What brk(2) grew. `sure` is false in regions.json where only its place speaks for it."),
    ("vdso, vsyscall", "The kernel's."),
    ("anon.ADDRESS, guard.ADDRESS", "Other anonymous memory; the same without any access."),
)

Rows = Iterable[tuple[str, str]]


def memfs_1() -> str:
    """memfs(1): every subcommand and its options."""
    every = commands()
    return _page(
        ("memfs", 1, "User Commands"),
        ("NAME", [_text("memfs - show memory images as files")]),
        ("SYNOPSIS", _lines([*map(synopsis, every), "`memfs --version`", "`memfs --help`"])),
        ("DESCRIPTION", _paragraphs(
            "memfs shows what a memory image holds, such as the core of a process that crashed, as files that every "
            "tool can read: memory by address and by meaning, threads and registers, notes and headers. The files are "
            "shown below a mount point, or without a mount by `memfs ls`, `memfs cat` and `memfs cp`. `memfs`(5) says "
            "which files there are. The image is never written to.")),
        ("COMMANDS", [part for command in every for part in _command(command)]),
        ("COMMON OPTIONS", _options(_common(every))),
        ("MOUNT OPTIONS", _mount_options()),
        ("EXIT STATUS", _terms(STATUS)),
        ("ENVIRONMENT", _terms([
            ("NOTIFY_SOCKET", ("Where systemd waits for word: `memfs mount -f` says there by `sd_notify`(3) when the "
                              "mount is ready, and when it ends.")),
        ])),
        ("FILES", _terms([
            ("/etc/fuse.conf", "Must say `user_allow_other` before an ordinary user may give `-o allow_other`."),
        ])),
        ("EXAMPLES", [line for text, lines in EXAMPLES for line in (*_paragraphs(text), *_example(lines))]),
        ("SEE ALSO", _see("gcore 1", "fusermount3 1", "core 5", "memfs 5", "mount.memfs 8")),
    )  # fmt: skip


def memfs_5() -> str:
    """memfs(5): the files below a mount."""

    def rows(table: Table) -> list[tuple[str, str]]:
        return [(row.path + ("/" if row.make is None else ""), _sentence(row.help)) for row in table.rows()]

    return _page(
        ("memfs", 5, "File Formats"),
        ("NAME", [_text("memfs - files below a mount of a memory image")]),
        ("DESCRIPTION", _paragraphs(
            "A mount by `memfs mount` shows a memory image as the files below; `memfs ls`, `memfs cat` and `memfs cp` "
            "show the same ones. `memfs tree` prints this list.",
            "A file exists where the image has what it shows. `info`, `maps`, `mem`, `segments`, `regions`, `threads` "
            "and `notes` with their `.json` always do.")),
        ("FILES", [
            *_paragraphs("In braces stands what there is one of for each note, segment, region or thread."),
            *(line for table in TABLES for line in (*_paragraphs(_sentence(table.title)), *_terms(rows(table)))),
            *_paragraphs(
                "`mem` has the size 0, as under /proc, and ends at 2^63 - 4096: `info` says if there is more. `at` is "
                "not listed. Its `ADDRESS` reads to the end of the region, `ADDRESS:LENGTH` so many bytes, and "
                "`BEGIN-END` up to END, which is not included."),
        ]),
        ("TEXT FORMATS", _terms(FORMATS)),
        ("NAMES", [
            *_paragraphs(
                "Notes and segments are listed by their index in the image, regions by address, threads in the order "
                "of the image. A name that occurs again gets `~2`, `~3` in that order. In names, a slash is `%2F`, a "
                "percent sign is `%25`, and control characters and a leading dot are escaped likewise. A name of over "
                "255 bytes is cut, and ends in `~`, 12 hex digits of its SHA-256, and its suffix.",
                "Regions are named by what they are:"),
            *_terms(REGIONS),
        ]),
        ("STATES OF A BYTE", [
            *_paragraphs("A byte that the image does not have is never made up. It is in one of four states:"),
            *_terms(STATES),
            *_paragraphs(
                "A file's blocks (st_blocks) count data alone, so `du`(1), `cp --sparse=always` and `tar -S` see what "
                "there is. A file that has absent bytes is read with direct I/O. Mapped privately, it gives SIGBUS "
                "where absent bytes are touched; mapped shared, ENODEV.",
                "Where segments overlap, the first that has data for an address wins in `mem`, `regions` and `at`. "
                "A segment's own file always shows that segment's bytes."),
        ]),
        ("EXTENDED ATTRIBUTES", [*_paragraphs("Files that are memory have these:"), *_terms(ATTRIBUTES)]),
        ("ERRORS", _terms(ERRORS, literal=True)),
        ("EXAMPLES", _example(
            "xxd /mnt/c/at/0x7ffd1000:64\ncat /mnt/c/threads/current/registers.txt\n"
            "getfattr -d /mnt/c/regions/heap\ncp --sparse=always /mnt/c/regions/heap heap.bin")),
        ("SEE ALSO", _see("getfattr 1", "memfs 1", "lseek 2", "core 5", "elf 5", "proc 5", "mount.memfs 8")),
    )  # fmt: skip


def mount_memfs_8() -> str:
    """mount.memfs(8): what mount(8) and fstab call."""
    return _page(
        ("mount.memfs", 8, "System Administration"),
        ("NAME", [_text("mount.memfs - mount a memory image as files")]),
        ("SYNOPSIS", _lines([
            "`mount -t memfs` SOURCE MOUNTPOINT [`-o` OPTIONS]",
            "`mount -t fuse.memfs` SOURCE MOUNTPOINT [`-o` OPTIONS]",
            "`mount.memfs` SOURCE MOUNTPOINT [`-fnsv`] [`-o` OPTIONS]",
        ])),
        ("DESCRIPTION", _paragraphs(
            "This is the helper by which `mount`(8), and so fstab and systemd, mount what `memfs mount` can: SOURCE is "
            "a memory image, MOUNTPOINT a directory. It is not called by hand. `umount`(8) ends the mount.",
            "`memfs install-helper`, as root, puts it in place as `mount.memfs` and `mount.fuse.memfs`; `memfs "
            "install-helper --remove` takes it away.")),
        ("OPTIONS", _terms(HELPER_OPTIONS)),
        ("MOUNT OPTIONS", _mount_options()),
        ("EXIT STATUS", _terms([
            ("0", "It is mounted."), ("1", "Wrong usage."), ("32", "The mount failed. One line says why."),
        ])),
        ("FILES", _terms([
            ("/sbin/mount.memfs, /sbin/mount.fuse.memfs", "The helper, for `-t memfs` and for `-t fuse.memfs`."),
        ])),
        ("EXAMPLES", [
            *_paragraphs("By hand:"),
            *_example("mount -t memfs crash.core /mnt/c -o umask=0022"),
            *_paragraphs("In /etc/fstab, mounted when somebody looks:"),
            *_example("/proc/kcore /mnt/k memfs ro,noauto,x-systemd.automount 0 0"),
        ]),
        ("SEE ALSO", _see("memfs 1", "fstab 5", "memfs 5", "systemd.automount 5", "mount 8", "umount 8")),
    )  # fmt: skip


# -- parts of a page -----------------------------------------------------------------------------------------------


def synopsis(command: Command) -> str:
    """A subcommand with its options and arguments on a line, as prose."""
    options = [f"[{_option(option)}]" for option in command.options if not set(option.names) & set(COMMON)]
    return " ".join([f"`memfs {command.name}`", *options, *map(_positional, command.arguments)])


def _command(command: Command) -> list[str]:
    """A subcommand's part of memfs(1)."""
    lines = [
        *_paragraphs(_sentence(command.help), *filter(None, MORE.get(command.name, "").split("\n\n"))),
        *_terms((argument.value, _help(argument)) for argument in command.arguments),
        *_options(option for option in command.options if not set(option.names) & set(COMMON)),
    ]
    return _headed("SS", f"memfs {command.name}", lines)


def _common(every: Iterable[Command]) -> list[Argument]:
    """The options of COMMON, once each."""
    found = [option for command in every for option in command.options if set(option.names) & set(COMMON)]
    return list(dict.fromkeys(found))


def _options(options: Iterable[Argument]) -> list[str]:
    return _terms((_option(option).replace("`", ""), _help(option)) for option in options)


def _help(argument: Argument) -> str:
    only = f" One of {', '.join(argument.choices)}." if argument.choices else ""
    return _sentence(argument.help) + only


def _option(option: Argument) -> str:
    names = ", ".join(f"`{name}`" for name in option.names)
    return f"{names} {option.value}" if option.value else names


def _positional(argument: Argument) -> str:
    name = argument.value + ("..." if argument.many else "")
    return f"[{name}]" if argument.optional else name


def _mount_options() -> list[str]:
    """The table of -o, and which words of mount(8) may stand there too."""
    rows = []
    for option in OPTIONS:
        only = f" One of {', '.join(option.choices)}." if len(option.choices) > 1 else ""
        rows.append((f"{option.name}={option.value}" if option.value else option.name, _sentence(option.help) + only))
    return [
        *_paragraphs(
            "Words between commas; a comma in a value is written `\\,`. A word that nobody knows is an error that "
            "names the nearest one."
        ),
        *_terms(rows),
        *_paragraphs(
            f"Of the words of `mount`(8) and `fstab`(5), these hold for every mount, asked for or not: "
            f"{', '.join(IN_FORCE)}. These are for others, or mean nothing here, and are dropped, as is all that "
            f"begins with x- or X-: {', '.join(DROPPED)}."
        ),
    ]


def _sentence(text: str) -> str:
    """A line of help as a sentence of its own. What is no plain word at its beginning stays as it is."""
    begin = text[:1].upper() if re.match(r"[a-z]+[ ,.]", text) else text[:1]
    return begin + text[1:] + ("" if text.endswith(".") else ".")


# -- roff ----------------------------------------------------------------------------------------------------------


_ESCAPES = {"\\": r"\e", "-": r"\-", "'": r"\(aq", '"': r"\(dq", "^": r"\(ha", "~": r"\(ti"}


def escape(text: str) -> str:
    """Text as roff prints it, also within the quotes of a macro's argument."""
    return "".join(_ESCAPES.get(letter, letter) for letter in text)


def _line(escaped: str) -> str:
    """A line that is no request to roff, whatever it begins with."""
    return rf"\&{escaped}" if escaped.startswith(".") else escaped


def _text(prose: str) -> str:
    """Prose as roff, `bold` where it is between backticks, and filled: roff does not mind where lines end."""
    parts = prose.split("`")
    marked = "".join(rf"\fB{escape(part)}\fR" if odd % 2 else escape(part) for odd, part in enumerate(parts))
    lines = textwrap.wrap(marked, 100, break_long_words=False, break_on_hyphens=False)
    return "\n".join(map(_line, lines))


def _paragraphs(*texts: str) -> list[str]:
    return [line for text in texts for line in (".PP", _text(text))]


def _terms(rows: Rows, literal: bool = False) -> list[str]:
    """A list of terms, each with what it means below it. Words in capitals are placeholders, unless it is literal."""
    return [line for term, text in rows for line in (".TP", _term("" if literal else _PLACEHOLDER, term), _text(text))]


_PLACEHOLDER = r"(?<![-\w])([A-Z]{2,}|N)\b"


def _term(placeholder: str, term: str) -> str:
    """A term is bold, words in it that stand for others are italic: -o OPTIONS, uid=UID."""
    parts = re.split(placeholder, term) if placeholder else [term]
    whole = "".join(rf"\fI{part}\fB" if odd % 2 else escape(part) for odd, part in enumerate(parts))
    return rf"\fB{whole}\fR"


def _lines(texts: Iterable[str]) -> list[str]:
    """Lines of a synopsis. What stands in brackets is kept on one line."""
    joined = [re.sub(r"\[[^]]*\]", lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), text) for text in texts]
    lines = [_text(text).replace("\N{NO-BREAK SPACE}", "\\ ") for text in joined]
    return [part for line in lines for part in (".br", line)][1:]


def _example(lines: str) -> list[str]:
    return [".PP", ".RS 4", ".nf", *(_line(escape(line)) for line in lines.splitlines()), ".fi", ".RE"]


def _see(*names: str) -> list[str]:
    """Other pages: `mount 8`."""
    pages = [name.split() for name in names]
    last = len(pages) - 1
    return [f".BR {escape(name)} ({section}){'' if n == last else ','}" for n, (name, section) in enumerate(pages)]


def _page(title: tuple[str, int, str], *sections: tuple[str, Iterable[str]]) -> str:
    """A page without a date: the same tables print the same bytes."""
    name, section, volume = title
    head = [
        '.\\" Printed by `make pages` from the tables of memfs: do not edit.',
        f'.TH "{escape(name.upper())}" "{section}" "" "memfs {escape(__version__)}" "{volume}"',
    ]
    body = [line for heading, lines in sections for line in _headed("SH", heading, list(lines))]
    return "\n".join([*head, *body]) + "\n"


def _headed(macro: str, heading: str, lines: list[str]) -> list[str]:
    """A section: a paragraph begins with it, and need not be begun again."""
    return [f'.{macro} "{escape(heading)}"', *(lines[1:] if lines[:1] == [".PP"] else lines)]
