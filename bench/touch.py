"""What looking at a process does to it: memfs, a plain read of /proc/PID/mem, gcore, gdb, yara.

    python bench/touch.py [--memfs COMMAND]

Each looks at a fresh tests/programs/pages.c, which has pages in every state, from the first byte to the last; before
and after, the kernel's counters are read. Prints the table of docs/safety.md. As root; what is not installed, and
whether there is swap (the pages of which come back when they are read), is said below it."""

import argparse
import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from processes import BenchError, compile_c, run

HERE = Path(__file__).resolve().parent
COUNTERS = ("RssAnon", "RssFile", "RssShmem", "VmPTE", "VmSwap")
PIECE = 1 << 20
RULE = 'rule words { strings: $a = "no such words in any process" condition: $a }\n'

Look = Callable[[int, Path], object]


def default_command() -> list[str]:
    script = Path(sys.executable).parent / "memfs"
    return [str(script)] if script.exists() else [sys.executable, "-m", "memfs"]


def counters(pid: int) -> dict[str, int]:
    """In kB; huge pages of the pool count as well."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB$", status, re.MULTILINE))
    return {name: int(found.get(name, 0)) for name in COUNTERS}


class Watch(threading.Thread):
    """How long the process was stopped, by looking at its state every half a millisecond."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.path = f"/proc/{pid}/stat"
        self.ended = threading.Event()
        self.stopped = 0.0

    def run(self) -> None:
        last = time.monotonic()
        while not self.ended.wait(0.0005):
            with open(self.path, "rb") as file:
                state = file.read().rpartition(b") ")[2][:1]
            now = time.monotonic()
            self.stopped += (now - last) if state in b"tT" else 0
            last = now


@contextlib.contextmanager
def target(program: Path, directory: Path) -> Iterator[int]:
    """pages.c, asleep."""
    with subprocess.Popen([program, directory, "swap", "plain"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            if not any(line == "ready\n" for line in process.stdout):
                raise BenchError("pages.c ended early")
            time.sleep(0.2)
            yield process.pid
        finally:
            process.kill()


def plain_read(pid: int, directory: Path) -> None:
    """Every mapping from its beginning to its end, as far as it can be read."""
    buffer = bytearray(PIECE)
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end = (int(word, 16) for word in line.split()[0].split("-"))
            while start < min(end, 1 << 63):
                with contextlib.suppress(OSError):
                    os.preadv(memory.fileno(), [memoryview(buffer)[: min(PIECE, end - start)]], start)
                start += PIECE


def looks(memfs: list[str]) -> dict[str, tuple[str, Look]]:
    """Name, the program that it needs, and how it looks at everything."""
    copy = [*memfs, "cp", "-r"]

    def gdb(pid: int, directory: Path) -> None:
        run(["gdb", "-q", "-nx", "-batch", "-p", str(pid), "-ex", "info threads"])

    def yara(pid: int, directory: Path) -> None:
        (directory / "rule").write_text(RULE)
        run(["yara", directory / "rule", str(pid)])

    return {
        "memfs, every file": (memfs[0], lambda pid, directory: run([*copy, str(pid), "/", directory / "all"])),
        "memfs, `-o noswapin`": (
            memfs[0],
            lambda pid, directory: run([*copy, "-o", "noswapin", str(pid), "/", directory / "all"]),
        ),
        "a plain read of /proc/PID/mem": ("cat", plain_read),
        "`gcore`": ("gcore", lambda pid, directory: run(["gcore", "-o", directory / "core", str(pid)])),
        "`gdb -p`, `info threads`": ("gdb", gdb),
        "`yara RULE PID`": ("yara", yara),
    }


def measure(look: Look, program: Path, work: Path) -> list[str]:
    """The cells of one row."""
    with tempfile.TemporaryDirectory(dir=work) as directory, target(program, Path(directory)) as pid:
        before = counters(pid)
        watch = Watch(pid)
        watch.start()
        look(pid, Path(directory))
        watch.ended.set()
        watch.join()
        after = counters(pid)
    changes = [after[name] - before[name] for name in COUNTERS]
    stopped = f"{watch.stopped * 1000:.0f} ms" if watch.stopped else "no"
    return [*(f"{change:+d}" if change else "0" for change in changes), stopped]


def main() -> int:
    parser = argparse.ArgumentParser(description="What looking at a process does to it, in kB.")
    parser.add_argument("--memfs", type=shlex.split, default=default_command(), help="the command that is measured")
    options = parser.parse_args()
    remarks = []
    print("| looked at by | " + " | ".join(COUNTERS) + " | stopped |")
    print("| --- |" + " ---: |" * (len(COUNTERS) + 1))
    with tempfile.TemporaryDirectory(prefix="memfs-touch-") as work:
        program = Path(work) / "pages"
        compile_c(HERE.parent / "tests" / "programs" / "pages.c", program)
        for name, (needed, look) in looks(options.memfs).items():
            if shutil.which(needed) is None:
                remarks.append(f"{needed} is not installed: {name} was left out")
                continue
            try:
                print(f"| {name} | " + " | ".join(measure(look, program, Path(work))) + " |", flush=True)
            except (BenchError, OSError) as error:
                remarks.append(f"{name}: {error}")
    if len(Path("/proc/swaps").read_text().splitlines()) < 2:
        remarks.append("no swap here: nothing was swapped out")
    print(*remarks, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
