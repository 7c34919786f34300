"""Kernels that were saved, with what their own /proc said at that moment."""

import importlib.util
import lzma
from pathlib import Path

from needs import SHARED, need

KERNELS = ("amd64-5.10", "amd64-6.1", "arm64-6.1", "i386-6.1")


def saved(kernel: str, name: str) -> bytes:
    """A file of a sample."""
    path = SHARED / "kernels" / kernel / name
    need(path.exists(), f"no saved kernels in {SHARED}")
    data = path.read_bytes()
    return lzma.decompress(data) if name.endswith(".xz") else data


def kallsyms(kernel: str) -> bytes:
    """/proc/kallsyms of that kernel."""
    return saved(kernel, "kallsyms.xz")


def rebuilt(kernel: str, directory: Path, layout: str = "compact") -> Path:
    """A sample as an ELF file: `exact` as /proc/kcore was, `compact` with one PT_LOAD for each run of pages."""
    loader = SHARED / "kernels" / "loader.py"
    need(loader.exists(), f"no saved kernels in {SHARED}")
    spec = importlib.util.spec_from_file_location("kernel_loader", loader)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path = directory / f"{kernel}.{layout}"
    if not path.exists():
        module.rebuild(str(SHARED / "kernels" / kernel), str(path), layout)
    return path
