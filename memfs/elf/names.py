"""The names that the field has given to ELF's numbers: constant tables, and a look-up for notes and for segments.

The comment above each table says where its numbers stand. A number that two systems use for different things has the
meaning that is common in cores, or no name here: a wrong one is worse than none."""

from __future__ import annotations

from typing import Final

# gABI chapter 4 and 5; include/uapi/linux/elf.h, Linux 6.12
ET_CORE: Final = 4
PT_LOAD: Final = 1
PT_DYNAMIC: Final = 2
PT_NOTE: Final = 4
PN_XNUM: Final = 0xffff
SHT_NOTE: Final = 7

# include/uapi/linux/elf-em.h, Linux 6.12; glibc elf/elf.h; EM_SW_64 is what Sunway's own Linux writes
EM_386: Final = 3
EM_X86_64: Final = 62
EM_ARM: Final = 40
EM_AARCH64: Final = 183
EM_MIPS: Final = 8
EM_68K: Final = 4
EM_SPARC: Final = 2
EM_SPARC32PLUS: Final = 18
EM_SPARCV9: Final = 43
EM_PPC: Final = 20
EM_PPC64: Final = 21
EM_S390: Final = 22
EM_RISCV: Final = 243
EM_PARISC: Final = 15
EM_IA_64: Final = 50
EM_SH: Final = 42
EM_LOONGARCH: Final = 258
EM_ARC: Final = 45
EM_ARC_COMPACT: Final = 93
EM_ARCV2: Final = 195
EM_XTENSA: Final = 94
EM_CSKY: Final = 252
EM_OPENRISC: Final = 92
EM_MICROBLAZE: Final = 189
EM_ALTERA_NIOS2: Final = 113
EM_QDSP6: Final = 164
EM_TI_C6000: Final = 140
EM_SW64: Final = 268
EM_ALPHA: Final = 0x9026
EM_SW_64: Final = 0x9916

# the registry of e_machine (gabi.xinuos.com, 2025) by way of glibc elf/elf.h; names of arch/ in Linux or of gdb
MACHINES: dict[int, tuple[str, str]] = {
    0: ("EM_NONE", "none"), 1: ("EM_M32", "m32"), 2: ("EM_SPARC", "sparc"), 3: ("EM_386", "i386"),
    4: ("EM_68K", "m68k"), 5: ("EM_88K", "m88k"), 6: ("EM_IAMCU", "iamcu"), 7: ("EM_860", "i860"),
    8: ("EM_MIPS", "mips"), 9: ("EM_S370", "s370"), 10: ("EM_MIPS_RS3_LE", "mips"), 15: ("EM_PARISC", "hppa"),
    17: ("EM_VPP500", "vpp500"), 18: ("EM_SPARC32PLUS", "sparc"), 19: ("EM_960", "i960"), 20: ("EM_PPC", "ppc"),
    21: ("EM_PPC64", "ppc64"), 22: ("EM_S390", "s390"), 23: ("EM_SPU", "spu"), 36: ("EM_V800", "v800"),
    37: ("EM_FR20", "fr20"), 38: ("EM_RH32", "rh32"), 39: ("EM_RCE", "mcore"), 40: ("EM_ARM", "arm"),
    41: ("EM_FAKE_ALPHA", "alpha"), 42: ("EM_SH", "sh"), 43: ("EM_SPARCV9", "sparc64"), 44: ("EM_TRICORE", "tricore"),
    45: ("EM_ARC", "arc"), 46: ("EM_H8_300", "h8300"), 47: ("EM_H8_300H", "h8300h"), 48: ("EM_H8S", "h8s"),
    49: ("EM_H8_500", "h8500"), 50: ("EM_IA_64", "ia64"), 51: ("EM_MIPS_X", "mips-x"),
    52: ("EM_COLDFIRE", "coldfire"), 53: ("EM_68HC12", "m68hc12"), 54: ("EM_MMA", "mma"), 55: ("EM_PCP", "pcp"),
    56: ("EM_NCPU", "ncpu"), 57: ("EM_NDR1", "ndr1"), 58: ("EM_STARCORE", "starcore"), 59: ("EM_ME16", "me16"),
    60: ("EM_ST100", "st100"), 61: ("EM_TINYJ", "tinyj"), 62: ("EM_X86_64", "x86_64"), 63: ("EM_PDSP", "pdsp"),
    64: ("EM_PDP10", "pdp10"), 65: ("EM_PDP11", "pdp11"), 66: ("EM_FX66", "fx66"), 67: ("EM_ST9PLUS", "st9plus"),
    68: ("EM_ST7", "st7"), 69: ("EM_68HC16", "m68hc16"), 70: ("EM_68HC11", "m68hc11"), 71: ("EM_68HC08", "m68hc08"),
    72: ("EM_68HC05", "m68hc05"), 73: ("EM_SVX", "svx"), 74: ("EM_ST19", "st19"), 75: ("EM_VAX", "vax"),
    76: ("EM_CRIS", "cris"), 77: ("EM_JAVELIN", "javelin"), 78: ("EM_FIREPATH", "firepath"), 79: ("EM_ZSP", "zsp"),
    80: ("EM_MMIX", "mmix"), 81: ("EM_HUANY", "huany"), 82: ("EM_PRISM", "prism"), 83: ("EM_AVR", "avr"),
    84: ("EM_FR30", "fr30"), 85: ("EM_D10V", "d10v"), 86: ("EM_D30V", "d30v"), 87: ("EM_V850", "v850"),
    88: ("EM_M32R", "m32r"), 89: ("EM_MN10300", "mn10300"), 90: ("EM_MN10200", "mn10200"), 91: ("EM_PJ", "picojava"),
    92: ("EM_OPENRISC", "openrisc"), 93: ("EM_ARC_COMPACT", "arc"), 94: ("EM_XTENSA", "xtensa"),
    95: ("EM_VIDEOCORE", "videocore"), 96: ("EM_TMM_GPP", "tmm_gpp"), 97: ("EM_NS32K", "ns32k"),
    98: ("EM_TPC", "tpc"), 99: ("EM_SNP1K", "snp1k"), 100: ("EM_ST200", "st200"), 101: ("EM_IP2K", "ip2k"),
    102: ("EM_MAX", "max"), 103: ("EM_CR", "cr"), 104: ("EM_F2MC16", "f2mc16"), 105: ("EM_MSP430", "msp430"),
    106: ("EM_BLACKFIN", "blackfin"), 107: ("EM_SE_C33", "s1c33"), 108: ("EM_SEP", "sep"), 109: ("EM_ARCA", "arca"),
    110: ("EM_UNICORE", "unicore32"), 111: ("EM_EXCESS", "excess"), 112: ("EM_DXP", "dxp"),
    113: ("EM_ALTERA_NIOS2", "nios2"), 114: ("EM_CRX", "crx"), 115: ("EM_XGATE", "xgate"), 116: ("EM_C166", "c166"),
    117: ("EM_M16C", "m16c"), 118: ("EM_DSPIC30F", "dspic30f"), 119: ("EM_CE", "ce"), 120: ("EM_M32C", "m32c"),
    131: ("EM_TSK3000", "tsk3000"), 132: ("EM_RS08", "rs08"), 133: ("EM_SHARC", "sharc"), 134: ("EM_ECOG2", "ecog2"),
    135: ("EM_SCORE7", "score"), 136: ("EM_DSP24", "dsp24"), 137: ("EM_VIDEOCORE3", "videocore3"),
    138: ("EM_LATTICEMICO32", "lm32"), 139: ("EM_SE_C17", "s1c17"), 140: ("EM_TI_C6000", "c6x"),
    141: ("EM_TI_C2000", "c2000"), 142: ("EM_TI_C5500", "c5500"), 143: ("EM_TI_ARP32", "arp32"),
    144: ("EM_TI_PRU", "pru"), 160: ("EM_MMDSP_PLUS", "mmdsp"), 161: ("EM_CYPRESS_M8C", "m8c"),
    162: ("EM_R32C", "r32c"), 163: ("EM_TRIMEDIA", "trimedia"), 164: ("EM_QDSP6", "hexagon"),
    165: ("EM_8051", "8051"), 166: ("EM_STXP7X", "stxp7x"), 167: ("EM_NDS32", "nds32"), 168: ("EM_ECOG1X", "ecog1x"),
    169: ("EM_MAXQ30", "maxq30"), 170: ("EM_XIMO16", "ximo16"), 171: ("EM_MANIK", "manik"),
    172: ("EM_CRAYNV2", "craynv2"), 173: ("EM_RX", "rx"), 174: ("EM_METAG", "metag"), 175: ("EM_MCST_ELBRUS", "e2k"),
    176: ("EM_ECOG16", "ecog16"), 177: ("EM_CR16", "cr16"), 178: ("EM_ETPU", "etpu"), 179: ("EM_SLE9X", "sle9x"),
    180: ("EM_L10M", "l1om"), 181: ("EM_K10M", "k1om"), 183: ("EM_AARCH64", "aarch64"), 185: ("EM_AVR32", "avr32"),
    186: ("EM_STM8", "stm8"), 187: ("EM_TILE64", "tile64"), 188: ("EM_TILEPRO", "tilepro"),
    189: ("EM_MICROBLAZE", "microblaze"), 190: ("EM_CUDA", "cuda"), 191: ("EM_TILEGX", "tilegx"),
    192: ("EM_CLOUDSHIELD", "cloudshield"), 193: ("EM_COREA_1ST", "corea_1st"), 194: ("EM_COREA_2ND", "corea_2nd"),
    195: ("EM_ARCV2", "arc"), 196: ("EM_OPEN8", "open8"), 197: ("EM_RL78", "rl78"),
    198: ("EM_VIDEOCORE5", "videocore5"), 199: ("EM_78KOR", "78k0r"), 200: ("EM_56800EX", "56800ex"),
    201: ("EM_BA1", "ba1"), 202: ("EM_BA2", "ba2"), 203: ("EM_XCORE", "xcore"), 204: ("EM_MCHP_PIC", "pic"),
    205: ("EM_INTELGT", "intelgt"), 210: ("EM_KM32", "km32"), 211: ("EM_KMX32", "kmx32"), 212: ("EM_KMX16", "kmx16"),
    213: ("EM_KMX8", "kmx8"), 214: ("EM_KVARC", "kvarc"), 215: ("EM_CDP", "cdp"), 216: ("EM_COGE", "coge"),
    217: ("EM_COOL", "cool"), 218: ("EM_NORC", "norc"), 219: ("EM_CSR_KALIMBA", "kalimba"), 220: ("EM_Z80", "z80"),
    221: ("EM_VISIUM", "visium"), 222: ("EM_FT32", "ft32"), 223: ("EM_MOXIE", "moxie"), 224: ("EM_AMDGPU", "amdgcn"),
    243: ("EM_RISCV", "riscv"), 244: ("EM_LANAI", "lanai"), 245: ("EM_CEVA", "ceva"), 246: ("EM_CEVA_X2", "ceva_x2"),
    247: ("EM_BPF", "bpf"), 248: ("EM_GRAPHCORE_IPU", "ipu"), 249: ("EM_IMG1", "img1"), 250: ("EM_NFP", "nfp"),
    251: ("EM_VE", "ve"), 252: ("EM_CSKY", "csky"), 253: ("EM_ARC_COMPACT3_64", "arc64"),
    254: ("EM_MCS6502", "mcs6502"), 255: ("EM_ARC_COMPACT3", "arc"), 256: ("EM_KVX", "kvx"),
    257: ("EM_65816", "65816"), 258: ("EM_LOONGARCH", "loongarch"), 259: ("EM_KF32", "kf32"),
    260: ("EM_U16_U8CORE", "u16_u8core"), 261: ("EM_TACHYUM", "tachyum"), 262: ("EM_56800EF", "56800ef"),
    268: ("EM_SW64", "sw_64"),
    # unofficial and former numbers: include/elf/common.h, binutils 2.40
    0x1057: ("EM_AVR_OLD", "avr"), 0x1059: ("EM_MSP430_OLD", "msp430"), 0x1223: ("EM_ADAPTEVA_EPIPHANY", "epiphany"),
    0x2530: ("EM_MT", "mt"), 0x3330: ("EM_CYGNUS_FR30", "fr30"), 0x4157: ("EM_WEBASSEMBLY", "wasm"),
    0x4688: ("EM_XC16X", "xc16x"), 0x4def: ("EM_S12Z", "s12z"), 0x5441: ("EM_FRV", "frv"), 0x5aa5: ("EM_DLX", "dlx"),
    0x7650: ("EM_CYGNUS_D10V", "d10v"), 0x7676: ("EM_CYGNUS_D30V", "d30v"), 0x8217: ("EM_IP2K_OLD", "ip2k"),
    0x9025: ("EM_CYGNUS_POWERPC", "ppc"), 0x9026: ("EM_ALPHA", "alpha"), 0x9041: ("EM_CYGNUS_M32R", "m32r"),
    0x9080: ("EM_CYGNUS_V850", "v850"), 0x9906: ("EM_SW64_OLD", "sw_64"),
    0x9916: ("EM_SW_64", "sw_64"), 0xa390: ("EM_S390_OLD", "s390"),
    0xabc7: ("EM_XTENSA_OLD", "xtensa"), 0xad45: ("EM_XSTORMY16", "xstormy16"),
    0xbaab: ("EM_MICROBLAZE_OLD", "microblaze"), 0xbeef: ("EM_CYGNUS_MN10300", "mn10300"),
    0xdead: ("EM_CYGNUS_MN10200", "mn10200"), 0xfeb0: ("EM_M32C_OLD", "m32c"), 0xfeba: ("EM_IQ2000", "iq2000"),
    0xfebb: ("EM_NIOS32", "nios"), 0xf00d: ("EM_CYGNUS_MEP", "mep"), 0xfeed: ("EM_MOXIE_OLD", "moxie"),
}

# gABI chapter 4
ET: dict[int, str] = {0: "ET_NONE", 1: "ET_REL", 2: "ET_EXEC", 3: "ET_DYN", 4: "ET_CORE"}

# sys/elf_common.h, FreeBSD 14; include/elf/common.h, binutils 2.40; 64 to 66 depend on the machine and are not here
OSABI: dict[int, str] = {
    0: "ELFOSABI_NONE", 1: "ELFOSABI_HPUX", 2: "ELFOSABI_NETBSD", 3: "ELFOSABI_LINUX", 4: "ELFOSABI_HURD",
    5: "ELFOSABI_86OPEN", 6: "ELFOSABI_SOLARIS", 7: "ELFOSABI_AIX", 8: "ELFOSABI_IRIX", 9: "ELFOSABI_FREEBSD",
    10: "ELFOSABI_TRU64", 11: "ELFOSABI_MODESTO", 12: "ELFOSABI_OPENBSD", 13: "ELFOSABI_OPENVMS", 14: "ELFOSABI_NSK",
    15: "ELFOSABI_AROS", 16: "ELFOSABI_FENIXOS", 17: "ELFOSABI_CLOUDABI", 18: "ELFOSABI_OPENVOS", 97: "ELFOSABI_ARM",
    255: "ELFOSABI_STANDALONE",
}

# glibc elf/elf.h; include/elf/common.h, binutils 2.42; sys/elf_common.h, FreeBSD 14; sys/elf.h, Solaris 11.4
PT: dict[int, str] = {
    0: "PT_NULL", 1: "PT_LOAD", 2: "PT_DYNAMIC", 3: "PT_INTERP", 4: "PT_NOTE", 5: "PT_SHLIB", 6: "PT_PHDR",
    7: "PT_TLS",
    0x6474e550: "PT_GNU_EH_FRAME", 0x6474e551: "PT_GNU_STACK", 0x6474e552: "PT_GNU_RELRO",
    0x6474e553: "PT_GNU_PROPERTY", 0x6474e554: "PT_GNU_SFRAME",
    0x65041580: "PT_PAX_FLAGS", 0x6fb5d000: "PT_DUMP_DELTA",
    # sys/exec_elf.h, OpenBSD 7.8
    0x65a3dbe5: "PT_OPENBSD_MUTABLE", 0x65a3dbe6: "PT_OPENBSD_RANDOMIZE", 0x65a3dbe7: "PT_OPENBSD_WXNEEDED",
    0x65a3dbe8: "PT_OPENBSD_NOBTCFI", 0x65a3dbe9: "PT_OPENBSD_SYSCALLS", 0x65a41be6: "PT_OPENBSD_BOOTDATA",
    # Solaris
    0x6464e550: "PT_SUNW_UNWIND", 0x6ffffff7: "PT_SUNW_SYSSTAT_ZONE", 0x6ffffff8: "PT_SUNW_SYSSTAT",
    0x6ffffff9: "PT_SUNW_RESERVE", 0x6ffffffa: "PT_SUNWBSS", 0x6ffffffb: "PT_SUNWSTACK", 0x6ffffffc: "PT_SUNWDTRACE",
    0x6ffffffd: "PT_SUNWCAP",
}

# glibc elf/elf.h; include/elf/{aarch64,arm,hppa,ia64,tic6x}.h, binutils 2.40; llvm/BinaryFormat/ELF.h; Linux for s390
PT_BY_MACHINE: dict[int, dict[int, str]] = {
    EM_ARM: {0x70000000: "PT_ARM_ARCHEXT", 0x70000001: "PT_ARM_EXIDX"},
    EM_AARCH64: {
        0x70000000: "PT_AARCH64_ARCHEXT", 0x70000001: "PT_AARCH64_UNWIND", 0x70000002: "PT_AARCH64_MEMTAG_MTE",
    },
    EM_MIPS: {
        0x70000000: "PT_MIPS_REGINFO", 0x70000001: "PT_MIPS_RTPROC", 0x70000002: "PT_MIPS_OPTIONS",
        0x70000003: "PT_MIPS_ABIFLAGS",
    },
    EM_RISCV: {0x70000003: "PT_RISCV_ATTRIBUTES"},
    EM_S390: {0x70000000: "PT_S390_PGSTE"},
    EM_TI_C6000: {0x70000000: "PT_C6000_PHATTR"},
    EM_PARISC: {
        0x70000000: "PT_PARISC_ARCHEXT", 0x70000001: "PT_PARISC_UNWIND", 0x70000002: "PT_PARISC_WEAKORDER",
        0x60000000: "PT_HP_TLS", 0x60000001: "PT_HP_CORE_NONE", 0x60000002: "PT_HP_CORE_VERSION",
        0x60000003: "PT_HP_CORE_KERNEL", 0x60000004: "PT_HP_CORE_COMM", 0x60000005: "PT_HP_CORE_PROC",
        0x60000006: "PT_HP_CORE_LOADABLE", 0x60000007: "PT_HP_CORE_STACK", 0x60000008: "PT_HP_CORE_SHM",
        0x60000009: "PT_HP_CORE_MMF", 0x60000010: "PT_HP_PARALLEL", 0x60000011: "PT_HP_FASTBIND",
        0x60000012: "PT_HP_OPT_ANNOT", 0x60000013: "PT_HP_HSL_ANNOT", 0x60000014: "PT_HP_STACK",
        0x60000015: "PT_HP_CORE_UTSNAME",
    },
    EM_IA_64: {
        0x70000000: "PT_IA_64_ARCHEXT", 0x70000001: "PT_IA_64_UNWIND",
        0x60000012: "PT_IA_64_HP_OPT_ANOT", 0x60000013: "PT_IA_64_HP_HSL_ANOT", 0x60000014: "PT_IA_64_HP_STACK",
    },
}

# include/uapi/linux/auxvec.h and arch/*/include/uapi/asm/auxvec.h, Linux 6.12; AT_FPUCW: glibc elf/elf.h
AT: dict[int, str] = {
    0: "AT_NULL", 1: "AT_IGNORE", 2: "AT_EXECFD", 3: "AT_PHDR", 4: "AT_PHENT", 5: "AT_PHNUM", 6: "AT_PAGESZ",
    7: "AT_BASE", 8: "AT_FLAGS", 9: "AT_ENTRY", 10: "AT_NOTELF", 11: "AT_UID", 12: "AT_EUID", 13: "AT_GID",
    14: "AT_EGID", 15: "AT_PLATFORM", 16: "AT_HWCAP", 17: "AT_CLKTCK", 18: "AT_FPUCW", 19: "AT_DCACHEBSIZE",
    20: "AT_ICACHEBSIZE", 21: "AT_UCACHEBSIZE", 22: "AT_IGNOREPPC", 23: "AT_SECURE", 24: "AT_BASE_PLATFORM",
    25: "AT_RANDOM", 26: "AT_HWCAP2", 27: "AT_RSEQ_FEATURE_SIZE", 28: "AT_RSEQ_ALIGN", 29: "AT_HWCAP3",
    30: "AT_HWCAP4", 31: "AT_EXECFN", 32: "AT_SYSINFO", 33: "AT_SYSINFO_EHDR", 34: "AT_L1I_CACHESHAPE",
    35: "AT_L1D_CACHESHAPE", 36: "AT_L2_CACHESHAPE", 37: "AT_L3_CACHESHAPE", 40: "AT_L1I_CACHESIZE",
    41: "AT_L1I_CACHEGEOMETRY", 42: "AT_L1D_CACHESIZE", 43: "AT_L1D_CACHEGEOMETRY", 44: "AT_L2_CACHESIZE",
    45: "AT_L2_CACHEGEOMETRY", 46: "AT_L3_CACHESIZE", 47: "AT_L3_CACHEGEOMETRY", 48: "AT_ADI_BLKSZ",
    49: "AT_ADI_NBITS", 50: "AT_ADI_UEONADI", 51: "AT_MINSIGSTKSZ",
}

# what differs from Linux's; the rest of 0..14 is the same
AT_BY_OS: dict[str, dict[int, str]] = {
    # sys/elf_common.h, FreeBSD 14 and 15
    "freebsd": {
        15: "AT_EXECPATH", 16: "AT_CANARY", 17: "AT_CANARYLEN", 18: "AT_OSRELDATE", 19: "AT_NCPUS",
        20: "AT_PAGESIZES", 21: "AT_PAGESIZESLEN", 22: "AT_TIMEKEEP", 23: "AT_STACKPROT", 24: "AT_EHDRFLAGS",
        25: "AT_HWCAP", 26: "AT_HWCAP2", 27: "AT_BSDFLAGS", 28: "AT_ARGC", 29: "AT_ARGV", 30: "AT_ENVC",
        31: "AT_ENVV", 32: "AT_PS_STRINGS", 33: "AT_FXRNG", 34: "AT_KPRELOAD", 35: "AT_USRSTACKBASE",
        36: "AT_USRSTACKLIM", 38: "AT_HWCAP3", 39: "AT_HWCAP4",
    },
    # sys/exec_elf.h, NetBSD 10; on mips 10 is AT_MIPS_NOTELF
    "netbsd": {
        10: "AT_DCACHEBSIZE", 11: "AT_ICACHEBSIZE", 12: "AT_UCACHEBSIZE", 13: "AT_STACKBASE", 2000: "AT_EUID",
        2001: "AT_RUID", 2002: "AT_EGID", 2003: "AT_RGID", 2004: "AT_SUN_LDELF", 2005: "AT_SUN_LDSHDR",
        2006: "AT_SUN_LDNAME", 2007: "AT_SUN_LPGSIZE", 2008: "AT_SUN_PLATFORM", 2009: "AT_SUN_HWCAP",
        2010: "AT_SUN_IFLUSH", 2011: "AT_SUN_CPU", 2012: "AT_SUN_EMUL_ENTRY", 2013: "AT_SUN_EMUL_EXECFD",
        2014: "AT_SUN_EXECNAME",
    },
    # sys/exec_elf.h, OpenBSD 7.8, which spells them AUX_hwcap
    "openbsd": {
        25: "AT_HWCAP", 26: "AT_HWCAP2", 2000: "AT_SUN_UID", 2001: "AT_SUN_RUID", 2002: "AT_SUN_GID",
        2003: "AT_SUN_RGID", 4000: "AT_OPENBSD_TIMEKEEP",
    },
    # sys/auxv.h, illumos; include/elf/common.h, binutils 2.40
    "solaris": {
        2000: "AT_SUN_UID", 2001: "AT_SUN_RUID", 2002: "AT_SUN_GID", 2003: "AT_SUN_RGID", 2004: "AT_SUN_LDELF",
        2005: "AT_SUN_LDSHDR", 2006: "AT_SUN_LDNAME", 2007: "AT_SUN_LPAGESZ", 2008: "AT_SUN_PLATFORM",
        2009: "AT_SUN_HWCAP", 2010: "AT_SUN_IFLUSH", 2011: "AT_SUN_CPU", 2012: "AT_SUN_EMUL_ENTRY",
        2013: "AT_SUN_EMUL_EXECFD", 2014: "AT_SUN_EXECNAME", 2015: "AT_SUN_MMU", 2016: "AT_SUN_LDDATA",
        2017: "AT_SUN_AUXFLAGS", 2018: "AT_SUN_EMULATOR", 2019: "AT_SUN_BRANDNAME", 2020: "AT_SUN_BRAND_AUX1",
        2021: "AT_SUN_BRAND_AUX2", 2022: "AT_SUN_BRAND_AUX3", 2023: "AT_SUN_HWCAP2", 2027: "AT_SUN_FPTYPE",
    },
}

# types of notes by the owner's name as it stands in the file, without NT_
NOTE_TYPES: dict[str, dict[int, str]] = {
    # include/uapi/linux/elf.h, Linux 6.12; 5 and 7..21: sys/elf.h, illumos, and include/elf/common.h, binutils 2.40.
    # 4 is PRXREG on Solaris; 22 is PRCPUXREG on Solaris and FDINFO on illumos: not here
    "CORE": {
        1: "PRSTATUS", 2: "FPREGSET", 3: "PRPSINFO", 4: "TASKSTRUCT", 5: "PLATFORM", 6: "AUXV", 7: "GWINDOWS",
        8: "ASRS", 9: "LDT", 10: "PSTATUS", 12: "FPREGS", 13: "PSINFO", 14: "PRCRED", 15: "UTSNAME", 16: "LWPSTATUS",
        17: "LWPSINFO", 18: "PRPRIV", 19: "PRPRIVINFO", 20: "CONTENT", 21: "ZONENAME", 0x53494749: "SIGINFO",
        0x46494c45: "FILE",
    },
    # include/uapi/linux/elf.h, Linux 6.12 and what came after it
    "LINUX": {
        0x46e62b7f: "PRXFPREG", 0x700: "VMCOREDD", 0x600: "ARC_V2",
        0x100: "PPC_VMX", 0x101: "PPC_SPE", 0x102: "PPC_VSX", 0x103: "PPC_TAR", 0x104: "PPC_PPR", 0x105: "PPC_DSCR",
        0x106: "PPC_EBB", 0x107: "PPC_PMU", 0x108: "PPC_TM_CGPR", 0x109: "PPC_TM_CFPR", 0x10a: "PPC_TM_CVMX",
        0x10b: "PPC_TM_CVSX", 0x10c: "PPC_TM_SPR", 0x10d: "PPC_TM_CTAR", 0x10e: "PPC_TM_CPPR", 0x10f: "PPC_TM_CDSCR",
        0x110: "PPC_PKEY", 0x111: "PPC_DEXCR", 0x112: "PPC_HASHKEYR",
        0x200: "386_TLS", 0x201: "386_IOPERM", 0x202: "X86_XSTATE", 0x204: "X86_SHSTK", 0x205: "X86_XSAVE_LAYOUT",
        0x300: "S390_HIGH_GPRS", 0x301: "S390_TIMER", 0x302: "S390_TODCMP", 0x303: "S390_TODPREG", 0x304: "S390_CTRS",
        0x305: "S390_PREFIX", 0x306: "S390_LAST_BREAK", 0x307: "S390_SYSTEM_CALL", 0x308: "S390_TDB",
        0x309: "S390_VXRS_LOW", 0x30a: "S390_VXRS_HIGH", 0x30b: "S390_GS_CB", 0x30c: "S390_GS_BC",
        0x30d: "S390_RI_CB", 0x30e: "S390_PV_CPU_DATA",
        0x400: "ARM_VFP", 0x401: "ARM_TLS", 0x402: "ARM_HW_BREAK", 0x403: "ARM_HW_WATCH", 0x404: "ARM_SYSTEM_CALL",
        0x405: "ARM_SVE", 0x406: "ARM_PAC_MASK", 0x407: "ARM_PACA_KEYS", 0x408: "ARM_PACG_KEYS",
        0x409: "ARM_TAGGED_ADDR_CTRL", 0x40a: "ARM_PAC_ENABLED_KEYS", 0x40b: "ARM_SSVE", 0x40c: "ARM_ZA",
        0x40d: "ARM_ZT", 0x40e: "ARM_FPMR", 0x40f: "ARM_POE", 0x410: "ARM_GCS",
        0x800: "MIPS_DSP", 0x801: "MIPS_FP_MODE", 0x802: "MIPS_MSA",
        0x900: "RISCV_CSR", 0x901: "RISCV_VECTOR", 0x902: "RISCV_TAGGED_ADDR_CTRL", 0x903: "RISCV_USER_CFI",
        0xa00: "LOONGARCH_CPUCFG", 0xa01: "LOONGARCH_CSR", 0xa02: "LOONGARCH_LSX", 0xa03: "LOONGARCH_LASX",
        0xa04: "LOONGARCH_LBT", 0xa05: "LOONGARCH_HW_BREAK", 0xa06: "LOONGARCH_HW_WATCH",
    },
    # glibc elf/elf.h
    "GNU": {1: "ABI_TAG", 2: "HWCAP", 3: "BUILD_ID", 4: "GOLD_VERSION", 5: "PROPERTY_TYPE_0"},
    # sys/elf_common.h, FreeBSD 14; outside cores 1 is ABI_TAG
    "FreeBSD": {
        1: "PRSTATUS", 2: "FPREGSET", 3: "PRPSINFO", 7: "THRMISC", 8: "PROCSTAT_PROC", 9: "PROCSTAT_FILES",
        10: "PROCSTAT_VMMAP", 11: "PROCSTAT_GROUPS", 12: "PROCSTAT_UMASK", 13: "PROCSTAT_RLIMIT",
        14: "PROCSTAT_OSREL", 15: "PROCSTAT_PSSTRINGS", 16: "PROCSTAT_AUXV", 17: "PTLWPINFO", 0x100: "PPC_VMX",
        0x102: "PPC_VSX", 0x200: "X86_SEGBASES", 0x202: "X86_XSTATE", 0x400: "ARM_VFP", 0x401: "ARM_TLS",
        0x406: "ARM_ADDR_MASK",
    },
    # sys/exec_elf.h, NetBSD 10; per thread the owner is NetBSD-CORE@LWP, its types from 32 on are ptrace requests
    "NetBSD-CORE": {1: "PROCINFO", 2: "AUXV", 24: "LWPSTATUS"},
    "NetBSD": {1: "IDENT", 5: "MARCH"},
    "PaX": {3: "PAX"},
    # sys/exec_elf.h, OpenBSD 7.8
    "OpenBSD": {
        1: "IDENT", 10: "PROCINFO", 11: "AUXV", 20: "REGS", 21: "FPREGS", 22: "XFPREGS", 23: "WCOOKIE", 24: "PACMASK",
    },
    # sys/elf_notes.h, QNX Neutrino 6 (QNT_...); LINK_MAP: include/elf/common.h, binutils 2.40
    "QNX": {
        0: "NULL", 1: "DEBUG_FULLPATH", 2: "DEBUG_RELOC", 3: "STACK", 4: "GENERATOR", 5: "DEFAULT_LIB",
        6: "CORE_SYSINFO", 7: "CORE_INFO", 8: "CORE_STATUS", 9: "CORE_GREG", 10: "CORE_FPREG", 11: "LINK_MAP",
    },
    # kernel/vmcore_info.c, Linux 6.12; xen/include/xen/kexec.h; makedumpfile's elf_info.h
    "VMCOREINFO": {0: "VMCOREINFO"},
    "VMCOREINFO_XEN": {0: "VMCOREINFO_XEN"},
    "ERASEINFO": {0: "ERASEINFO"},
    # target/i386/arch_dump.c, QEMU 8: the state of a virtual processor
    "QEMU": {0: "QEMU"},
    # include/elf/common.h, binutils 2.40
    "GDB": {0xff000000: "GDB_TDESC"},
    "SPU": {1: "SPU"},
    "stapsdt": {3: "STAPSDT"},
    # xen/include/public/elfnote.h, without the types that only kernel images have
    "Xen": {
        0x1000001: "CRASH_INFO", 0x1000002: "CRASH_REGS", 0x2000000: "DUMPCORE_NONE", 0x2000001: "DUMPCORE_HEADER",
        0x2000002: "DUMPCORE_XEN_VERSION", 0x2000003: "DUMPCORE_FORMAT_VERSION",
    },
    # include/VBox/vmm/dbgfcorefmt.h, VirtualBox 7
    "VBCORE": {0xb00: "VBOXCORE"},
    "VBCPU": {0xb01: "VBOXCPU"},
    # llvm/BinaryFormat/ELF.h, LLVM 19
    "AMDGPU": {32: "AMDGPU_METADATA", 33: "AMDGPU_KFD_CORE_STATE"},
    # systemd's PACKAGE_METADATA_FOR_EXECUTABLE_FILES and ELF_DLOPEN_METADATA
    "FDO": {0xcafe1a7e: "FDO_PACKAGING_METADATA", 0x407c0c0a: "FDO_DLOPEN_METADATA"},
}


def note_type(owner: str, type_: int) -> str | None:
    """What a note is called, without NT_; None for those without a name here.

    A thread's note of NetBSD ("NetBSD-CORE@1") and a file of an SPU ("SPU/3/regs") go by what stands before."""
    types = NOTE_TYPES.get(owner)
    if types is None:
        base = owner.partition("/")[0] if owner.startswith("SPU/") else owner.partition("@")[0]
        types = NOTE_TYPES.get(base, {})
    return types.get(type_)


def pt_name(type_: int, machine: int) -> str:
    """What a program header's type is called on a machine: "PT_LOAD", or "0x6fff1234" if it has no name."""
    return PT_BY_MACHINE.get(machine, {}).get(type_) or PT.get(type_) or f"{type_:#x}"

