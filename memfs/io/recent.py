"""A bounded number of open descriptors over any number of processes: the least recently used are closed first."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """Something that holds descriptors."""

    @property
    def weight(self) -> int:
        """How many."""

    def close(self) -> None: ...


T = TypeVar("T", bound=Closable)


class _Entry(Generic[T]):
    __slots__ = ("dropped", "users", "value")

    def __init__(self, value: T) -> None:
        self.value = value
        self.users = 0
        self.dropped = False


class Recent(Generic[T]):
    """Open things by key. What is in use is never closed, so the limit may be passed by as many as use it at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()
        self._weight = 0
        self._lock = threading.Lock()
        self._later: deque[Callable[[Hashable], bool]] = deque()  # what discard() could not forget at once

    @contextmanager
    def use(self, key: Hashable, make: Callable[[], T]) -> Iterator[T]:
        """What `key` stands for, made if need be, and kept open while the block runs. What `make` raises is passed
        on and nothing is kept."""
        self._sweep()
        with self._lock:
            entry = self._entries.get(key)
            if entry:
                entry.users += 1
                self._entries.move_to_end(key)
        if not entry:
            entry = self._add(key, make())
        try:
            yield entry.value
        finally:
            with self._lock:
                entry.users -= 1
                unused = entry.dropped and not entry.users
            if unused:
                entry.value.close()

    def _add(self, key: Hashable, value: T) -> _Entry[T]:
        """Enter what was just made, unless another thread was first."""
        with self._lock:
            entry = self._entries.get(key)
            spare = value if entry else None
            if not entry:
                entry = self._entries[key] = _Entry(value)
                self._weight += value.weight
            entry.users += 1
            closing = self._overweight()
        for item in [spare, *closing]:
            if item:
                item.close()
        return entry

    def _overweight(self) -> list[T]:
        """Drop the oldest that nobody uses until the rest is within the limit; the caller closes them."""
        dropped = []
        for key in [key for key, entry in self._entries.items() if not entry.users]:
            if self._weight <= self._limit:
                break
            entry = self._entries.pop(key)
            self._weight -= entry.value.weight
            dropped.append(entry.value)
        return dropped

    def forget(self, key: Hashable, value: T | None = None) -> None:
        """Drop one entry (only if it is `value`, where that is given): closed now, or after its last use."""
        with self._lock:
            entry = self._entries.get(key)
            if not entry or (value is not None and entry.value is not value):
                return
            del self._entries[key]
            self._weight -= entry.value.weight
            entry.dropped = True
            unused = not entry.users
        if unused:
            entry.value.close()

    def forget_all(self, concerns: Callable[[Hashable], bool]) -> None:
        """Drop all entries whose key `concerns` says yes to."""
        with self._lock:
            keys = [key for key in self._entries if concerns(key)]
        for key in keys:
            self.forget(key)

    def discard(self, concerns: Callable[[Hashable], bool]) -> None:
        """forget_all, from a finalizer. That may run whenever memory is allocated, so also while its own thread holds
        the lock: then it is done with the next use."""
        self._later.append(concerns)
        self._sweep()

    def _sweep(self) -> None:
        while self._later and self._lock.acquire(blocking=False):
            try:
                concerns = self._later.popleft() if self._later else None
                keys = [key for key in self._entries if concerns(key)] if concerns else []
            finally:
                self._lock.release()
            for key in keys:
                self.forget(key)
