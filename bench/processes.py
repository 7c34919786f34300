"""Programs, mounts and daemons, each with a time limit and an end."""

import contextlib
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

TIMEOUT = 120.0
READ_AHEAD_KB = 1024


class BenchError(Exception):
    """A measurement could not be made; the text says why, in one line."""


def shown(command: object) -> str:
    """A command for a message: its first words."""
    return " ".join(map(str, command[:4])) if isinstance(command, list) else str(command)


def finish(process: "subprocess.Popen[bytes]", timeout: float = TIMEOUT) -> int:
    """Wait for a process of ours and kill it when its time is over.

    Popen.wait(timeout) polls in steps of up to 50 ms, which would be most of what is measured here; a pidfd does not.
    """
    pidfd = os.pidfd_open(process.pid)
    try:
        if not select.select([pidfd], [], [], timeout)[0]:
            raise BenchError(f"`{shown(process.args)}` did not end within {timeout:g} s")
        return process.wait()
    except BaseException:  # Ctrl-C too: leave no child behind
        process.kill()
        process.wait(10)
        raise
    finally:
        os.close(pidfd)


def run(command: Sequence[str | Path], timeout: float = TIMEOUT, cwd: Path | None = None) -> str:
    """Run a command and return what it printed.

    Output goes to files, not pipes: a daemon that keeps the descriptors must not keep us waiting.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=cwd)
        except OSError as e:
            raise BenchError(f"{command[0]}: {e.strerror}") from e
        status = finish(process, timeout)
        out.seek(0)
        err.seek(0)
        if status:
            lines = err.read().decode(errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line), "no message")
            raise BenchError(f"`{shown(command)}` exited with {status}: {last}")
        return out.read().decode(errors="surrogateescape")


def timed(*commands: Sequence[str | Path], cwd: Path | None = None) -> float:
    """Milliseconds from the exec of the first command to the end of the last."""
    start = time.perf_counter()
    for command in commands:
        run(command, cwd=cwd)
    return (time.perf_counter() - start) * 1000


def device(mountpoint: Path) -> str | None:
    """MAJOR:MINOR of what is mounted there, or None. Never asks the file system itself: a hung one would hang us."""
    name = str(mountpoint).replace("\\", "\\134").replace(" ", "\\040")
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        found = [fields[2] for fields in map(str.split, lines) if fields[4] == name]
    return found[-1] if found else None


def read_ahead(mountpoint: Path) -> Path:
    number = device(mountpoint)
    if number is None:
        raise BenchError(f"{mountpoint} is not mounted")
    return Path("/sys/class/bdi", number, "read_ahead_kb")


def serving(mountpoint: Path) -> list[int]:
    """The processes that have the mount point among their arguments."""
    word = os.fsencode(mountpoint)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if word in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def resident_mb(pids: Sequence[int]) -> float:
    """VmRSS of these processes together."""
    total = 0
    for pid in pids:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
        total += next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")), 0)
    return total / 1024


def unmount(mountpoint: Path, *preferred: Sequence[str | Path], cwd: Path | None = None) -> None:
    """Unmount, gently first, and see to it that the server is gone as well."""
    pids = serving(mountpoint)
    number = device(mountpoint)
    ways: list[Sequence[str | Path]] = [*preferred, ["fusermount3", "-u", mountpoint], ["umount", "-l", mountpoint]]
    for command in ways:
        if device(mountpoint) is None:
            break
        with contextlib.suppress(BenchError):
            run(command, timeout=20, cwd=cwd)
    deadline = time.monotonic() + 10
    while pids and time.monotonic() < deadline:
        pids = sorted(set(pids) & set(serving(mountpoint)))
        time.sleep(0.01)
    if pids:  # the server hangs: end its connection, then the process
        if number is not None:
            with contextlib.suppress(OSError):
                Path("/sys/fs/fuse/connections", number.partition(":")[2], "abort").write_text("1")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
    if device(mountpoint) is not None:
        raise BenchError(f"{mountpoint} cannot be unmounted")


@contextlib.contextmanager
def mountpoint(directory: Path) -> Iterator[Path]:
    """A fresh empty directory to mount on."""
    path = Path(tempfile.mkdtemp(prefix="mnt-", dir=directory))
    try:
        yield path
    finally:
        if device(path) is None:
            path.rmdir()


@contextlib.contextmanager
def passthrough(program: Path, directory: Path, source: Path, offset: int, size: int, *flags: str) -> Iterator[Path]:
    """A mount of the C file system; gives its one file."""
    with mountpoint(directory) as path:
        try:
            run([program, source, path, f"--offset={offset}", f"--size={size}", *flags])
            with contextlib.suppress(OSError):  # not root: both sides stay at what the kernel gives
                read_ahead(path).write_text(str(READ_AHEAD_KB))
            yield path / "seg"
        finally:
            unmount(path)


class Memfs:
    """The command under test."""

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        self.command = list(command)
        self.directory = directory
        self.options: list[str] = []
        self.cwd = Path(__file__).resolve().parent.parent  # for `python -m memfs` out of a checkout

    def through(self, transport: str) -> "Memfs":
        """The same command, whose mounts go through another transport."""
        other = Memfs(self.command, self.directory)
        other.options = ["-o", f"fuse={transport}"]
        return other

    def run(self, *words: str | Path) -> str:
        return run([*self.command, *words], cwd=self.cwd)

    def timed(self, *words: str | Path) -> float:
        return timed([*self.command, *words], cwd=self.cwd)

    @contextlib.contextmanager
    def mount(self, core: Path) -> Iterator[tuple[Path, float]]:
        """A mount; gives its root, and the milliseconds from exec to the end of the first `ls`."""
        with mountpoint(self.directory) as path:
            try:
                ms = timed([*self.command, "mount", *self.options, core, path], ["ls", path], cwd=self.cwd)
                if device(path) is None:
                    raise BenchError("`memfs mount` returned, but nothing is mounted")
                yield path, ms
            finally:
                unmount(path, [*self.command, "umount", path], cwd=self.cwd)

    @contextlib.contextmanager
    def segment(self, core: Path, address: int) -> Iterator[Path]:
        """A mount; gives the file of the segment at `address`."""
        with self.mount(core) as (path, _):
            kb = int(read_ahead(path).read_text())
            if os.geteuid() == 0 and kb != READ_AHEAD_KB and not self.options:
                raise BenchError(f"memfs left read_ahead_kb at {kb}; it is to be {READ_AHEAD_KB}, as it is for C")
            listing = run(["ls", path / "segments"]).split("\n")
            name = next((name for name in listing if f"-{address:016x}-" in name), None)
            if name is None:
                raise BenchError(f"segments/ has no file for 0x{address:x}")
            yield path / "segments" / name


def compile_c(source: Path, program: Path, *packages: str) -> None:
    """Compile one C file with the flags that pkg-config gives."""
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        raise BenchError(f"no C compiler for {source.name}; install gcc")
    flags = run(["pkg-config", "--cflags", "--libs", *packages]).split() if packages else []
    run([compiler, "-O2", "-Wall", "-Wextra", source, "-o", program, *flags])
