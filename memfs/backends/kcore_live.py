"""The kernel that runs: /proc/kcore, and the files of the same /proc beside it."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import cached_property

from memfs.backends.elf import Container, read_container, segment_space
from memfs.backends.kcore import SavedKernel
from memfs.elf import names
from memfs.errors import from_os_error
from memfs.image import Area, Image, NoProcess, Segment, Space, State, Task
from memfs.io import procfs
from memfs.io.kcore import Following, Kcore
from memfs.io.layers import BytesOf, GapsAs, Unmapped

_LOOK_AGAIN = 1.0
"""Seconds for which the program headers are taken for unchanged by who looks (not by who reads: that is checked)."""

_TEXTS = ("cmdline", "iomem", "modules", "stat", "version", "vmallocinfo", "kallsyms", "sys/kernel/kptr_restrict")


def open_image(path: str) -> Image:
    """The Image of a live kernel. Raises MemfsError."""
    return LiveKcore(path).now()


class LiveKcore:
    """A machine's memory as it changes: an Image for each set of program headers."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._checked = 0.0
        self._proc = os.open(os.path.dirname(os.path.abspath(path)), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._kernel, self._image = self._look()

    def now(self) -> Image:
        with self._lock:
            if time.monotonic() - self._checked > _LOOK_AGAIN:
                if not self._kernel.kcore.is_current():
                    self._replace()
                self._checked = time.monotonic()
            return self._image

    def kernel(self) -> LiveKernel:
        """What is known under the present headers."""
        return self._kernel

    def refresh(self) -> None:
        """Read the headers again: a reader found that they changed."""
        with self._lock:
            if not self._kernel.kcore.is_current():
                self._replace()

    def _replace(self) -> None:
        old = self._kernel.kcore
        self._kernel, self._image = self._look()
        old.close()

    def _look(self) -> tuple[LiveKernel, Image]:
        kcore = Kcore(self._path)
        try:
            container = read_container(kcore)
        except BaseException:
            kcore.close()
            raise
        kernel = LiveKernel(kcore, container, self._text, self._has)
        self._checked = time.monotonic()
        return kernel, self._made(kernel, container)

    def _made(self, kernel: LiveKernel, container: Container) -> Image:
        target = container.target._replace(os="linux")
        return Image(
            kind="kernel",
            format=f"ELF{target.bits} kcore",
            target=target,
            source=_Closing(kernel.kcore, self),
            space=self._following(lambda kernel: kernel.space),
            segments=container.elf.headers,
            notes=container.notes,
            process=NoProcess(),
            segment_space=lambda segment: self._segment(kernel, segment),
            container=container.elf,
            warnings=container.warnings,
            live=self,
            kernel=_Followed(kernel, self),
        )

    def _following(self, pick: Callable[[LiveKernel], Space]) -> Space:
        return Following(lambda: pick(self._kernel), self.refresh)

    def _segment(self, kernel: LiveKernel, segment: Segment) -> Space:
        if segment.type == names.PT_LOAD:
            return self._following(lambda kernel: kernel.area_space())
        return segment_space(kernel.kcore, segment, 1 << 64)

    def _has(self, name: str) -> bool:
        return name in _TEXTS and os.access(name, os.F_OK, dir_fd=self._proc)

    def _text(self, name: str) -> bytes | None:
        if name not in _TEXTS:
            return None
        try:
            return procfs.read(name, self._proc)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise from_os_error(f"/proc/{name}", error, hint="look as root") from error

    def close(self) -> None:
        """Nothing more will be read."""
        self._kernel.kcore.close()
        if self._proc >= 0:
            os.close(self._proc)
            self._proc = -1


class _Closing:
    """The Source of a live image: closing it closes what is open now, under whatever headers."""

    def __init__(self, kcore: Kcore, live: LiveKcore) -> None:
        self.path = kcore.path
        self.size = kcore.size
        self.mtime_ns = kcore.mtime_ns
        self.is_sparse = False
        self._kcore = kcore
        self._live = live

    def read(self, offset: int, size: int) -> bytes:
        return self._kcore.read(offset, size)

    def close(self) -> None:
        self._live.close()


class LiveKernel(SavedKernel):
    """What a live kernel's headers and page tables say, under one set of headers."""

    def __init__(
        self,
        kcore: Kcore,
        container: Container,
        text: Callable[[str], bytes | None],
        has: Callable[[str], bool],
    ) -> None:
        super().__init__(kcore, container)
        self.kcore = kcore
        self._text = text
        self._has = has

    @property
    def is_complete(self) -> bool:
        return True

    @cached_property
    def space(self) -> Space:
        """Virtual memory: in the areas that are no RAM, what the page tables map."""
        tables = self.tables
        if tables is None:
            return self.loads
        ranges = [(area.start, area.end) for area in self.areas() if area.name in _FOLLOWED]
        return Unmapped(self.loads, ranges, lambda: tables)

    def area_space(self) -> Space:
        return self._area_space

    @cached_property
    def _area_space(self) -> Space:
        """What is not mapped reads as zeros, and so /proc/kcore gives it: no page tables are looked at to read."""
        if self.tables is None:
            return super().area_space()
        return BytesOf(GapsAs(self.loads, State.ZERO), super().area_space())

    def has(self, name: str) -> bool:
        return self._has(name)

    def text(self, name: str) -> bytes | None:
        return self._text(name)


_FOLLOWED = ("vmalloc", "modules", "vmemmap")


class _Followed:
    """The KernelSource of a live image: its Spaces go on when memory is hot-plugged, its facts are of one moment."""

    def __init__(self, kernel: LiveKernel, live: LiveKcore) -> None:
        self._kernel = kernel
        self.physical: Space = Following(lambda: live.kernel().physical, live.refresh)
        self._areas: Space = Following(lambda: live.kernel().area_space(), live.refresh)
        self.is_complete = True

    @property
    def physical_end(self) -> int:
        return self._kernel.physical_end

    @property
    def direct_base(self) -> int | None:
        return self._kernel.direct_base

    @property
    def low(self) -> int:
        return self._kernel.low

    def vmcoreinfo(self) -> bytes:
        return self._kernel.vmcoreinfo()

    def areas(self) -> Sequence[Area]:
        return self._kernel.areas()

    def area_space(self) -> Space:
        return self._areas

    def ram(self) -> Sequence[Segment]:
        return self._kernel.ram()

    def page_levels(self) -> int | None:
        return self._kernel.page_levels()

    def cpus(self) -> Sequence[Task]:
        return ()

    def has(self, name: str) -> bool:
        return self._kernel.has(name)

    def text(self, name: str) -> bytes | None:
        return self._kernel.text(name)
