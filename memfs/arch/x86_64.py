"""x86_64 under Linux. Sources: arch/x86/include/asm/user_64.h (user_regs_struct, user_i387_struct), asm/elf.h,
Linux 6.12; gdb's features/i386/64bit-core.xml and 64bit-linux.xml for names and order."""

from memfs.arch.machine import Block, Machine, Prstatus, field, fields, run, slots

SLOTS = slots(
    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss"
    " fs_base gs_base ds es fs gs"
)
REGISTERS = fields(
    "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip eflags"
    " cs ss ds es fs gs fs_base gs_base orig_rax",
    SLOTS,
    width=8,
    narrow=("cs", "ss", "ds", "es", "fs", "gs"),
)

FXSAVE = (
    # user_i387_struct is the FXSAVE image (Intel SDM 1, 10.5.1); ftw is the abridged tag byte, not gdb's ftag.
    field("fctrl", 0, 2)
    + field("fstat", 2, 2)
    + field("ftw", 4, 2)
    + field("fop", 6, 2)
    + field("fip", 8, 8)
    + field("fdp", 16, 8)
    + field("mxcsr", 24, 4)
    + field("mxcsr_mask", 28, 4)
    + run("st{}", 8, 32, 10, step=16)
    + run("xmm{}", 16, 160, 16)
)

MACHINE = Machine(
    name="x86_64",
    prstatus=Prstatus(size=336, registers=112, registers_size=216),
    registers=REGISTERS,
    pc="rip",
    sp="rsp",
    fpregs=(Block("CORE", 2, 512, FXSAVE),),
)
