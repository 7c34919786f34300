"""An address space with nothing in it."""

from __future__ import annotations

from collections.abc import Iterator

from memfs.errors import AbsentMemory
from memfs.image import Piece, Run, State, Tally


class EmptySpace:
    """A Space that is one gap."""

    def readinto(self, address: int, buffer: memoryview) -> int:
        raise AbsentMemory(address, gap=True)

    def runs(self, low: int, high: int) -> Iterator[Run]:
        if low < high:
            yield Run(low, high, State.GAP, None)

    def tally(self, low: int, high: int) -> Tally:
        return Tally(0, 0, 0)

    def view(self, address: int, size: int) -> Piece | None:
        return None
