"""Options as rows of one table: what stands behind `-o`, and what Python's `memfs.open` takes by keyword.

mount(8) and fstab have words of their own. Those that mean something to a read-only filesystem in user space are always
in force (ro, nosuid, nodev, noexec); the others are dropped. Any other word is an error that names the nearest one."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from memfs.errors import MemfsError
from memfs.image import Access


class Settings(NamedTuple):
    """The options, parsed."""

    absent_as_zero: bool = False
    allow_other: bool = False
    uid: int | None = None
    gid: int | None = None
    umask: int = 0o077
    fsname: str | None = None
    fuse: str = "kernel"
    log: str | None = None
    noswapin: bool = False
    nobacking: bool = False
    symbols: str | None = None

    @property
    def access(self) -> Access:
        """What looking at a live source may cost it."""
        return Access(swapin=not self.noswapin, backing=not self.nobacking)


def _flag(value: str) -> bool:
    return True


def _text(value: str) -> str:
    if not value or "\0" in value:
        raise ValueError("this is no name")
    return value


def _path(value: str) -> str:
    return os.path.abspath(_text(value))  # it is opened when somebody looks: a daemon is elsewhere then


def _number(value: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value) < 0xFFFFFFFF):
        raise ValueError("this is no number of a user or group")
    return int(value)


def _mode(value: str) -> int:
    if not (value.isascii() and value.isdigit()) or set(value) & set("89") or int(value, 8) > 0o777:
        raise ValueError("this is no octal mode")
    return int(value, 8)


class Option(NamedTuple):
    """One word of `-o`. `value` names what follows its `=`, empty for a flag; `choices` are all it may be.

    `read` turns the text into the value of Settings' `field`, and raises ValueError with the reason."""

    name: str
    value: str
    help: str
    field: str
    read: Callable[[str], object]
    choices: tuple[str, ...] = ()


OPTIONS = (
    Option(
        "absent", "zero", "bytes that the image does not have read as zeros", "absent_as_zero", _flag, ("zero",)
    ),
    Option("allow_other", "", "let other users look, as far as the modes allow", "allow_other", _flag),
    Option("uid", "UID", "the owner of every file (default: who mounts)", "uid", _number),
    Option("gid", "GID", "the group of every file (default: who mounts)", "gid", _number),
    Option("umask", "OCTAL", "bits that the modes lose (default: 0077)", "umask", _mode),
    Option("fsname", "NAME", "what the first column of /proc/mounts says (default: the source)", "fsname", _text),
    Option(
        "fuse", "TRANSPORT", "kernel (the default), or libfuse through mfusepy or fusepy", "fuse", _text,
        ("kernel", "libfuse", "mfusepy", "fusepy"),
    ),
    Option("noswapin", "", "what a process has in swap stays there: ENODATA", "noswapin", _flag),
    Option("nobacking", "", "what a process has only in mapped files is not read: ENODATA", "nobacking", _flag),
    Option("symbols", "FILE", "a kernel's System.map, kallsyms or vmlinux (default: its own memory)", "symbols", _path),
    Option("log", "FILE", "append the log to a file (default: stderr with -f, else syslog)", "log", _text),
)  # fmt: skip

IN_FORCE = ("ro", "nosuid", "nodev", "noexec")
"""Words of mount(8) that hold for every mount, asked for or not."""

DROPPED = (
    "defaults", "rw", "suid", "dev", "exec", "atime", "noatime", "relatime", "norelatime", "strictatime",
    "nostrictatime", "diratime", "nodiratime", "lazytime", "nolazytime", "sync", "async", "dirsync", "iversion",
    "noiversion", "mand", "nomand", "auto", "noauto", "user", "nouser", "users", "nousers", "owner", "noowner", "group",
    "nogroup", "nofail", "_netdev", "comment", "loud", "silent",
)  # fmt: skip
"""Words of mount(8) and fstab that are for others, or mean nothing here."""

_PRIVATE = ("x-", "X-")  # what fstab says to others than the filesystem


def parse(*texts: str, sloppy: bool = False) -> Settings:
    """The arguments of -o: words between commas, `\\,` for a comma in a value. Raises MemfsError (EINVAL)."""
    return from_words((word for text in texts for word in split(text)), sloppy)


def split(text: str) -> list[str]:
    """Words between commas; a backslash keeps a comma or a backslash that follows it, and is itself before others."""
    words, word, index = [], "", 0
    while index < len(text):
        if text[index] == "\\" and text[index + 1 : index + 2] in ("\\", ","):
            word += text[index + 1]
            index += 1
        elif text[index] == ",":
            words.append(word)
            word = ""
        else:
            word += text[index]
        index += 1
    return [word for word in [*words, word] if word]


def escape(value: str) -> str:
    """A value as `split` takes it apart again."""
    return value.replace("\\", "\\\\").replace(",", "\\,")


def from_words(words: Iterable[str], sloppy: bool = False) -> Settings:
    """Settings out of `name` and `name=value` words. The last one of a name counts. `sloppy` drops names that nobody
    knows, as mount(8) asks for by -s; a value that is wrong stays an error. Raises MemfsError (EINVAL)."""
    fields: dict[str, Any] = {}
    for word in words:
        name, given, value = word.partition("=")
        option = next((option for option in OPTIONS if option.name == name), None)
        if option is not None:
            fields[option.field] = _value(option, word, given, value)
        elif not sloppy and name not in DROPPED and name not in IN_FORCE and not name.startswith(_PRIVATE):
            raise _unknown(name)
    return Settings()._replace(**fields)


def from_keywords(keywords: Mapping[str, str | bool | None]) -> Settings:
    """Settings out of Python's keywords: absent="zero". Raises TypeError for one that does not exist."""
    known = {option.name for option in OPTIONS}
    for name in keywords:
        if name not in known:
            raise TypeError(f"memfs.open() got an unexpected keyword argument {name!r}")
    words = [k if v is True else f"{k}={v}" for k, v in keywords.items() if v not in (None, False)]
    return from_words(words)


def table() -> list[tuple[str, str]]:
    """Every option as it is written, with its line of help: for --help, the manual and the docs."""
    return [(f"{o.name}={o.value}" if o.value else o.name, o.help) for o in OPTIONS]


def _value(option: Option, word: str, given: str, value: str) -> object:
    if bool(option.value) != bool(given):
        need = f"write {option.name}={option.value}" if option.value else f"write {option.name} without a value"
        raise _invalid(word, f"this option takes {'a' if option.value else 'no'} value", need)
    if option.choices and value not in option.choices:
        only = " or ".join(part for part in (", ".join(option.choices[:-1]), option.choices[-1]) if part)
        raise _invalid(word, f"{option.name} must be {only}", f"write {option.name}={option.choices[0]}")
    try:
        return option.read(value)
    except ValueError as error:
        raise _invalid(word, str(error), "") from error


def _unknown(name: str) -> MemfsError:
    import difflib
    import errno

    known = [option.name for option in OPTIONS]
    near = difflib.get_close_matches(name, [*known, *IN_FORCE, *DROPPED], 1)
    hint = f"did you mean {near[0]}?" if near else f"known options: {', '.join(known)}"
    return MemfsError(f"-o {name}", "unknown option", hint, errno.EINVAL)


def _invalid(word: str, why: str, hint: str) -> MemfsError:
    import errno

    return MemfsError(f"-o {word}", why, hint, errno.EINVAL)
