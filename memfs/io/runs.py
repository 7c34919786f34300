"""States of an address space as they come, page by page, summed and joined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from memfs.image import Run, State, Tally

Stretch = tuple[int, int, State]
"""[start, end) and what it is: a Run that costs half as much, for there may be millions."""

JOINED = 1 << 20
LONG = 1 << 24


def joined(stretches: Iterable[Stretch]) -> Iterator[Run]:
    """Neighbours of one state as one run; data has its address as its origin.

    Zeros between data that are shorter than 1 MiB count as data: they read as what they are, and whoever copies
    makes fewer seeks. Absent bytes and gaps never do. Data is given when 16 MiB of it have come: whoever copies it does
    not wait for where it ends."""
    first = last = behind = 0  # [first, last) is of one state, [last, behind) zeros after data
    now: State | None = None
    data, zero = State.DATA, State.ZERO
    for start, end, state in stretches:
        if state is now:
            last = behind = end
        elif now is data and state is zero and end - last < JOINED:
            behind = end
        else:
            if now is not None and first < last:
                yield Run(first, last, now, first if now is data else None)
            if behind > last and state is not zero:
                yield Run(last, behind, zero, None)
            first = last if behind > last and state is zero else start
            last = behind = end
            now = state
        if now is data and last - first >= LONG:
            yield Run(first, last, data, first)
            first = last
    if now is not None and first < last:
        yield Run(first, last, now, first if now is data else None)
    if behind > last:
        yield Run(last, behind, zero, None)


def count(stretches: Iterable[Stretch]) -> Tally:
    """Bytes by state."""
    sums = [0, 0, 0, 0]
    for start, end, state in stretches:
        sums[state] += end - start
    return Tally(*sums[:3])
