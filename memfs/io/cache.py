"""One bounded, locked cache for what can be made again: rendered texts, later decoded blocks and page tables."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

BYTES_AT_MOST = 64 << 20

_ENTRY = 1 << 10
"""What an entry costs besides its bytes: its key, a node, holds on to the image that it belongs to."""


class Cache:
    """Byte strings by key, the least recently used dropped first. Thread-safe."""

    def __init__(self, limit: int = BYTES_AT_MOST) -> None:
        self._limit = limit
        self._items: OrderedDict[Hashable, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """What `key` stands for. Two threads may make it at once; one result is kept. Errors are not kept."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key]
        value = make()
        with self._lock:
            if key not in self._items and len(value) + _ENTRY <= self._limit:
                self._items[key] = value
                self._size += len(value) + _ENTRY
                while self._size > self._limit:
                    self._size -= len(self._items.popitem(last=False)[1]) + _ENTRY
        return value
