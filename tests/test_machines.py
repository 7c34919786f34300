"""Registers of every machine that memfs knows: by the kernel's layouts, in both byte orders."""

import json
from pathlib import Path

import pytest
from makecore import EM_386, EM_AARCH64, EM_ARM, EM_X86_64, MACHINES, Header, core, note, prstatus

import memfs
from memfs import arch
from memfs.api import OpenImage

SP, PC = 0x7010, 0x2004
NAMES = {(EM_X86_64, 64): "x86_64", (EM_X86_64, 32): "x32", (EM_386, 32): "i386", (EM_ARM, 32): "arm"}
NAMES[EM_AARCH64, 64] = "aarch64"
SEGMENT_REGISTERS = {"cs", "ss", "ds", "es", "fs", "gs"}

# struct user_regs_struct and pt_regs of Linux 6.12, some slots of each: arch/x86/include/asm/user_64.h, user_32.h,
# arch/arm/include/uapi/asm/ptrace.h, arch/arm64/include/uapi/asm/ptrace.h
SLOTS = {
    "x86_64": {"r15": 0, "rbp": 4, "rbx": 5, "rax": 10, "rdi": 14, "orig_rax": 15, "cs": 17, "eflags": 18, "gs": 26},
    "i386": {"ebx": 0, "ebp": 5, "eax": 6, "ds": 7, "orig_eax": 11, "cs": 13, "eflags": 14, "ss": 16},
    "arm": {"r0": 0, "r12": 12, "lr": 14, "cpsr": 16, "orig_r0": 17},
    "aarch64": {"x0": 0, "x29": 29, "x30": 30, "cpsr": 33},
}
SLOTS["x32"] = SLOTS["x86_64"]


def opened(tmp_path: Path, machine: int, bits: int, order: str, desc: bytes) -> OpenImage:
    path = tmp_path / "made.core"
    notes = note(b"CORE", 1, desc, order)
    path.write_bytes(core([Header(1, 6, 0x7000, b"stack" * 20)], notes, bits, order, machine))
    return memfs.open(path)


@pytest.mark.parametrize(("machine", "bits"), MACHINES)
@pytest.mark.parametrize("order", "<>")
def test_registers(tmp_path: Path, machine: int, bits: int, order: str) -> None:
    name = NAMES[machine, bits]
    image = opened(tmp_path, machine, bits, order, prstatus(5, SP, PC, 11, machine, bits, order))
    assert json.loads(image.cat("info.json"))["arch"] == name
    (thread,) = image.threads
    assert (thread.tid, thread.sp, thread.pc, thread.signal) == (5, SP, PC, "SIGSEGV")
    registers = {k: int(v, 16) for k, v in json.loads(image.cat("threads/5/registers.json")).items()}
    for register, slot in SLOTS[name].items():
        assert registers[register] == 0x1000 + slot, register
    assert len(set(registers.values())) == len(registers), "no slot is two registers"
    assert set(registers.values()) <= {SP, PC, *range(0x1000, 0x1000 + 34)}
    text = image.cat("threads/5/registers.txt").decode().splitlines()
    assert [line.split()[:1] for line in text] == [[register] for register in registers]
    assert any(line.endswith("stack+0x10") for line in text), "what sp points to"


@pytest.mark.parametrize(("machine", "bits"), MACHINES)
@pytest.mark.parametrize("change", [-1, 1])
def test_a_note_of_another_size_is_raw(tmp_path: Path, machine: int, bits: int, change: int) -> None:
    desc = prstatus(5, SP, PC, 11, machine, bits)
    desc = desc[:change] if change < 0 else desc + b"x"
    image = opened(tmp_path, machine, bits, "<", desc)
    assert image.cat("notes/000-CORE-PRSTATUS") == desc
    assert [thread.tid for thread in image.threads] == [5]
    with pytest.raises(memfs.MemfsError):
        image.node("threads/5/registers.json")


def test_segment_registers_are_16_bits_wide(tmp_path: Path) -> None:
    desc = bytearray(prstatus(5, SP, PC, 11))
    desc[112:328] = b"\xff" * 216
    image = opened(tmp_path, EM_X86_64, 64, "<", bytes(desc))
    registers = json.loads(image.cat("threads/5/registers.json"))
    assert {name for name, value in registers.items() if value == "0xffff"} == SEGMENT_REGISTERS
    assert image.cat("threads/5/registers") == b"\xff" * 216, "the bytes stay as they are"


def test_every_machine_of_the_package_is_made_here() -> None:
    assert {arch._MODULES[key] for key in MACHINES} == set(arch._MODULES.values())
