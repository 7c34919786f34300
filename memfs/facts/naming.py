"""Names of files made of names of things: what an attacker called a file must not leave the directory.

`/` is %2F, `%` is %25, control characters and a leading dot are %-escaped; bytes that are no UTF-8 stay as they
are (surrogates); a name that occurs again gets ~2; one that would be over 255 bytes is cut, and stays unique."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_BYTES_AT_MOST = 255


def to_bytes(name: str) -> bytes:
    """A name as the kernel has it, whatever the locale: UTF-8, with the bytes that are none as they were."""
    return name.encode("utf-8", "surrogateescape")


def from_bytes(name: bytes) -> str:
    """A name as the tree has it."""
    return name.decode("utf-8", "surrogateescape")


def escape(name: str) -> str:
    """A name that can stand in a directory, of any length."""
    if name.isprintable() and "/" not in name and "%" not in name and not name.startswith("."):
        return name
    out = "".join(_ESCAPES.get(c) or (c if c.isprintable() or ord(c) >= 0xA0 else _percent(c)) for c in name)
    return "%2E" + out[1:] if out.startswith(".") else out


_ESCAPES = {"/": "%2F", "%": "%25"}


def _percent(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogateescape"))


def fit(name: str, suffix: str = "", room: int = 0) -> str:
    """An escaped name with its suffix, in at most 255 bytes less `room` for what will be put behind it."""
    limit = _BYTES_AT_MOST - room
    if 4 * (len(name) + len(suffix)) <= limit:  # UTF-8 has four bytes a character at most
        return name + suffix
    raw, tail = to_bytes(name), to_bytes(suffix)
    if len(raw) + len(tail) > limit:
        import hashlib

        mark = b"~" + hashlib.sha256(raw).hexdigest()[:12].encode() + tail
        kept = raw[: limit - len(mark)]
        while kept and raw[len(kept)] & 0xC0 == 0x80:  # do not cut a character in two
            kept = kept[:-1]
        return from_bytes(kept + mark)
    return name + suffix


def unique(names: Iterable[str], room: int = 0) -> Iterator[str]:
    """File names in the same order: escaped, cut, with ~2, ~3 where one occurs again; `room` as for fit()."""
    count: dict[str, int] = {}
    used: set[str] = set()
    for name in map(escape, names):
        number = count.get(name, 0) + 1
        while (out := fit(name, "" if number == 1 else f"~{number}", room)) in used:
            number += 1
        count[name] = number
        used.add(out)
        yield out
