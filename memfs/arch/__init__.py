"""Machines as data: one file each, and the table that finds them.

A machine file holds a `MACHINE` and no code that decides anything. What memfs does not know is still shown raw."""

from __future__ import annotations

from importlib import import_module

from memfs.arch.machine import Machine
from memfs.elf import names
from memfs.image import Target

_MODULES = {
    # (e_machine, bits of an address): module. The layout follows the class, not the machine alone: gdb writes
    # ELF64 cores that say EM_386, whose notes are those of x86_64.
    (names.EM_X86_64, 64): "x86_64",
    (names.EM_386, 64): "x86_64",
    (names.EM_X86_64, 32): "x32",
    (names.EM_386, 32): "i386",
    (names.EM_AARCH64, 64): "aarch64",
    (names.EM_ARM, 32): "arm",
}

_WIDE_NAMES = {"riscv": ("riscv32", "riscv64"), "s390": ("s390", "s390x"), "mips": ("mips", "mips64")}
"""Machines whose name depends on the class."""

_AS_64 = {"i386": "x86_64"}
_AS_32 = {"x86_64": "x32"}


def find(target: Target) -> Machine | None:
    """The tables for a Linux process of this machine, None where there are none."""
    module = _MODULES.get((target.machine, target.bits)) if target.os == "linux" else None
    if module is None:
        return None
    machine: Machine = import_module(f"memfs.arch.{module}").MACHINE
    return machine


def arch_name(machine: int, bits: int) -> str:
    """What info calls it: x86_64, x32, i386, aarch64, riscv64, s390x, ...; "machine-0x1234" if it has no name."""
    if machine not in names.MACHINES:
        return f"machine-{machine:#x}"
    name = names.MACHINES[machine][1]
    if name in _WIDE_NAMES:
        return _WIDE_NAMES[name][bits == 64]
    return (_AS_64 if bits == 64 else _AS_32).get(name, name)
