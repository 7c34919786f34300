"""The symbols of an Image of a kernel."""

from __future__ import annotations

from memfs.facts import kernel
from memfs.facts.symbols import sources, verify
from memfs.facts.symbols.sources import Found, Kernel
from memfs.facts.symbols.tables import Machine
from memfs.image import Image, State
from memfs.io import procfs

_SEARCHED = 64 << 20
"""So far from _stext on the tables are looked for: a kernel with everything has 60 MB of text and read-only data."""


def found(image: Image) -> Found:
    """The symbols of the kernel, and where they come from; worked out when somebody looks, and of a live kernel again
    when modules have come or gone."""
    modules = _modules(image)
    with image.lock:
        known: tuple[object, Found] | None = image.cache.get(found)
        if known is None or known[0] != modules:
            known = modules, _find(image)
            image.cache[found] = known
        return known[1]


def _find(image: Image) -> Found:
    return sources.find(
        Kernel(
            lambda address, size: kernel.read(image, address, size),
            Machine(image.target.word, image.target.order),
            kernel.vmcoreinfo(image).values,
            _text(image),
            f"{procfs.PROC_ROOT}/kallsyms" if image.live else None,
            image.symbols,
        )
    )


def _modules(image: Image) -> frozenset[bytes]:
    """Names and addresses of a live kernel's modules (kernel/module/procfs.c, m_show: the first and the sixth word)."""
    text = kernel.source(image).text("modules") if image.live else None
    words = (line.split() for line in (text or b"").splitlines())
    return frozenset(b" ".join((line[0], *line[5:6])) for line in words if line)


def expected(image: Image) -> bool:
    """Whether the image has symbols, without reading them where that is plain."""
    plain = image.live is not None or image.symbols is not None
    return plain or kernel.vmcoreinfo(image).symbol("kallsyms_names") is not None or found(image).symbols is not None


def _text(image: Image) -> list[tuple[int, int]]:
    """Where the kernel's text and read-only data may be, from the first byte of it that is there to the last: from
    _stext on, or in the area that has them."""
    stext = verify.symbol_addresses(kernel.vmcoreinfo(image).values).get("_stext")
    if stext is not None:
        ranges = [(stext, min(stext + _SEARCHED, 1 << image.target.bits))]
    else:
        name = "kernel_text" if image.target.bits == 64 else "direct_map"
        areas = [area for area in kernel.source(image).areas() if area.name == name]
        ranges = [(area.start, min(area.end, area.start + _SEARCHED)) for area in areas]
    there = [[run for run in image.space.runs(low, high) if run.state is State.DATA] for low, high in ranges]
    return [(runs[0].start, runs[-1].end) for runs in there if runs]
