"""What an image is and where it comes from: the facts that `info` begins with, of whatever kind the image is."""

from __future__ import annotations

from typing import Any

from memfs.image import Image


def origin(image: Image) -> dict[str, Any]:
    """In the order in which they are printed; `bits` are those of an address, `size` is in bytes."""
    target = image.target
    return {
        "kind": image.kind,
        "format": image.format,
        "arch": target.arch,
        "bits": target.bits,
        "byte_order": target.order,
        "os": target.os,
        "source": image.source.path,
        "size": image.source.size,
    }
