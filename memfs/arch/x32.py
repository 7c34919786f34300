"""x32: x86_64's registers in a 32-bit process. Source: arch/x86/include/asm/elf.h and
fs/compat_binfmt_elf.c (PRSTATUS_SIZE), Linux 6.12."""

from memfs.arch.machine import Machine, Prstatus
from memfs.arch.x86_64 import MACHINE as X86_64

MACHINE: Machine = X86_64._replace(name="x32", prstatus=Prstatus(size=296, registers=72, registers_size=216))
