"""Live programs for tests: tests/programs/live.c, compiled on the spot, told what to do, ended in any case."""

import contextlib
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mounting import eventually
from needs import REPO, need, need_tools, run

SECRET = b"a secret in the heap of live.c"
AREA = 64 * 4096
"""The size of `area` in live.c."""
AREA_WORDS = b"".join(f"AREA {at}".encode().ljust(64, b"\0") for at in range(0, AREA, 64))
"""What is in it."""

ENVIRONMENT = {"GREETING": "hello, reader", "EMPTY": "", "UTF8": "grün"}
ARGUMENTS = ("./live", "first argument", "", "--third=3")


def width(bits: int) -> list[str]:
    """Options for the compiler. The kernel's headers are those of 64 bits, which serve both; 32 bits do not look there
    without gcc-multilib, and that cannot be beside a cross compiler."""
    there = run("cc", "-print-multiarch").stdout.decode().strip()
    return [f"-m{bits}", *(["-idirafter", f"/usr/include/{there}"] if bits == 32 else [])]


def compiled(directory: Path, bits: int = 64, *flags: str) -> Path:
    """live.c as a program of 64 or 32 bits. A test that needs what cannot be had is skipped."""
    need_tools("cc")
    program = directory / f"live{bits}"
    source = REPO / "tests" / "programs" / "live.c"
    done = run("cc", *width(bits), "-O1", "-g", "-Wall", "-pthread", *flags, "-o", program, source, timeout=120)
    need(done.returncode == 0 or bits == 64, "the compiler makes no 32-bit programs (sh tests/install-tools.sh)")
    assert done.returncode == 0, done.stderr.decode()
    return program


def program_of(name: str, directory: Path) -> Path:
    """Another program of tests/programs, compiled."""
    need_tools("cc")
    program = directory / name
    source = REPO / "tests" / "programs" / f"{name}.c"
    done = run("cc", "-O1", "-Wall", "-o", program, source, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return program


class Live:
    """A running program and what it said of itself: numbers and names by their names."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.pid = process.pid
        self.words: dict[str, str] = {}
        self._rest = b""
        self.answer(b"ready")

    def answer(self, last: bytes = b"done", seconds: float = 30) -> None:
        """Take in what it says, until it is done."""
        end = time.monotonic() + seconds
        assert self.process.stdout is not None
        while True:
            line, newline, rest = self._rest.partition(b"\n")
            if newline:
                self._rest = rest
                if line == last:
                    return
                name, _, value = line.decode().partition(" ")
                self.words[name] = value
                continue
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            assert ready, f"no answer from the program within {seconds} s"
            piece = os.read(self.process.stdout.fileno(), 65536)
            assert piece, f"the program ended: {self.process.wait(10)}"
            self._rest += piece

    def tell(self, word: str, answered: bool = True) -> None:
        """Have it do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(word.encode() + b"\n")
        self.process.stdin.flush()
        if answered:
            self.answer()

    def at(self, name: str) -> int:
        """An address that it printed."""
        return int(self.words[name], 16)

    def number(self, name: str) -> int:
        """A decimal number that it printed."""
        return int(self.words[name])

    def proc(self, name: str) -> bytes:
        """A file of its directory in /proc."""
        return Path(f"/proc/{self.pid}/{name}").read_bytes()

    def text(self, name: str) -> str:
        return os.fsdecode(self.proc(name))

    def state(self) -> str:
        return self.proc("stat").rpartition(b")")[2].split()[0].decode()

    def settle(self) -> None:
        """Wait until it waits for a word."""
        read = ("0", "3")  # __NR_read of 64 and of 32 bits
        eventually(lambda: self.text("syscall").split()[0] in read, "the program reads its standard input")


@contextlib.contextmanager
def running(
    program: Path, arguments: Sequence[str] = ARGUMENTS, env: dict[str, str] | None = None, **more: Any
) -> Iterator[Live]:
    """The program, ready. Afterwards it has ended."""
    with tempfile.TemporaryDirectory(prefix="live-") as work:
        os.chmod(work, 0o777)  # whoever it runs as
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**ENVIRONMENT, **(env or {})},
            **{"executable": program, "cwd": work, **more},
        )
        try:
            yield Live(process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
                process.kill()
            process.wait(20)
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    if pipe:
                        pipe.close()


def own_part(text: bytes) -> bytes:
    """smaps without what other processes change by mapping the same files, status without the signals that wait for all
    processes of a user; any other text as it is."""
    return re.sub(rb"^(Pss|Shared|Private|SigQ)\w*:\s.*\n", b"", text, flags=re.MULTILINE)


def field(status: bytes, name: str) -> int:
    """A number out of /proc/PID/status."""
    found = re.search(rb"^%s:\s+(\d+)" % name.encode(), status, re.MULTILINE)
    assert found, name
    return int(found[1])


def area_of(live: Live) -> str:
    """The region of `area`."""
    return f"regions/anon.{live.at('area'):x}"


def pids(directory: Path) -> set[int]:
    """The processes that a /proc, or a mount of one, lists."""
    return {int(name) for name in os.listdir(directory) if name.isdigit()}
