"""memfs doctor: what this machine has of all that memfs can use, what is missing, and what to do about it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import NamedTuple


class Finding(NamedTuple):
    """What a check found: `state` is ok, limited or missing."""

    state: str
    found: str
    todo: str = ""


class Machine(NamedTuple):
    """Where to look. Tests look below a directory of their own, as somebody else."""

    root: str = "/"
    uid: int = -1

    @property
    def is_root(self) -> bool:
        return (os.geteuid() if self.uid < 0 else self.uid) == 0

    def path(self, *parts: str) -> str:
        return os.path.join(self.root, *parts)

    def text(self, *parts: str) -> str | None:
        """A small file, None if it cannot be read."""
        try:
            with open(self.path(*parts), encoding="utf-8", errors="replace") as file:
                return file.read(1 << 16).strip()
        except OSError:
            return None


class Check(NamedTuple):
    """A row. A mount needs all rows that are `needed`."""

    name: str
    help: str
    look: Callable[[Machine], Finding]
    needed: bool = False


_NO_MOUNT = "memfs ls, cat and cp need no mount"


def _device(machine: Machine) -> Finding:
    if not os.path.exists(machine.path("dev/fuse")):
        return Finding(
            "missing", "there is no /dev/fuse", f"modprobe fuse; in a container: --device /dev/fuse; {_NO_MOUNT}"
        )
    return Finding("ok", "/dev/fuse is there")


def _fusermount(machine: Machine) -> Finding:
    found = _program(machine, "fusermount3") or _program(machine, "fusermount")
    if found:
        return Finding("ok", found)
    state = "limited" if machine.is_root else "missing"
    who = (
        "root needs none; ordinary users cannot mount"
        if machine.is_root
        else "an ordinary user cannot mount without it"
    )
    return Finding(state, f"no fusermount3: {who}", "install fuse3 (apt install fuse3)")


def _right(machine: Machine) -> Finding:
    """Whether this user can mount at all."""
    if machine.is_root:
        held = _capabilities(machine)
        if held is not None and not held >> _CAPABILITIES["CAP_SYS_ADMIN"] & 1:
            return Finding("missing", "root without CAP_SYS_ADMIN", f"in a container: --cap-add SYS_ADMIN; {_NO_MOUNT}")
        return Finding("ok", "root: memfs mounts by itself")
    if _fusermount(machine).state == "ok":
        return Finding("ok", "an ordinary user: fusermount3 mounts")
    return Finding("missing", "an ordinary user without fusermount3", f"install fuse3; {_NO_MOUNT}")


def _allow_other(machine: Machine) -> Finding:
    lines = (machine.text("etc/fuse.conf") or "").splitlines()
    if machine.is_root or any(line.strip() == "user_allow_other" for line in lines):
        return Finding("ok", "-o allow_other may be given")
    return Finding(
        "limited", "no -o allow_other for ordinary users", "as root: echo user_allow_other >> /etc/fuse.conf"
    )


def _libfuse(machine: Machine) -> Finding:
    import glob

    names = ("libfuse3.so.3", "libfuse3.so.4", "libfuse.so.2")
    places = ("lib", "lib64", "usr/lib", "usr/lib64", "usr/local/lib", "lib/*-linux-*", "usr/lib/*-linux-*")
    found = [name for name in names if any(glob.glob(machine.path(place, name)) for place in places)]
    if found:
        return Finding("ok", ", ".join(found))
    return Finding(
        "limited", "no libfuse: only -o fuse=libfuse needs it", "install libfuse3-3 (apt install libfuse3-3)"
    )


def _bindings(machine: Machine) -> Finding:
    from importlib.util import find_spec

    found = [name for name, module in (("mfusepy", "mfusepy"), ("fusepy", "fuse")) if find_spec(module)]
    if found:
        return Finding("ok", ", ".join(found))
    return Finding("limited", "no mfusepy: only -o fuse=libfuse needs it", "pip install 'memfs-fuse[mfusepy]'")


def _kcore(machine: Machine) -> Finding:
    if not os.path.exists(machine.path("proc/kcore")):
        return Finding(
            "missing",
            "this kernel or container has no /proc/kcore",
            "a kernel with CONFIG_PROC_KCORE; look from the host",
        )
    try:
        os.close(os.open(machine.path("proc/kcore"), os.O_RDONLY))
    except OSError as error:
        return Finding(
            "limited",
            f"/proc/kcore cannot be opened: {os.strerror(error.errno or 0)}",
            "be root with CAP_SYS_RAWIO; see lockdown",
        )
    return Finding("ok", "/proc/kcore can be read")


def _lockdown(machine: Machine) -> Finding:
    text = machine.text("sys/kernel/security/lockdown")
    if text is None:
        return Finding("ok", "no lockdown, or it cannot be seen (securityfs)")
    mode = text.partition("[")[2].partition("]")[0]
    if mode == "confidentiality":
        return Finding(
            "limited",
            "lockdown=confidentiality: the kernel's memory cannot be read",
            "boot with lockdown=integrity or none",
        )
    return Finding("ok", f"lockdown={mode}")


_SCOPES = {
    "1": "only descendants, unless CAP_SYS_PTRACE",
    "2": "only with CAP_SYS_PTRACE",
    "3": "nobody, until the next boot",
}


def _ptrace_scope(machine: Machine) -> Finding:
    text = machine.text("proc/sys/kernel/yama/ptrace_scope")
    if text is None:
        return Finding("ok", "no yama: who owns a process may look into it")
    if text == "0":
        return Finding("ok", "ptrace_scope=0: who owns a process may look into it")
    meaning = f"ptrace_scope={text}: {_SCOPES.get(text, 'unknown')}"
    todo = "reboot without it" if text == "3" else "as root: sysctl kernel.yama.ptrace_scope=0"
    return Finding(
        "ok" if machine.is_root and text != "3" else "limited", meaning, "" if machine.is_root and text != "3" else todo
    )


def _kptr_restrict(machine: Machine) -> Finding:
    text = machine.text("proc/sys/kernel/kptr_restrict")
    if text is None:
        return Finding("limited", "kptr_restrict cannot be seen")
    if text == "2":
        return Finding(
            "limited", "kptr_restrict=2: /proc/kallsyms shows no addresses", "as root: sysctl kernel.kptr_restrict=1"
        )
    if machine.is_root:
        return Finding("ok", f"kptr_restrict={text}: root sees the kernel's addresses")
    return Finding("limited", f"kptr_restrict={text}: addresses need CAP_SYSLOG", "be root")


_PAGEMAP_SCAN = 0xC0606610  # _IOWR('f', 16, struct pm_scan_arg), include/uapi/linux/fs.h, Linux 6.7


def _page_map(machine: Machine) -> Finding:
    """Tried on this very process, on no pages at all."""
    import fcntl
    import struct

    path = machine.path("proc/self/pagemap")
    try:
        with open(path, "rb") as file:
            fcntl.ioctl(file, _PAGEMAP_SCAN, bytearray(struct.pack("12Q", 96, *[0] * 11)))
    except FileNotFoundError:
        return Finding("missing", "no /proc/PID/pagemap", "a kernel with CONFIG_PROC_PAGE_MONITOR")
    except OSError:
        return Finding("limited", "no PAGEMAP_SCAN: page maps are read page by page", "Linux 6.7 or later has it")
    return Finding("ok", "PAGEMAP_SCAN works")


_CAPABILITIES = {
    # include/uapi/linux/capability.h, Linux 6.12
    "CAP_SYS_RAWIO": 17,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYSLOG": 34,
    "CAP_CHECKPOINT_RESTORE": 40,
}


def _capabilities(machine: Machine) -> int | None:
    """CapEff of this process, None if it cannot be seen or is no number."""
    lines = (machine.text("proc/self/status") or "").splitlines()
    mask = next((line.partition(":")[2] for line in lines if line.startswith("CapEff:")), None)
    try:
        return int(mask or "", 16)
    except ValueError:
        return None


def _capable(machine: Machine) -> Finding:
    held = _capabilities(machine)
    if held is None:
        return Finding("limited", "the capabilities cannot be seen")
    have = [name for name, bit in _CAPABILITIES.items() if held >> bit & 1]
    lack = [name for name in _CAPABILITIES if name not in have]
    if not lack:
        return Finding("ok", ", ".join(have))
    return Finding("limited", f"without {', '.join(lack)}", "be root, or look at cores and processes of your own")


def _program(machine: Machine, name: str) -> str | None:
    """A program of PATH, below the machine's root."""
    for directory in (*os.environ.get("PATH", "").split(":"), "/usr/bin", "/bin"):
        path = machine.path(directory.lstrip("/"), name)
        if directory and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


CHECKS = (
    Check("/dev/fuse", "the kernel's FUSE", _device, needed=True),
    Check("mount", "may this user mount?", _right, needed=True),
    Check("fusermount3", "mounts for ordinary users", _fusermount),
    Check("allow_other", "may others look into a mount?", _allow_other),
    Check("libfuse", "for -o fuse=libfuse", _libfuse),
    Check("bindings", "for -o fuse=libfuse", _bindings),
    Check("kcore", "the live kernel's memory", _kcore),
    Check("lockdown", "what the kernel keeps to itself", _lockdown),
    Check("ptrace_scope", "who may look into processes", _ptrace_scope),
    Check("kptr_restrict", "who sees the kernel's addresses", _kptr_restrict),
    Check("page map", "which pages of a process are there", _page_map),
    Check("capabilities", "what this process may do", _capable),
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs: an array of objects")
    parser.epilog = "Exit status: 0 if this user can mount, else 1.\n"


def run(arguments: argparse.Namespace) -> int:
    findings = examine(Machine())
    if arguments.json:
        from memfs.tree import render

        records = [{"name": c.name, "help": c.help, "needed": c.needed, **f._asdict()} for c, f in findings]
        sys.stdout.buffer.write(render.to_json(records))
    else:
        for check, finding in findings:
            print(
                f"{finding.state:<8} {check.name:<14} {finding.found}" + (f"; {finding.todo}" if finding.todo else "")
            )
    return 1 if any(check.needed and finding.state == "missing" for check, finding in findings) else 0


def examine(machine: Machine) -> list[tuple[Check, Finding]]:
    """Every check with what it found."""
    return [(check, check.look(machine)) for check in CHECKS]
