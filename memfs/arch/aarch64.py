"""aarch64 under Linux. Sources: arch/arm64/include/uapi/asm/ptrace.h (user_pt_regs, user_fpsimd_state), Linux 6.12;
gdb's features/aarch64-core.xml."""

from memfs.arch.machine import Block, Machine, Prstatus, field, fields, run, slots

ORDER = " ".join(f"x{i}" for i in range(31)) + " sp pc cpsr"

MACHINE = Machine(
    name="aarch64",
    prstatus=Prstatus(size=392, registers=112, registers_size=272),
    registers=fields(ORDER, slots(ORDER), width=8),
    pc="pc",
    sp="sp",
    fpregs=(Block("CORE", 2, 528, run("v{}", 32, 0, 16) + field("fpsr", 512, 4) + field("fpcr", 516, 4)),),
)
