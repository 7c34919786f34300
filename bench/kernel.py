"""How fast a mount of /proc/kcore is, on the machine that this runs on. README.md beside this file says how and why.

python bench/kernel.py [--runs N] [--size MIB] [--memfs COMMAND]      as root; for example in a guest:

    cd tests && python -m vm 4-level "$PWD/../.venv/bin/python $PWD/../bench/kernel.py"
"""

import argparse
import errno
import os
import shlex
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import report
from processes import BenchError, Memfs, compile_c, passthrough, resident_mb, run, serving, timed
from report import MEMFS, Results, Row, Task, compare, interleave

from bench import default_command, environment

HERE = Path(__file__).resolve().parent
KCORE = Path("/proc/kcore")
NOWHERE = (1 << 64) - 1
MIB = 1 << 20
PYTHON = "bare Python"


class Ram(NamedTuple):
    """The largest run of RAM in /proc/kcore: where it is in the file, its physical address, its size."""

    offset: int
    physical: int
    size: int


def largest_ram() -> Ram:
    """Of the PT_LOADs with a physical address, the largest: no other is as large as RAM is."""
    with open(KCORE, "rb", buffering=0) as file:
        phoff, count = struct.unpack_from("<32xQ16xH", file.read(64))
        table = os.pread(file.fileno(), 56 * count, phoff)
    phdrs = struct.iter_unpack("<IIQQQQQQ", table)  # Elf64_Phdr: type flags offset vaddr paddr filesz memsz align
    return max(
        (Ram(at, paddr, size) for kind, _, at, _, paddr, size, _, _ in phdrs if kind == 1 and paddr != NOWHERE),
        key=lambda ram: ram.size,
    )


class Kernel:
    """What is measured."""

    def __init__(self, memfs: Memfs, programs: Path, size: int) -> None:
        self.memfs, self.programs = memfs, programs
        self.ram = largest_ram()
        self.size = min(size, self.ram.size) // MIB * MIB

    def dd(self, path: Path, offset: int) -> dict[str, float]:
        """Milliseconds of dd from an offset on, and before that of a first megabyte: what a server makes ready when a
        file is looked at for the first time is in the latter."""

        def once(size: int) -> float:
            words = ["dd", f"if={path}", "of=/dev/null", "bs=1M", f"count={size}", f"skip={offset}"]
            return timed([*words, "iflag=skip_bytes,count_bytes", "status=none"])

        return {"first": once(MIB), "ms": once(self.size)}

    @contextmanager
    def c(self, *flags: str) -> Iterator[tuple[Path, int]]:
        server = self.programs / "passthrough"
        if not server.exists():
            compile_c(HERE / "passthrough.c", server, "fuse3")
        with passthrough(server, self.programs, KCORE, self.ram.offset, self.size, *flags) as path:
            yield path, 0

    @contextmanager
    def ours(self) -> Iterator[tuple[Path, int]]:
        with self.memfs.mount(KCORE) as (path, _):
            yield path / "regions" / "direct_map", self.ram.physical

    def reads(self, runs: int) -> tuple[Results, list[Row]]:
        def task(mount: Callable[[], AbstractContextManager[tuple[Path, int]]]) -> Task:
            def once() -> Mapping[str, float]:
                with mount() as (path, offset):
                    return self.dd(path, offset)

            return once

        tasks: dict[str, Task] = {
            KCORE.name: lambda: self.dd(KCORE, self.ram.offset),
            "C direct": task(partial(self.c, "--direct", "-s")),
            "C cached": task(partial(self.c, "-s")),
            MEMFS: task(self.ours),
        }
        results = interleave("direct_map", tasks, runs)
        return results, [
            compare(results, "dd bs=1M of direct_map", "ms", ["C direct", "C cached"], 1.2),
            compare(results, "dd bs=1M of direct_map", "ms", [KCORE.name]),
            compare(results, "the first MiB of a mount", "first", ["C direct"], unit="ms"),
        ]

    def starts(self, runs: int) -> tuple[Results, list[Row]]:
        def mounted() -> Mapping[str, float]:
            with self.memfs.mount(KCORE) as (path, ms):
                began = time.perf_counter()
                count = runs_of(path / "regions" / "vmalloc")
                walked = (time.perf_counter() - began) * 1000
                if not count:
                    raise BenchError("nothing of vmalloc is mapped")
                run(["cp", path / "regions" / "kernel_text", "/dev/null"])
                return {"ms": ms, "walk": walked, "rss": resident_mb(serving(path))}

        def bare() -> Mapping[str, float]:
            return {"ms": timed([sys.executable, "-I", "-c", "pass"])}

        results = interleave("startup", {PYTHON: bare, MEMFS: mounted}, runs)
        nothing = Results(samples={"nothing": {"walk": [0.0]}, **results.samples})
        return results, [
            compare(results, "ready: mount and first ls", "ms", [PYTHON], 2.0),
            compare(nothing, "mapped runs of vmalloc", "walk", ["nothing"], 1000, "ms"),
            compare(results, "resident", "rss", bar=80, unit="MB"),
        ]


def runs_of(path: Path) -> int:
    """How many runs of data there are."""
    fd = os.open(path, os.O_RDONLY)
    count = at = 0
    try:
        while True:
            at = os.lseek(fd, os.lseek(fd, at, os.SEEK_DATA), os.SEEK_HOLE)
            count += 1
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return count
    finally:
        os.close(fd)


def main() -> int:
    parser = argparse.ArgumentParser(description="How fast memfs shows the running kernel's memory.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", type=int, default=512, help="MiB of RAM that are read (default 512)")
    parser.add_argument("--memfs", type=shlex.split, default=default_command(), help="the command that is measured")
    options = parser.parse_args()
    groups: dict[str, Results] = {}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="memfs-bench-") as programs:
        kernel = Kernel(Memfs(options.memfs, Path(programs)), Path(programs), options.size * MIB)
        for name, measure in (("direct_map", kernel.reads), ("startup", kernel.starts)):
            groups[name], more = measure(options.runs)
            rows += more
    problems = report.failures(groups)
    print(f"{environment()}\n\n{report.figures(groups)}\n\n{report.table(rows)}", *problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
