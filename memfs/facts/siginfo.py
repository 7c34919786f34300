"""siginfo_t, decoded. Source: include/uapi/asm-generic/siginfo.h and kernel/signal.c (siginfo_layout), Linux 6.12."""

import struct
from typing import Any, NamedTuple

from memfs.arch import linux, signals
from memfs.image import Target


class Siginfo(NamedTuple):
    """A signal that was delivered, and what the union holds for it."""

    si_signo: int
    signal: str
    si_code: int
    code: str | None
    si_errno: int
    union: dict[str, int | str]  # si_addr as hex, si_pid, ...

    def record(self) -> dict[str, Any]:
        """The fields of siginfo.json."""
        return {
            "si_signo": self.si_signo,
            "signal": self.signal,
            "si_code": self.si_code,
            "code": self.code,
            "si_errno": self.si_errno,
            **self.union,
        }


_UNIONS: dict[str, tuple[tuple[str, str], ...]] = {
    # member of the union: (field, struct code); P is an address, L a long
    "kill": (("si_pid", "i"), ("si_uid", "I")),
    "rt": (("si_pid", "i"), ("si_uid", "I"), ("si_value", "P")),
    "timer": (("si_tid", "i"), ("si_overrun", "i"), ("si_value", "P")),
    "child": (("si_pid", "i"), ("si_uid", "I"), ("si_status", "i"), ("si_utime", "L"), ("si_stime", "L")),
    "fault": (("si_addr", "P"),),
    "poll": (("si_band", "L"), ("si_fd", "i")),
    "sys": (("si_call_addr", "P"), ("si_syscall", "i"), ("si_arch", "I")),
}


def parse(desc: bytes, target: Target) -> Siginfo | None:
    """A siginfo_t, None if it is too small to be one."""
    raw = linux.parse_siginfo(desc, target)
    if raw is None:
        return None
    signal = signals.signal_name(raw.signo, target.machine)
    member = signals.UNION_BY_CODE.get(signals.any_code(raw.code, target.machine))
    if member is None and raw.code > 0:
        member = signals.UNION.get(signal)
    union = _union(_UNIONS.get(member or "", ()), raw.union, target)
    return Siginfo(raw.signo, signal, raw.code, signals.code_name(signal, raw.code, target.machine), raw.errno, union)


def _union(fields: tuple[tuple[str, str], ...], data: bytes, target: Target) -> dict[str, int | str]:
    """The fields of a member, each at its natural alignment; addresses as hex."""
    out: dict[str, int | str] = {}
    position = 0
    for name, code in fields:
        wide = target.bits == 64 and code in "PL"
        size = 8 if wide else 4
        position += -position % size
        if position + size > len(data):
            break
        number = struct.unpack_from(
            target.prefix + {"P": "QI", "L": "qi"}.get(code, code * 2)[not wide], data, position
        )[0]
        out[name] = hex(number) if code == "P" else number
        position += size
    return out


def summary(info: Siginfo) -> str:
    """One line: "SIGSEGV (11), SEGV_MAPERR at 0x10"."""
    text = f"{info.signal} ({info.si_signo})"
    if info.code:
        text += f", {info.code}"
    if "si_addr" in info.union:
        text += f" at {info.union['si_addr']}"
    elif "si_pid" in info.union and info.si_code <= 0:
        text += f" from process {info.union['si_pid']}"
    return text
