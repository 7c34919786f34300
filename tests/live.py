"""Live processes to look at: tests/programs/pages.c, what it says of itself, and what the kernel says of it.

python live.py PID < what it printed: look at it as whoever runs this; what was seen, as JSON."""

import contextlib
import hashlib
import json
import os
import re
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from memfs.errors import AbsentMemory
from memfs.image import Space
from memfs.io.process import LiveSpace

PAGE = 4096
COUNTERS = ("VmRSS", "RssAnon", "RssFile", "RssShmem", "VmPTE", "VmSwap")


class Row(NamedTuple):
    """A range of a process, and what is to be known of it: see pages.c."""

    name: str
    address: int
    size: int
    state: str
    even: int
    odd: int
    first: int

    @property
    def bytes(self) -> bytes:
        """What the program wrote there."""
        if self.state in ("zero", "absent", "gap"):
            return bytes(self.size) if self.state == "zero" else b""
        pages = range(self.first, self.first + self.size // PAGE)
        seeds = (self.odd if page % 2 else self.even for page in pages)
        found = b"".join(
            struct.pack("=QQ", s, page) * (PAGE // 16) if s else bytes(PAGE)
            for s, page in zip(seeds, pages, strict=True)
        )
        return found[:16] + bytes(PAGE - 16) if self.state == "tail" else found


class Rows(NamedTuple):
    """All rows by name, and what the machine does not have, by name."""

    rows: dict[str, Row]
    lacks: dict[str, str]


def parse(lines: Sequence[str]) -> Rows:
    rows: dict[str, Row] = {}
    lacks: dict[str, str] = {}
    for line in lines:
        words = line.split()
        if words[0] == "lacks":
            lacks[words[1]] = " ".join(words[2:])
        elif words[0] != "ready":
            name, address, size, state, *numbers = words
            rows[name] = Row(name, int(address, 16), int(size, 16), state, *(int(n, 16) for n in numbers))
    return Rows(rows, lacks)


class Live(NamedTuple):
    """A process that runs, and the lines that it printed."""

    pid: int
    lines: list[str]

    @property
    def rows(self) -> dict[str, Row]:
        return parse(self.lines).rows


@contextlib.contextmanager
def running(*command: object, user: int | None = None, until: str = "ready", rests: bool = True) -> Iterator[Live]:
    """A program that prints lines and then `until` and sleeps, for as long as the block runs."""
    who: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if user is not None else {}
    with subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, text=True, cwd="/", **who
    ) as process:
        try:
            assert process.stdout
            lines = []
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                if lines[-1] == until:
                    break
            assert lines and lines[-1] == until, f"{command[0]} ended early: {lines[-3:]}"
            if rests:
                comes_to_rest(process.pid)
            yield Live(process.pid, lines)
        finally:
            process.kill()


def comes_to_rest(pid: int) -> None:
    """Wait until it sleeps: on the way from its last line to there it still touches pages of libc."""
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "S":
        assert time.monotonic() < deadline, "the program does not come to rest"
        time.sleep(0.001)


@contextlib.contextmanager
def space_of(pid: int, **options: bool) -> Iterator[LiveSpace]:
    """A process's memory."""
    directory = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY)
    space = LiveSpace(directory, **options)
    try:
        yield space
    finally:
        space.close()
        os.close(directory)


def read(space: Space, address: int, size: int, piece: int = 1 << 20) -> bytes:
    """What can be read from there on, until it is whole or something is not there."""
    buffer = bytearray(size)
    done = 0
    with contextlib.suppress(AbsentMemory):
        while done < size:
            done += space.readinto(address + done, memoryview(buffer)[done : min(size, done + piece)])
    return bytes(buffer[:done])


def look(space: Space, rows: dict[str, Row]) -> dict[str, dict[str, Any]]:
    """What there is to see of each range: states in bytes, and the bytes, hashed."""
    out: dict[str, dict[str, Any]] = {}
    for name, row in rows.items():
        found = read(space, row.address, row.size)
        tally = space.tally(row.address, row.address + row.size)
        assert tally
        digest = hashlib.sha256(found).hexdigest()
        out[name] = {"got": len(found), "sha256": digest, "tally": list(tally), "head": found[:16].hex()}
    return out


def expected(row: Row, state: str | None = None) -> dict[str, Any]:
    """The same, as pages.c means it, or with another state."""
    state = state or row.state
    data = row.bytes if state not in ("absent", "gap") else b""
    half = row.size // 2
    tally = {
        "zero": [0, row.size, 0],
        "absent": [0, 0, row.size],
        "gap": [0, 0, 0],
        "mixed": [half, half, 0],
    }.get(state, [row.size, 0, 0])
    digest = hashlib.sha256(data).hexdigest()
    return {"got": len(data), "sha256": digest, "tally": tally, "head": data[:16].hex()}


def everything(space: LiveSpace, vast: bool = True) -> int:
    """Read every byte of every mapping up to 64 MiB, twice: as the whole, and pinned. How many bytes there were.

    Of those of 1 TiB the states are looked at too, if they are wanted."""
    total = 0
    areas = space.areas()
    for area in areas:
        if vast or area.end - area.start < 1 << 30:
            space.tally(area.start, area.end)
            list(space.runs(area.start, area.end))
        for view in (space, space.pinned(areas.within(area.start, area.end))):
            position, end = area.start, min(area.end, area.start + (64 << 20))
            while position < end:
                got = len(read(view, position, end - position))
                total += got
                position += got + PAGE & -PAGE
    return total


# -- what the kernel says --------------------------------------------------------------------------------------------


def counters(pid: int) -> dict[str, int]:
    """In kB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return {name: int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", status, re.M) if name in COUNTERS}


def smaps(pid: int, directory: Path) -> dict[str, dict[str, str]]:
    """Mapping by mapping. Of files that other processes map too, only what those cannot change; never
    Referenced and LazyFree, which the kernel counts when it comes to it."""
    out: dict[str, dict[str, str]] = {}
    head = re.compile(r"^[0-9a-f]+-[0-9a-f]+ ")
    for line in Path(f"/proc/{pid}/smaps").read_text(errors="replace").splitlines():
        if head.match(line):
            path = line[73:]
            own = not path.startswith("/") or path.startswith((str(directory), "/dev/zero", "/memfd"))
            fields = out[line] = {}
        else:
            name, _, value = line.partition(":")
            if name not in ("Referenced", "LazyFree") and (
                own or name in ("Size", "Rss", "Anonymous", "Swap", "VmFlags")
            ):
                fields[name] = value
    return out


def page_table(pid: int) -> dict[int, bytes]:
    """Whether each page is present, swapped, of a file, a guard: of mappings below 1 GiB, by their start."""
    kept = bytes(bits & 0xE4 for bits in range(256))
    out = {}
    with open(f"/proc/{pid}/maps", "rb") as maps, open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for line in maps:
            start, end = (int(word, 16) for word in line.split()[0].split(b"-"))
            if end - start < 1 << 30 and end < 1 << 63:
                raw = os.pread(pagemap.fileno(), (end - start) // PAGE * 8, start // PAGE * 8)
                out[start] = raw[7 if sys.byteorder == "little" else 0 :: 8].translate(kept)
    return out


class Footprint(NamedTuple):
    """All that the kernel counts of a process that looking at it might change."""

    counters: dict[str, int]
    smaps: dict[str, dict[str, str]]
    page_table: dict[int, bytes]


def _swapped_out(field: str, before: str | None, after: str | None) -> bool:
    """Whether it is swap that grew: where another test has turned swap on, the kernel puts cold pages of shared memory
    there meanwhile. Looking can only bring pages back."""
    return field == "Swap" and int((before or "0").split()[0]) < int((after or "0").split()[0])


def changes(before: Footprint, after: Footprint) -> list[str]:
    """What differs, in words, and not by the kernel's own doing."""
    out = [
        f"{k}: {before.counters[k]} {after.counters[k]}" for k in COUNTERS if before.counters[k] != after.counters[k]
    ]
    for head in before.smaps.keys() | after.smaps.keys():
        one, other = before.smaps.get(head, {}), after.smaps.get(head, {})
        fields = one.keys() | other.keys()
        out += [
            f"{head} {k}: {one.get(k)} {other.get(k)}"
            for k in fields
            if one.get(k) != other.get(k) and not _swapped_out(k, one.get(k), other.get(k))
        ]
    pages = before.page_table.keys() | after.page_table.keys()
    out += [f"pages of {start:x}" for start in pages if before.page_table.get(start) != after.page_table.get(start)]
    return out


def footprint(pid: int, directory: Path) -> Footprint:
    return Footprint(counters(pid), smaps(pid, directory), page_table(pid))


if __name__ == "__main__":
    with space_of(int(sys.argv[1])) as space:
        everything(space)
        print(json.dumps(look(space, parse(sys.stdin.read().splitlines()).rows)))
