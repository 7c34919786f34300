"""i386 under Linux. Sources: arch/x86/include/asm/user_32.h, Linux 6.12; gdb's features/i386/32bit-core.xml.

NT_FPREGSET is the old FSAVE image (user_i387_struct), NT_PRXFPREG the FXSAVE one with the xmm registers."""

from memfs.arch.machine import Block, Machine, Prstatus, field, fields, run, slots

SLOTS = slots("ebx ecx edx esi edi ebp eax ds es fs gs orig_eax eip cs eflags esp ss")

FSAVE = (
    field("fctrl", 0, 4)
    + field("fstat", 4, 4)
    + field("ftag", 8, 4)
    + field("fioff", 12, 4)
    + field("fiseg", 16, 4)
    + field("fooff", 20, 4)
    + field("foseg", 24, 4)
    + run("st{}", 8, 28, 10)
)
FXSAVE = (
    field("fctrl", 0, 2)
    + field("fstat", 2, 2)
    + field("ftw", 4, 2)
    + field("fop", 6, 2)
    + field("fioff", 8, 4)
    + field("fiseg", 12, 4)
    + field("fooff", 16, 4)
    + field("foseg", 20, 4)
    + field("mxcsr", 24, 4)
    + field("mxcsr_mask", 28, 4)
    + run("st{}", 8, 32, 10, step=16)
    + run("xmm{}", 8, 160, 16)
)

MACHINE = Machine(
    name="i386",
    prstatus=Prstatus(size=144, registers=72, registers_size=68),
    registers=fields(
        "eax ecx edx ebx esp ebp esi edi eip eflags cs ss ds es fs gs orig_eax",
        SLOTS,
        width=4,
        narrow=("cs", "ss", "ds", "es", "fs", "gs"),
    ),
    pc="eip",
    sp="esp",
    fpregs=(Block("CORE", 2, 108, FSAVE), Block("LINUX", 0x46E62B7F, 512, FXSAVE)),
)
