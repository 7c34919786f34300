"""32-bit ARM under Linux. Sources: arch/arm/include/uapi/asm/ptrace.h (pt_regs), asm/user.h (user_fp, user_vfp),
Linux 6.12. pc is shown as the note has it: its bit 0 (Thumb) is not cleared."""

from memfs.arch.machine import Block, Machine, Prstatus, field, fields, run, slots

_R = " ".join(f"r{i}" for i in range(13))
SLOTS = slots(f"{_R} sp lr pc cpsr orig_r0")

MACHINE = Machine(
    name="arm",
    prstatus=Prstatus(size=148, registers=72, registers_size=72),
    registers=fields(f"{_R} sp lr pc cpsr orig_r0", SLOTS, width=4),
    pc="pc",
    sp="sp",
    fpregs=(
        Block("LINUX", 0x400, 260, run("d{}", 32, 0, 8) + field("fpscr", 256, 4)),
        Block("CORE", 2, 116, run("f{}", 8, 0, 12) + field("fps", 96, 4) + field("fpc", 100, 4)),
    ),
)
