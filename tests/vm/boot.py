"""A guest: qemu, the file servers for its two trees, and the line by which it is told what to run.

The guest's / is this machine's, read only, under a tmpfs; /share is a directory of the test's, to write in. Everything
has a time limit: a command in the guest, a guest that does not answer, a guest that does not come up."""

import contextlib
import json
import os
import re
import select
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from needs import REPO, need, need_tools

from vm.initramfs import initramfs, modules_of
from vm.packages import Kernel, busybox, kernel

BOOT = 180  # seconds: 5 on an idle machine
GRACE = 30  # seconds for an answer, after a command's own time
MODULES = ("virtio_pci", "virtiofs", "overlay", "fuse", "lzo_rle", "zram")
READ_ONLY = 'mount --rbind / $0 && mount -o remount,bind,ro $0 && exec "$@"'
VIRTIOFSD = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")
MEMORY = 1024  # MiB
DIMMS = 4, 3072  # slots for memory that is plugged in later, MiB at most

MEMFS = shlex.join(("env", f"PYTHONPATH={REPO}", sys.executable, "-m", "memfs"))  # the guest has the same tree


class Ran(subprocess.CompletedProcess[bytes]):
    """A command that has ended in the guest, and the directory that it ran in, with the files that it left there."""

    directory: Path


class Machine(NamedTuple):
    """What is booted: a package of Debian's, the depth of its page tables, more words for its command line."""

    name: str
    package: str = "linux-image-cloud-amd64"
    five_levels: bool = False
    append: str = ""


class Guest:
    """A guest that is up."""

    def __init__(self, machine: Machine, kernel: Kernel, work: Path, line: socket.socket) -> None:
        self.machine = machine
        self.kernel = kernel
        self.share = work / "share"  # /share in the guest
        self._work = work
        self._line = line
        self._count = 0

    def run(self, *words: object, timeout: float = 60) -> Ran:
        """Run a command in the guest; one that takes longer than `timeout` seconds ends with status 124."""
        return self.sh(shlex.join(str(word) for word in words), timeout)

    def memfs(self, *words: object, timeout: float = 60) -> Ran:
        """Run memfs in the guest."""
        return self.sh(f"{MEMFS} {shlex.join(map(str, words))}", timeout)

    def sh(self, script: str, timeout: float = 60) -> Ran:
        """Run a script of sh(1) in the guest, as root, in a directory of its own."""
        self._count += 1
        directory = self.share / str(self._count)
        directory.mkdir()
        (directory / "script").write_text(script + "\n")
        self._line.sendall(f"{self._count} {timeout:.0f}\n".encode())
        number, _, status = self._answer(timeout + GRACE).partition(b" ")
        assert int(number) == self._count
        ran = Ran(script, int(status), (directory / "out").read_bytes(), (directory / "err").read_bytes())
        ran.directory = directory
        return ran

    def plug_memory(self, mib: int) -> None:
        """Plug memory in while the guest runs. Linux then has it as offline blocks in /sys/devices/system/memory."""
        name = f"plugged{time.monotonic_ns()}"
        with socket.socket(socket.AF_UNIX) as line, line.makefile("rw") as stream:
            line.settimeout(GRACE)
            line.connect(str(self._work / "qmp"))
            stream.readline()  # the greeting
            for execute, arguments in (
                ("qmp_capabilities", {}),
                ("object-add", {"qom-type": "memory-backend-memfd", "id": name, "size": mib << 20, "share": True}),
                ("device_add", {"driver": "pc-dimm", "id": f"dimm-{name}", "memdev": name}),
            ):
                stream.write(json.dumps({"execute": execute, "arguments": arguments}) + "\n")
                stream.flush()
                while "return" not in (answer := json.loads(stream.readline())):
                    assert "error" not in answer, answer

    def wait_until_up(self) -> None:
        """The agent's first word."""
        assert self._answer(BOOT) == b"ready"

    def _answer(self, seconds: float) -> bytes:
        """A line of the agent's; what the guest's console said is in the failure."""
        end, line = time.monotonic() + seconds, b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._line], [], [], max(0.0, end - time.monotonic()))
            said = self._line.recv(1) if ready else b""
            if not said:
                raise GuestFailed(f"no answer from the guest ({seconds:.0f} s)\n{self.said()}")
            line += said
        return line.strip()

    def said(self) -> str:
        """The end of what qemu, the file servers and the guest's kernel printed."""
        names = ("root.log", "share.log", "qemu.log", "console")
        return "\n".join((self._work / name).read_text(errors="replace")[-6000:] for name in names)


class GuestFailed(Exception):
    """The guest did not come up, or does not answer."""


@contextmanager
def booted(machine: Machine) -> Iterator[Guest]:
    """A guest, until the end of the block; nothing of it is left then."""
    need_tools("qemu-system-x86_64", "setpriv")
    need(os.geteuid() == 0, "virtiofsd hands out the tree of root: run the guests as root")
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="memfs-vm.", ignore_cleanup_errors=True)))
        share = work / "share"
        share.mkdir()
        it = kernel(machine.package)
        (work / "initramfs").write_bytes(initramfs(busybox().read_bytes(), modules_of(it.modules, MODULES)))
        for tag, tree, caching in (("root", Path("/"), "always"), ("share", share, "auto")):
            # Listens before qemu connects; if virtiofsd made the socket, there would be a moment when it does not yet.
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(work / f"{tag}.sock"))
                listener.listen(1)
                command = _file_server(listener.fileno(), tree, caching)
                stack.enter_context(_started(command, work / f"{tag}.log", listener.fileno()))
        line, end = socket.socketpair()
        stack.enter_context(line)
        with end:
            stack.enter_context(_started(_qemu(machine, it, work, end.fileno()), work / "qemu.log", end.fileno()))
        guest = Guest(machine, it, work, line)
        guest.wait_until_up()
        yield guest


@contextmanager
def _started(command: Sequence[object], log: Path, fd: int) -> Iterator[None]:
    """A program in the background, given a descriptor, that ends with the block, or with this process."""
    words = ["setpriv", "--pdeathsig", "KILL", *map(str, command)]
    with log.open("wb") as out:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=(fd,))
    try:
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def _file_server(fd: int, tree: Path, caching: str) -> list[object]:
    """virtiofsd for a tree: QEMU's own (until 7.2), or the one in Rust that came after it."""
    program = next((name for name in VIRTIOFSD if os.path.exists(name)), None)
    need(program, "no virtiofsd (Debian: in qemu-system-common until bookworm, virtiofsd since)")
    assert program
    if program == VIRTIOFSD[0]:
        options = f"source={tree},cache={caching},sandbox=chroot"
        return [program, f"--fd={fd}", "-f", "-o", options, "-o", "log_level=err"]
    return [program, f"--fd={fd}", f"--shared-dir={tree}", "--sandbox=chroot", f"--cache={caching}"]


def _kvm() -> bool:
    """Whether the processor itself can run guests: /dev/kvm alone may be one that boots no ordinary kernel."""
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return bool(flags and {"vmx", "svm"} & set(flags[1].split())) and os.access("/dev/kvm", os.R_OK | os.W_OK)


def _qemu(machine: Machine, kernel: Kernel, work: Path, line: int) -> list[object]:
    """The command. cmpxchg16b is masked: in QEMU 7.2's emulation it breaks the slab allocator of Linux 6.12."""
    emulated = machine.five_levels or not _kvm()
    cpu = ("max,-cx16" if machine.five_levels else "qemu64,-cx16") if emulated else "host"
    slots, most = DIMMS
    words = "console=ttyS0 rdinit=/init panic=-1 quiet tsc=reliable"
    depth = "" if machine.five_levels else "no5lvl"
    command: list[object] = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"]
    command += ["-display", "none", "-vga", "none", "-M", "pc,smm=off,vmport=off,memory-backend=memory"]
    command += ["-accel", "tcg,thread=multi" if emulated else "kvm", "-cpu", cpu, "-smp", 2]
    command += ["-m", f"{MEMORY}M,slots={slots},maxmem={most}M"]
    command += ["-object", f"memory-backend-memfd,id=memory,size={MEMORY}M,share=on"]
    command += ["-kernel", kernel.image, "-initrd", work / "initramfs"]
    command += ["-append", " ".join(filter(None, (words, depth, machine.append)))]
    command += ["-serial", f"file:{work}/console", "-chardev", f"socket,id=line,fd={line}", "-serial", "chardev:line"]
    command += ["-qmp", f"unix:{work}/qmp,server=on,wait=off"]
    for tag in ("root", "share"):
        command += ["-chardev", f"socket,id={tag},path={work}/{tag}.sock"]
        command += ["-device", f"vhost-user-fs-pci,chardev={tag},tag={tag}"]
    return command
