"""Options as rows of one table: what stands behind `-o`, and what Python's `memfs.open` takes by keyword.

The words of mount(8) that mean nothing to a read-only filesystem in user space are dropped; an unknown word is an
error that names the nearest known one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from memfs.errors import MemfsError


class Option(NamedTuple):
    """One word of `-o`. `value` names what follows its `=`, empty for a flag; `choices` are all it may be."""

    name: str
    value: str
    help: str
    choices: tuple[str, ...] = ()


OPTIONS = (
    Option("absent", "zero", "bytes that the image does not have read as zeros", ("zero",)),
    Option("allow_other", "", "let other users look, as far as the modes allow"),
    Option("uid", "UID", "the owner of every file (default: who mounts)"),
    Option("gid", "GID", "the group of every file (default: who mounts)"),
    Option("umask", "OCTAL", "bits that the modes lose (default: 0077)"),
    Option("fsname", "NAME", "what the first column of /proc/mounts says (default: the source)"),
)

_DROPPED = frozenset(
    [
        "ro",
        "defaults",
        "rw",
        "nodev",
        "nosuid",
        "noexec",
        "suid",
        "dev",
        "exec",
        "atime",
        "noatime",
        "relatime",
        "norelatime",
        "strictatime",
        "diratime",
        "nodiratime",
        "lazytime",
        "sync",
        "async",
        "dirsync",
        "auto",
        "noauto",
        "user",
        "users",
        "nouser",
        "owner",
        "group",
        "nofail",
        "_netdev",
        "loud",
        "silent",
    ]
)


class Settings(NamedTuple):
    """The options, parsed."""

    absent_as_zero: bool = False
    allow_other: bool = False
    uid: int | None = None
    gid: int | None = None
    umask: int = 0o077
    fsname: str | None = None


def parse(text: str) -> Settings:
    """The argument of -o: words between commas, `\\,` for a comma in a value. Raises MemfsError (EINVAL)."""
    return from_words(split(text))


def split(text: str) -> list[str]:
    """Words between commas; a backslash keeps the character that follows it."""
    words, word, escaped = [], "", False
    for char in text:
        if escaped or char not in "\\,":
            word, escaped = word + char, False
        elif char == "\\":
            escaped = True
        else:
            words.append(word)
            word = ""
    return [word for word in [*words, word] if word]


def from_words(words: Iterable[str]) -> Settings:
    """Settings out of `name` and `name=value` words."""
    settings = Settings()
    for word in words:
        name, given, value = word.partition("=")
        if name in _DROPPED or name.startswith("x-"):
            continue
        option = next((option for option in OPTIONS if option.name == name), None)
        if option is None:
            raise _unknown(name)
        if bool(option.value) != bool(given):
            need = f"write {name}={option.value}" if option.value else f"write {name} without a value"
            raise _invalid(word, f"this option takes {'a' if option.value else 'no'} value", need)
        if option.choices and value not in option.choices:
            raise _invalid(word, f"{name} must be {' or '.join(option.choices)}", f"write {name}={option.choices[0]}")
        settings = _set(settings, name, value)
    return settings


def from_keywords(keywords: Mapping[str, str | bool | None]) -> Settings:
    """Settings out of Python's keywords: absent="zero". Raises TypeError for one that does not exist."""
    known = {option.name for option in OPTIONS}
    for name in keywords:
        if name not in known:
            raise TypeError(f"memfs.open() got an unexpected keyword argument {name!r}")
    words = [k if v is True else f"{k}={v}" for k, v in keywords.items() if v not in (None, False)]
    return from_words(words)


def _set(settings: Settings, name: str, value: str) -> Settings:
    if name == "absent":
        return settings._replace(absent_as_zero=True)
    if name == "allow_other":
        return settings._replace(allow_other=True)
    if name == "fsname":
        return settings._replace(fsname=value)
    base = 8 if name == "umask" else 10
    try:
        number = int(value, base)
    except ValueError:
        number = -1
    if not value.isascii() or not value.isdigit() or not 0 <= number <= (0o777 if name == "umask" else 0xFFFFFFFE):
        raise _invalid(
            f"{name}={value}", f"this is no {'octal mode' if base == 8 else 'number of a user or group'}", ""
        )
    if name == "uid":
        return settings._replace(uid=number)
    return settings._replace(gid=number) if name == "gid" else settings._replace(umask=number)


def _unknown(name: str) -> MemfsError:
    import difflib
    import errno

    known = [option.name for option in OPTIONS]
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"known options: {', '.join(known)}"
    return MemfsError(f"-o {name}", "unknown option", hint, errno.EINVAL)


def _invalid(word: str, why: str, hint: str) -> MemfsError:
    import errno

    return MemfsError(f"-o {word}", why, hint, errno.EINVAL)
