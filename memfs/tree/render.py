"""Values become text here, and only here: JSON for programs, lines for people, hexdumps for what nobody knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from memfs.errors import printable

Record = Mapping[str, Any]


def to_json(value: Any) -> bytes:
    """JSON in ASCII: an array has an object a line. Bytes that are no UTF-8 stand as \\udcXX."""
    import json

    if isinstance(value, list | tuple):
        lines = ",\n".join(" " + json.dumps(item) for item in value)
        return f"[\n{lines}\n]\n".encode("ascii") if lines else b"[]\n"
    return (json.dumps(value, indent=1) + "\n").encode("ascii")


def to_text(value: Any) -> bytes:
    """An object as `key: value` lines, an array as a line for each record."""
    if isinstance(value, Mapping):
        lines = [line for key, item in value.items() for line in _lines(key, item)]
    else:
        lines = [_record(item) for item in value]
    return encode("".join(line + "\n" for line in lines))


def encode(text: str) -> bytes:
    """UTF-8, with the bytes that were none as they were."""
    return text.encode("utf-8", "surrogateescape")


def _lines(key: str, value: Any) -> Iterable[str]:
    if value is None:
        return
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield f"{name}: {plain(item)}"
    elif isinstance(value, list | tuple):
        for item in value:
            yield _record(item) if isinstance(item, Mapping) else f"{key}: {plain(item)}"
    else:
        yield f"{key}: {plain(value)}"


def _record(record: Record) -> str:
    return "  ".join(f"{key}={plain(value)}" for key, value in record.items() if value is not None)


def plain(value: Any) -> str:
    """One value on one line; control characters of an attacker are escaped."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(map(plain, value))
    return printable_bytes(value) if isinstance(value, str) else str(value)


def printable_bytes(text: str) -> str:
    """Text on one line: surrogates (bytes that are no UTF-8) are kept, control characters are escaped."""
    return text if text.isprintable() else "".join(c if "\udc80" <= c <= "\udcff" else printable(c) for c in text)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows with their columns lined up; the last one as it is."""
    widths = [max((len(cell) for cell in column), default=0) for column in zip(*rows, strict=False)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows)
    return "".join(line + "\n" for line in lines)


def hexdump(data: bytes, base: int = 0) -> str:
    """As `hexdump -C` prints it, without leaving out lines that are the same."""
    lines = []
    for offset in range(0, len(data), 16):
        row = data[offset : offset + 16]
        left, right = row[:8].hex(" "), row[8:].hex(" ")
        shown = "".join(chr(c) if 32 <= c < 127 else "." for c in row)
        lines.append(f"{base + offset:08x}  {left:<23}  {right:<23}  |{shown}|\n")
    return "".join(lines)


def registers_text(values: Iterable[tuple[str, int, int]], describe: Callable[[int], str | None]) -> bytes:
    """Name, hex at full width, and what the value points to; values are (name, value, size in bytes)."""
    lines = []
    for name, value, size in values:
        meaning = describe(value)
        lines.append(f"{name:<10} 0x{value:0{2 * size}x}" + (f"  {printable_bytes(meaning)}" if meaning else "") + "\n")
    return encode("".join(lines))


def facts(record: dict[str, Any]) -> bytes:
    """`info`: a fact a line, what is not known left out, a warning a line."""
    return to_text({k: v for k, v in record.items() if v not in (None, [])}).replace(b"\nwarnings: ", b"\nwarning: ")
