"""memfs doctor: what this machine has of all that memfs can use, what is missing, and what to do about it."""

from __future__ import annotations

import argparse
import errno
import os
import stat
import sys
from collections.abc import Callable
from typing import NamedTuple

from memfs.cli.machine import Machine


class Finding(NamedTuple):
    """What a check found: `state` is ok, limited or missing."""

    state: str
    found: str
    todo: str = ""


class Check(NamedTuple):
    """A row. A mount needs all rows that are `needed`."""

    name: str
    help: str
    look: Callable[[Machine], Finding]
    needed: bool = False


_NO_MOUNT = "memfs ls, cat and cp need no mount"


def _why(error: OSError) -> str:
    return os.strerror(error.errno or errno.EIO)


# -- mounts --------------------------------------------------------------------------------------------------------

_FUSE = 10, 229  # MISC_MAJOR, FUSE_MINOR: include/linux/miscdevice.h, Linux 6.12
_DEVICE_HINTS = {
    errno.ENOENT: f"modprobe fuse; in a container: --device /dev/fuse; {_NO_MOUNT}",
    errno.ENODEV: f"modprobe fuse; {_NO_MOUNT}",
    errno.ENXIO: f"modprobe fuse; {_NO_MOUNT}",
    errno.EACCES: f"as root: chmod 0666 /dev/fuse, as udev does; {_NO_MOUNT}",
    errno.EPERM: f"in a container: --device /dev/fuse; {_NO_MOUNT}",
}


def _device(machine: Machine) -> Finding:
    """Opened, as that it is there says little in a container."""
    try:
        number = machine.device("dev/fuse")
    except FileNotFoundError:
        return Finding("missing", "there is no /dev/fuse", _DEVICE_HINTS[errno.ENOENT])
    except OSError as error:
        return Finding("missing", f"/dev/fuse cannot be seen: {_why(error)}", _NO_MOUNT)
    if number != _FUSE:
        what = f"the device {number[0]}:{number[1]}" if number else "no device"
        return Finding("missing", f"/dev/fuse is {what}", f"as root: mknod /dev/fuse c 10 229; {_NO_MOUNT}")
    refused = machine.opened("dev/fuse", os.O_RDWR)
    if refused is not None:
        todo = _DEVICE_HINTS.get(refused.errno or 0, _NO_MOUNT)
        return Finding("missing", f"/dev/fuse cannot be opened: {_why(refused)}", todo)
    return Finding("ok", "/dev/fuse can be opened")


def _fusermount(machine: Machine) -> Finding:
    """It must be able to become root."""
    found = machine.program("fusermount3", "fusermount")
    worst = "limited" if machine.is_root else "missing"
    if found is None:
        who = "ordinary users cannot mount" if machine.is_root else "an ordinary user cannot mount without it"
        return Finding(worst, f"no fusermount3: {who}", "install fuse3 (apt install fuse3)")
    info = os.stat(found)
    if not info.st_mode & stat.S_ISUID or info.st_uid != 0:
        return Finding(worst, f"{found} is not setuid root: it mounts for nobody", f"as root: chmod u+s {found}")
    if os.statvfs(found).f_flag & os.ST_NOSUID:
        return Finding(worst, f"{found} is on a filesystem with nosuid: it mounts for nobody", "mount that with suid")
    return Finding("ok", found)


def _right(machine: Machine) -> Finding:
    """Whether this user can mount at all."""
    return _root_may_mount(machine) if machine.is_root else _user_may_mount(machine)


def _root_may_mount(machine: Machine) -> Finding:
    held = machine.capabilities()
    if held is not None and not held >> _SYS_ADMIN & 1:
        return Finding("missing", "root without CAP_SYS_ADMIN", f"in a container: --cap-add SYS_ADMIN; {_NO_MOUNT}")
    if not machine.in_user_namespace():
        return Finding("ok", "root: memfs mounts by itself")
    if machine.owns_mounts():
        return Finding("ok", "root of a user namespace: memfs mounts in it by itself")
    return Finding(
        "missing", "root of a user namespace that has no mounts of its own", f"unshare -Urm instead of -Ur; {_NO_MOUNT}"
    )


def _user_may_mount(machine: Machine) -> Finding:
    if machine.status("NoNewPrivs") == "1":
        why = "an ordinary user whom no program may make root (no_new_privs)"
        return Finding("missing", why, f"a service: NoNewPrivileges=no; or unshare -Urm; {_NO_MOUNT}")
    helper = _fusermount(machine)
    if helper.state != "ok":
        return Finding("missing", f"an ordinary user; {helper.found}", f"{helper.todo}; {_NO_MOUNT}")
    if machine.is_this and not machine.has_name():
        todo = f"give the user one, or unshare -Urm; {_NO_MOUNT}"
        return Finding("missing", "a user with no name in /etc/passwd: fusermount3 refuses that", todo)
    return Finding("ok", "an ordinary user: fusermount3 mounts")


def _user_namespaces(machine: Machine) -> Finding:
    """A way for ordinary users to mount without fusermount3."""
    if machine.text("proc/self/ns/user") is None and not os.path.lexists(machine.path("proc/self/ns/user")):
        return Finding("limited", "this kernel has no user namespaces", "a kernel with CONFIG_USER_NS")
    for file, forbids, root_too in _USERNS_SYSCTLS:
        value = machine.word("proc/sys", file)
        if value == forbids and (root_too or not machine.is_root):
            name = file.replace("/", ".")
            other = {"0": "1", "1": "0"}[value] if name != "user.max_user_namespaces" else "10000"
            return Finding("limited", f"{name}={value}: none can be made", f"as root: sysctl {name}={other}")
    if machine.is_this:
        refused = machine.refuses_user_namespace()
        if refused:
            why = f"none can be made: {os.strerror(refused)}"
            return Finding("limited", why, "nested too deeply, in a chroot, or a container that forbids it")
    return Finding("ok", "can be made: in unshare -Urm memfs mounts where /dev/fuse can be opened")


_USERNS_SYSCTLS = (
    # the file, what it says when there are none, whether that holds for root, too
    ("user/max_user_namespaces", "0", True),
    ("kernel/unprivileged_userns_clone", "0", False),  # Debian's and Ubuntu's
    ("kernel/apparmor_restrict_unprivileged_userns", "1", False),  # Ubuntu's: without any capability inside
)


def _allow_other(machine: Machine) -> Finding:
    lines = (machine.text("etc/fuse.conf") or "").splitlines()
    if machine.is_root or any(line.partition("#")[0].strip() == "user_allow_other" for line in lines):
        return Finding("ok", "-o allow_other may be given")
    return Finding(
        "limited", "no -o allow_other for ordinary users", "as root: echo user_allow_other >> /etc/fuse.conf"
    )


# -- what can be installed -----------------------------------------------------------------------------------------


def _libfuse(machine: Machine) -> Finding:
    """Loaded, as one of another machine or half an upgrade is of no use."""
    found = [name for name in ("libfuse3.so.3", "libfuse3.so.4", "libfuse.so.2") if machine.loads(name)]
    if found:
        return Finding("ok", ", ".join(found))
    return Finding(
        "limited", "no libfuse: only -o fuse=libfuse needs it", "install libfuse3-3 (apt install libfuse3-3)"
    )


class Extra(NamedTuple):
    """A Python package that memfs can use: an extra of pyproject.toml by the same name, and its module."""

    name: str
    module: str
    help: str


EXTRAS = (
    Extra("mfusepy", "mfusepy", "-o fuse=mfusepy"),
    Extra("fusepy", "fuse", "-o fuse=fusepy"),
)


def _extras(machine: Machine) -> Finding:
    """Those of the Python that runs this."""
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec

    have, lack, broken = [], [], []
    for extra in EXTRAS:
        there = find_spec(extra.module) is not None
        try:
            have.append(f"{extra.name} {version(extra.name)}")
            if not there:
                broken.append(extra.name)
        except PackageNotFoundError:
            lack.append(extra)
    if broken:
        todo = f"pip install --force-reinstall {' '.join(broken)}"
        return Finding("limited", f"installed, but without its module: {', '.join(broken)}", todo)
    if not lack:
        return Finding("ok", ", ".join(have))
    only = ", ".join(f"{extra.name} (for {extra.help} alone)" for extra in lack)
    todo = f"pip install 'memfs-fuse[{','.join(extra.name for extra in lack)}]'"
    return Finding("limited", f"{', '.join([*have, ''])}without {only}", todo)


# -- what may be looked at -----------------------------------------------------------------------------------------


def _kcore(machine: Machine) -> Finding:
    if not os.path.lexists(machine.path("proc/kcore")):
        return Finding(
            "missing",
            "this kernel or container has no /proc/kcore",
            "a kernel with CONFIG_PROC_KCORE; look from the host",
        )
    try:
        with open(machine.path("proc/kcore"), "rb", buffering=0) as file:
            magic = file.read(4)
    except OSError as error:
        why = f"/proc/kcore cannot be read: {_why(error)}"
        return Finding("limited", why, "be root with CAP_SYS_RAWIO; see lockdown")
    if magic != b"\x7fELF":  # containers hide it behind an empty file or /dev/null
        return Finding("missing", "/proc/kcore is hidden here: it is no ELF file", "look from the host")
    return Finding("ok", "/proc/kcore can be read")


_LOCKDOWN = {
    "none": Finding("ok", "lockdown=none"),
    "integrity": Finding("ok", "lockdown=integrity: the kernel's memory may be read"),
    "confidentiality": Finding(
        "limited",
        "lockdown=confidentiality: the kernel's memory cannot be read",
        "boot with lockdown=integrity or none",
    ),
}


def _lockdown(machine: Machine) -> Finding:
    text = machine.word("sys/kernel/security/lockdown")
    if text is None:
        return Finding("ok", "no lockdown, or it cannot be seen (securityfs)")
    found = _LOCKDOWN.get(text.partition("[")[2].partition("]")[0])
    return found or Finding("limited", f"lockdown is not understood: {text!r}", "see /sys/kernel/security/lockdown")


_SCOPES = {
    "1": "only descendants, unless CAP_SYS_PTRACE",
    "2": "only with CAP_SYS_PTRACE",
    "3": "nobody, until the next boot",
}


def _ptrace_scope(machine: Machine) -> Finding:
    text = machine.word("proc/sys/kernel/yama/ptrace_scope")
    if text is None:
        return Finding("ok", "no yama: who owns a process may look into it")
    if text == "0":
        return Finding("ok", "ptrace_scope=0: who owns a process may look into it")
    if text not in _SCOPES:
        return Finding("limited", f"ptrace_scope is not understood: {text!r}", "see kernel.yama.ptrace_scope")
    meaning = f"ptrace_scope={text}: {_SCOPES[text]}"
    if text == "3":
        return Finding("limited", meaning, "reboot without it")
    held = machine.capabilities()
    if machine.is_root and (held is None or held >> _SYS_PTRACE & 1):
        return Finding("ok", meaning)
    return Finding("limited", meaning, "as root: sysctl kernel.yama.ptrace_scope=0")


def _kptr_restrict(machine: Machine) -> Finding:
    text = machine.word("proc/sys/kernel/kptr_restrict")
    if text is None:
        return Finding("limited", "kptr_restrict cannot be seen", "see kernel.kptr_restrict on the host")
    if text not in ("0", "1", "2"):
        return Finding("limited", f"kptr_restrict is not understood: {text!r}", "see kernel.kptr_restrict")
    if text == "2":
        return Finding(
            "limited", "kptr_restrict=2: /proc/kallsyms shows no addresses", "as root: sysctl kernel.kptr_restrict=1"
        )
    held = machine.capabilities()
    if machine.is_root and (held is None or held >> _SYSLOG & 1):
        return Finding("ok", f"kptr_restrict={text}: root sees the kernel's addresses")
    return Finding("limited", f"kptr_restrict={text}: addresses need CAP_SYSLOG", "be root with CAP_SYSLOG")


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


class Capability(NamedTuple):
    """A row: a name and a number of include/uapi/linux/capability.h, Linux 6.12, and what it is good for here."""

    name: str
    bit: int
    help: str


_SYS_PTRACE, _SYS_ADMIN, _SYSLOG = 19, 21, 34
CAPABILITIES = (
    Capability("CAP_DAC_READ_SEARCH", 2, "images of others"),
    Capability("CAP_SYS_RAWIO", 17, "/proc/kcore"),
    Capability("CAP_SYS_PTRACE", _SYS_PTRACE, "processes of others"),
    Capability("CAP_SYS_ADMIN", _SYS_ADMIN, "mounts without fusermount3, physical addresses"),
    Capability("CAP_SYSLOG", _SYSLOG, "the kernel's addresses"),
    Capability("CAP_CHECKPOINT_RESTORE", 40, "/proc/PID/map_files"),
)


def _capable(machine: Machine) -> Finding:
    held = machine.capabilities()
    if held is None:
        return Finding("limited", "the capabilities cannot be seen", "see CapEff in /proc/self/status")
    last = machine.word("proc/sys/kernel/cap_last_cap") or ""
    known = [row for row in CAPABILITIES if not last.isdecimal() or row.bit <= int(last)]
    lack = [row for row in known if not held >> row.bit & 1]
    have = ", ".join(row.name for row in known if row not in lack) or "none"
    if not lack:
        return Finding("ok", have)
    only = ", ".join(f"{row.name} ({row.help})" for row in lack)
    return Finding("limited", f"{have}; without {only}", "be root, or look at cores and processes of your own")


CHECKS = (
    Check("/dev/fuse", "the kernel's FUSE", _device, needed=True),
    Check("mount", "may this user mount?", _right, needed=True),
    Check("fusermount3", "mounts for ordinary users", _fusermount),
    Check("user namespaces", "mounts without fusermount3", _user_namespaces),
    Check("allow_other", "may others look into a mount?", _allow_other),
    Check("libfuse", "for -o fuse=libfuse", _libfuse),
    Check("extras", "Python packages that memfs can use", _extras),
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
                f"{finding.state:<8} {check.name:<15} {finding.found}" + (f"; {finding.todo}" if finding.todo else "")
            )
    return 1 if any(check.needed and finding.state == "missing" for check, finding in findings) else 0


def examine(machine: Machine) -> list[tuple[Check, Finding]]:
    """Every check with what it found."""
    return [(check, check.look(machine)) for check in CHECKS]
