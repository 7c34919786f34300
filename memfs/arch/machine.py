"""What a machine file says: records for registers and the notes that hold them.

Offsets and sizes are bytes in a note's descriptor or a register block, in target byte order."""

from collections.abc import Iterable
from typing import NamedTuple


class Field(NamedTuple):
    """A register: `size` bytes at `offset`, of which the low `shown` are its value."""

    name: str
    offset: int
    size: int
    shown: int


class Block(NamedTuple):
    """Registers that lie in one note; used when the note has exactly `size` bytes."""

    owner: str
    type: int
    size: int
    fields: tuple[Field, ...]


class Prstatus(NamedTuple):
    """struct elf_prstatus: where it differs between machines; the rest follows from the word size."""

    size: int
    registers: int  # offset of pr_reg
    registers_size: int


class Machine(NamedTuple):
    """A machine under Linux."""

    name: str
    prstatus: Prstatus
    registers: tuple[Field, ...]  # in pr_reg; gdb's names in gdb's order
    pc: str
    sp: str
    fpregs: tuple[Block, ...]  # the first that the image has is threads/TID/fpregs


def fields(
    names: str, slots: dict[str, int], width: int, narrow: Iterable[str] = (), shown: int = 2
) -> tuple[Field, ...]:
    """Registers in the order of `names`, each in the slot of `width` bytes that `slots` gives it.

    Those in `narrow` show only their low `shown` bytes: the kernel leaves garbage above segment registers."""
    thin = set(narrow)
    return tuple(Field(name, slots[name] * width, width, shown if name in thin else width) for name in names.split())


def slots(order: str) -> dict[str, int]:
    """Names in the order of the kernel's structure, numbered."""
    return {name: index for index, name in enumerate(order.split())}


def run(pattern: str, count: int, offset: int, size: int, step: int | None = None) -> tuple[Field, ...]:
    """`count` registers of `size` bytes in a row: run("xmm{}", 16, 160, 16)."""
    return tuple(Field(pattern.format(i), offset + i * (step or size), size, size) for i in range(count))


def field(name: str, offset: int, size: int) -> tuple[Field, ...]:
    """One register, to be added to runs."""
    return (Field(name, offset, size, size),)
