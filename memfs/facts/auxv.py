"""The auxiliary vector. Source: include/uapi/linux/auxvec.h, Linux 6.12; sys/auxv.h of the other systems."""

from typing import NamedTuple

from memfs.elf import names
from memfs.elf.linux import parse_auxv
from memfs.image import Image, fact

AT_NULL, AT_PHDR, AT_BASE, AT_ENTRY = 0, 3, 7, 9
AT_RANDOM, AT_EXECFN, AT_SYSINFO_EHDR = 25, 31, 33


class AuxEntry(NamedTuple):
    """One pair of the vector."""

    type: int
    name: str | None  # "AT_PHDR"
    value: int


@fact
def raw(image: Image) -> bytes:
    """The vector's bytes as the image has them, empty where it has none."""
    return image.process.auxv()


@fact
def entries(image: Image) -> list[AuxEntry]:
    """The vector up to AT_NULL."""
    return decode(raw(image), image)


def decode(data: bytes, image: Image) -> list[AuxEntry]:
    """A vector that stands somewhere in the image."""
    target = image.target
    known = {**names.AT, **names.AT_BY_OS.get(target.os or "", {})}
    return [AuxEntry(t, known.get(t), v) for t, v in parse_auxv(data, target.prefix, target.word)]


@fact
def _values(image: Image) -> dict[int, int]:
    out: dict[int, int] = {}
    if image.target.os == "linux":
        for entry in entries(image):
            out.setdefault(entry.type, entry.value)
    return out


def value(image: Image, type_: int) -> int | None:
    """The first value of a type (AT_PHDR, ...) in a Linux process; None where the vector does not have it."""
    return _values(image).get(type_)
