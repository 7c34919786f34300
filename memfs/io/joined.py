"""A file put together of pieces of other Spaces, and bytes of its own at the beginning."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from memfs.errors import AbsentMemory
from memfs.image import Piece, Run, Space, State, Tally
from memfs.io import paging


class Part(NamedTuple):
    """[start, end) of the file is [base, ...) of a Space."""

    start: int
    end: int
    space: Space
    base: int


class Joined:
    """A Space over sorted, disjoint parts behind a head; what lies between them is zero."""

    def __init__(self, head: bytes, parts: Sequence[Part], end: int) -> None:
        self.end = end
        self._head = head
        self._parts = parts
        self._starts = [part.start for part in parts]

    def _part(self, address: int) -> tuple[Part | None, int]:
        """The part that holds an address, if there is one, and where it or the room between parts ends."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self._parts[index].end:
            return self._parts[index], self._parts[index].end
        return None, self._starts[index + 1] if index + 1 < len(self._starts) else self.end

    def readinto(self, address: int, buffer: memoryview) -> int:
        done = 0
        buffer = buffer[: max(0, self.end - address)]
        while done < len(buffer):
            here = address + done
            part, end = self._part(here)
            room = buffer[done : done + end - here]
            if part is None:
                head = self._head[here : here + len(room)]
                room[: len(head)] = head
                room[len(head) :] = bytes(len(room) - len(head))
                done += len(room)
                continue
            try:
                done += part.space.readinto(part.base + here - part.start, room)
            except AbsentMemory as absent:
                if not done:
                    raise AbsentMemory(address, gap=False) from absent
                break
        return done

    def runs(self, low: int, high: int) -> Iterator[Run]:
        position = low
        high = min(high, self.end)
        while position < high:
            part, end = self._part(position)
            end = min(end, high)
            if part is None:
                own = min(end, max(position, len(self._head)))
                if own > position:
                    yield Run(position, own, State.DATA, None)
                if end > own:
                    yield Run(own, end, State.ZERO, None)
            else:
                shift = part.start - part.base
                for run in part.space.runs(position - shift, end - shift):
                    state = State.ABSENT if run.state is State.GAP else run.state
                    yield Run(run.start + shift, run.end + shift, state, None)
            position = end

    def tally(self, low: int, high: int) -> Tally | None:
        return paging.count(self, low, high)

    def view(self, address: int, size: int) -> Piece | None:
        return None
