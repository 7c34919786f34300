"""Linux's signals and siginfo codes: numbers, names, and which member of the union of siginfo_t is filled.

Sources: include/uapi/asm-generic/{signal,siginfo}.h, arch/{alpha,mips,parisc,sparc}/include/uapi/asm/signal.h,
arch/mips/include/uapi/asm/siginfo.h and kernel/signal.c (siginfo_layout), Linux 6.12; the same headers of
openEuler 6.6 for sw_64. Codes of ia64 are without the "__" that the kernel gives them. HPPA is as since Linux 3.18."""

from __future__ import annotations

from memfs.elf import names

_LOW = {1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 8: "SIGFPE", 9: "SIGKILL"}
_MIDDLE = {11: "SIGSEGV", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM"}

SIGNALS: dict[int, str] = {
    **_LOW, 7: "SIGBUS", 10: "SIGUSR1", **_MIDDLE, 12: "SIGUSR2", 16: "SIGSTKFLT", 17: "SIGCHLD", 18: "SIGCONT",
    19: "SIGSTOP", 20: "SIGTSTP", 21: "SIGTTIN", 22: "SIGTTOU", 23: "SIGURG", 24: "SIGXCPU", 25: "SIGXFSZ",
    26: "SIGVTALRM", 27: "SIGPROF", 28: "SIGWINCH", 29: "SIGIO", 30: "SIGPWR", 31: "SIGSYS",
}
"""The generic numbers: x86, arm, riscv, ppc, s390, loongarch, m68k, sh, xtensa, ..."""

_MIPS = {
    **_LOW, 7: "SIGEMT", 10: "SIGBUS", **_MIDDLE, 12: "SIGSYS", 16: "SIGUSR1", 17: "SIGUSR2", 18: "SIGCHLD",
    19: "SIGPWR", 20: "SIGWINCH", 21: "SIGURG", 22: "SIGIO", 23: "SIGSTOP", 24: "SIGTSTP", 25: "SIGCONT",
    26: "SIGTTIN", 27: "SIGTTOU", 28: "SIGVTALRM", 29: "SIGPROF", 30: "SIGXCPU", 31: "SIGXFSZ",
}
_SPARC = {
    **_LOW, 7: "SIGEMT", 10: "SIGBUS", **_MIDDLE, 12: "SIGSYS", 16: "SIGURG", 17: "SIGSTOP", 18: "SIGTSTP",
    19: "SIGCONT", 20: "SIGCHLD", 21: "SIGTTIN", 22: "SIGTTOU", 23: "SIGIO", 24: "SIGXCPU", 25: "SIGXFSZ",
    26: "SIGVTALRM", 27: "SIGPROF", 28: "SIGWINCH", 29: "SIGLOST", 30: "SIGUSR1", 31: "SIGUSR2",
}
_ALPHA = {**_SPARC, 29: "SIGINFO"}
_HPPA = {
    **_LOW, 7: "SIGSTKFLT", 10: "SIGBUS", **_MIDDLE, 12: "SIGXCPU", 16: "SIGUSR1", 17: "SIGUSR2", 18: "SIGCHLD",
    19: "SIGPWR", 20: "SIGVTALRM", 21: "SIGPROF", 22: "SIGIO", 23: "SIGWINCH", 24: "SIGSTOP", 25: "SIGTSTP",
    26: "SIGCONT", 27: "SIGTTIN", 28: "SIGTTOU", 29: "SIGURG", 30: "SIGXFSZ", 31: "SIGSYS",
}
_FAKE_ALPHA = 41

SIGNALS_BY_MACHINE: dict[int, dict[int, str]] = {
    names.EM_MIPS: _MIPS,
    names.EM_SPARC: _SPARC, names.EM_SPARC32PLUS: _SPARC, names.EM_SPARCV9: _SPARC,
    names.EM_ALPHA: _ALPHA, _FAKE_ALPHA: _ALPHA, names.EM_SW64: _ALPHA, names.EM_SW_64: _ALPHA,
    names.EM_PARISC: _HPPA,
}
"""Whole tables for the e_machines that have numbers of their own."""

SI_USER, SI_KERNEL, SI_QUEUE, SI_TIMER, SI_MESGQ, SI_ASYNCIO, SI_SIGIO, SI_TKILL = 0, 0x80, -1, -2, -3, -4, -5, -6

SI_CODES_ANY: dict[int, str] = {
    SI_USER: "SI_USER", SI_KERNEL: "SI_KERNEL", SI_QUEUE: "SI_QUEUE", SI_TIMER: "SI_TIMER", SI_MESGQ: "SI_MESGQ",
    SI_ASYNCIO: "SI_ASYNCIO", SI_SIGIO: "SI_SIGIO", SI_TKILL: "SI_TKILL", -7: "SI_DETHREAD", -60: "SI_ASYNCNL",
}
"""Codes that any signal can have; MIPS differs, see `any_code`."""

_MIPS_ANY = {-2: SI_ASYNCIO, -3: SI_TIMER, -4: SI_MESGQ}

_POLL = {1: "POLL_IN", 2: "POLL_OUT", 3: "POLL_MSG", 4: "POLL_ERR", 5: "POLL_PRI", 6: "POLL_HUP"}

SI_CODES: dict[str, dict[int, str]] = {
    "SIGILL": {
        1: "ILL_ILLOPC", 2: "ILL_ILLOPN", 3: "ILL_ILLADR", 4: "ILL_ILLTRP", 5: "ILL_PRVOPC", 6: "ILL_PRVREG",
        7: "ILL_COPROC", 8: "ILL_BADSTK", 9: "ILL_BADIADDR",
    },
    "SIGFPE": {
        1: "FPE_INTDIV", 2: "FPE_INTOVF", 3: "FPE_FLTDIV", 4: "FPE_FLTOVF", 5: "FPE_FLTUND", 6: "FPE_FLTRES",
        7: "FPE_FLTINV", 8: "FPE_FLTSUB", 14: "FPE_FLTUNK", 15: "FPE_CONDTRAP",
    },
    "SIGSEGV": {
        1: "SEGV_MAPERR", 2: "SEGV_ACCERR", 3: "SEGV_BNDERR", 4: "SEGV_PKUERR", 5: "SEGV_ACCADI", 6: "SEGV_ADIDERR",
        7: "SEGV_ADIPERR", 8: "SEGV_MTEAERR", 9: "SEGV_MTESERR", 10: "SEGV_CPERR",
    },
    "SIGBUS": {1: "BUS_ADRALN", 2: "BUS_ADRERR", 3: "BUS_OBJERR", 4: "BUS_MCEERR_AR", 5: "BUS_MCEERR_AO"},
    "SIGTRAP": {
        1: "TRAP_BRKPT", 2: "TRAP_TRACE", 3: "TRAP_BRANCH", 4: "TRAP_HWBKPT", 5: "TRAP_UNK", 6: "TRAP_PERF",
    },
    "SIGCHLD": {
        1: "CLD_EXITED", 2: "CLD_KILLED", 3: "CLD_DUMPED", 4: "CLD_TRAPPED", 5: "CLD_STOPPED", 6: "CLD_CONTINUED",
    },
    "SIGIO": _POLL,
    "SIGPOLL": _POLL,
    "SIGSYS": {1: "SYS_SECCOMP", 2: "SYS_USER_DISPATCH"},
    "SIGEMT": {1: "EMT_TAGOVF"},
}
"""Codes above 0, which the kernel alone can give."""

_IA64_CODES = {
    "SIGILL": {10: "ILL_BREAK", 11: "ILL_BNDMOD"},
    "SIGFPE": {9: "FPE_DECOVF", 10: "FPE_DECDIV", 11: "FPE_DECERR", 12: "FPE_INVASC", 13: "FPE_INVDEC"},
    "SIGSEGV": {4: "SEGV_PSTKOVF"},
}

UNION: dict[str, str] = {
    "SIGILL": "fault", "SIGFPE": "fault", "SIGSEGV": "fault", "SIGBUS": "fault", "SIGTRAP": "fault", "SIGEMT": "fault",
    "SIGCHLD": "child", "SIGIO": "poll", "SIGPOLL": "poll", "SIGSYS": "sys",
}
"""The member of the union that the kernel fills where the code is above 0 and not SI_KERNEL."""

UNION_BY_CODE: dict[int, str] = {
    SI_USER: "kill", SI_KERNEL: "kill", SI_TKILL: "kill", SI_QUEUE: "rt", SI_MESGQ: "rt", SI_ASYNCIO: "rt",
    SI_TIMER: "timer", SI_SIGIO: "poll",
}
"""The member of the union where the code decides, by the generic codes: pass a MIPS code through `any_code`."""


def signal_name(number: int, machine: int) -> str:
    """What gdb calls a signal: "SIGSEGV", "SIG35" for those without a name (all realtime ones); "0" for none."""
    if not number:
        return "0"
    return SIGNALS_BY_MACHINE.get(machine, SIGNALS).get(number) or f"SIG{number}"


def any_code(code: int, machine: int) -> int:
    """A code of a machine as the generic code of that meaning: MIPS numbers three of SI_... as IRIX did."""
    return _MIPS_ANY.get(code, code) if machine == names.EM_MIPS else code


def code_name(signal: str, code: int, machine: int) -> str | None:
    """What si_code is called for a signal ("SIGSEGV"), None if it has no name.

    A signal without codes of its own has POLL_... when fcntl's F_SETSIG chose it."""
    if code <= 0 or code == SI_KERNEL:
        return SI_CODES_ANY.get(any_code(code, machine))
    if machine == names.EM_IA_64 and code in _IA64_CODES.get(signal, {}):
        return _IA64_CODES[signal][code]
    return SI_CODES.get(signal, _POLL).get(code)
