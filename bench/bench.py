"""How fast memfs is, against C on libfuse3 and against bare Python. README.md beside this file says how and why.

python bench/bench.py [--runs N] [--only GROUP]... [--memfs COMMAND] [--corpus DIR] [--dir DIR] [--json FILE]
"""

import argparse
import contextlib
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import ClassVar

import inputs
import report
from live import Live
from processes import (
    BenchError,
    Memfs,
    compile_c,
    finish,
    mountpoint,
    passthrough,
    resident_mb,
    run,
    serving,
    timed,
    unmount,
)
from report import MEMFS, Results, Row, Task, compare, interleave
from stuck import Stuck
from symbols import Symbols

HERE = Path(__file__).resolve().parent
CORPUS = HERE.parent.parent / "shared" / "corpus"

RAW = "raw file"
PYTHON = "bare Python"
C_FLAGS = {"C pread": [], "C splice": ["--splice"], "C splice 252": ["--splice", "--pages=252"]}
C_PLAIN = ["C pread", "C splice"]
C_FIT = ["C splice 252"]  # requests that fit into any pipe, so that libfuse does splice: see passthrough.c


class Reads:
    """Sequential reads of the dense segment: the raw file, C, memfs; each run through a fresh mount."""

    def __init__(self, memfs: Memfs, programs: Path, directory: Path, size: int) -> None:
        self.memfs, self.programs, self.size = memfs, programs, size
        self.core = directory / "dense.core"
        self.reader, self.server = programs / "reader", programs / "passthrough"
        self.checked: set[tuple[str, bool]] = set()
        self.offset = self.expected = 0

    def prepare(self) -> None:
        """Make what all groups need, once."""
        if not self.reader.exists():
            compile_c(HERE / "reader.c", self.reader)
        if not self.core.exists():
            self.offset = inputs.dense_core(self.core, self.size)
            self.expected = self.read(self.core, self.offset, "-s")[1]

    def read(self, path: Path, offset: int, *flags: str, readers: int = 1) -> tuple[float, int]:
        """Milliseconds from the first reader's start to the last one's end, and the sum over the bytes (with -s)."""
        gate, opener = os.pipe()
        command: list[str | Path] = [self.reader, "-w", *flags, path, str(offset), str(self.size)]
        starts, ends, total = [], [], 0
        with contextlib.ExitStack() as stack:
            processes = []
            try:
                for _ in range(readers):
                    process = subprocess.Popen(command, stdin=gate, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                    processes.append(stack.enter_context(process))
                    stack.callback(process.kill)
                time.sleep(0.1)  # all of them have come to the gate
            finally:
                os.close(gate)
                os.close(opener)
            for process in processes:
                status = finish(process)
                assert process.stdout and process.stderr
                if status:
                    raise BenchError("read: " + process.stderr.read().decode(errors="replace").strip())
                start, end, done, total = map(int, process.stdout.read().split())
                if done != self.size:
                    raise BenchError(f"read: {path} ended after {done} of {self.size} bytes")
                starts.append(start)
                ends.append(end)
        return (max(ends) - min(starts)) / 1e6, total

    def check(self, name: str, direct: bool, path: Path) -> None:
        """Fast and wrong is not fast: compare the bytes, once, outside of what is measured."""
        if (name, direct) not in self.checked:
            if self.read(path, 0, "-s")[1] != self.expected:
                raise BenchError(f"{path.name} does not hold the bytes of the core")
            self.checked.add((name, direct))

    @contextlib.contextmanager
    def c(self, flags: Sequence[str]) -> Iterator[Path]:
        if not self.server.exists():
            compile_c(HERE / "passthrough.c", self.server, "fuse3")
        with passthrough(self.server, self.programs, self.core, self.offset, self.size, *flags) as path:
            yield path

    def tasks(self, direct: bool, measure: Callable[[Path], dict[str, float]]) -> dict[str, Task]:
        """One task for each file system: mount, measure, compare the bytes, unmount."""

        def task(name: str, mount: Callable[[], AbstractContextManager[Path]]) -> Task:
            def once() -> Mapping[str, float]:
                with mount() as path:
                    measured = measure(path)
                    self.check(name, direct, path)
                    return measured

            return once

        mode = ["--direct"] if direct else []
        tasks = {name: task(name, partial(self.c, [*flags, *mode])) for name, flags in C_FLAGS.items()}
        address = inputs.TAIL if direct else inputs.DENSE
        tasks[MEMFS] = task(MEMFS, partial(self.memfs.segment, self.core, address))
        return tasks

    def rows(self, results: Results, name: str, figure: str, bar: float) -> list[Row]:
        return [compare(results, name, figure, C_PLAIN, bar), compare(results, name, figure, C_FIT)]

    def sequential(self, runs: int) -> tuple[Results, list[Row]]:
        def twice(path: Path) -> dict[str, float]:
            return {"first": self.read(path, 0)[0], "second": self.read(path, 0)[0]}

        def raw() -> dict[str, float]:
            ms = self.read(self.core, self.offset)[0]
            return {"first": ms, "second": ms}

        self.prepare()
        results = interleave("sequential", {RAW: raw, **self.tasks(False, twice)}, runs)
        # The second read is the kernel's alone, whoever serves: the runs of all C variants are one sample.
        pool = [ms for name in C_FLAGS for ms in results.samples.get(name, {}).get("second", [])]
        if pool:
            results.samples["C, all"] = {"second": pool}
        return results, [
            *self.rows(results, "cached, first read", "first", 0.9),
            compare(results, "cached, first read", "first", [RAW]),
            compare(results, "cached, second read", "second", ["C, all"], 1.0),
            compare(results, "cached, second read", "second", [RAW]),
        ]

    def direct(self, runs: int) -> tuple[Results, list[Row]]:
        self.prepare()
        results = interleave("direct", self.tasks(True, lambda path: {"read": self.read(path, 0)[0]}), runs)
        return results, self.rows(results, "direct I/O", "read", 0.9)

    def libfuse(self, runs: int) -> tuple[Results, list[Row]]:
        """memfs through libfuse, direct I/O, against C's pread passthrough on the same library."""
        self.prepare()
        plain = self.tasks(True, lambda path: {"read": self.read(path, 0)[0]})
        mine = self.memfs.through("mfusepy")

        def once() -> dict[str, float]:
            with mine.segment(self.core, inputs.TAIL) as path:
                return {"read": self.read(path, 0)[0]}

        results = interleave("libfuse", {"C pread": plain["C pread"], MEMFS: once}, runs)
        return results, [compare(results, "through mfusepy, direct I/O", "read", ["C pread"], 1.3)]

    def readers(self, runs: int) -> tuple[Results, list[Row]]:
        def both(path: Path) -> dict[str, float]:
            return {"two": self.read(path, 0, readers=2)[0]}

        self.prepare()
        tasks: dict[str, Task] = {}
        for direct in (False, True):
            tasks |= {name + " direct" * direct: task for name, task in self.tasks(direct, both).items()}
        results = interleave("readers", tasks, runs)
        rows = []
        for label, suffix in (("two readers, cached", ""), ("two readers, direct", " direct")):
            for names, bar in ((C_PLAIN, 1.0), (C_FIT, None)):
                references = [name + suffix for name in names]
                rows.append(compare(results, label, "two", references, bar, ours=MEMFS + suffix))
        return results, rows


class Starts:
    """What starting costs over the interpreter itself."""

    def __init__(self, memfs: Memfs, directory: Path, corpus: Path) -> None:
        self.memfs, self.directory, self.corpus = memfs, directory, corpus

    def bare(self) -> dict[str, float]:
        return {"ms": timed([sys.executable, "-I", "-c", "pass"])}

    def small(self) -> Path:
        core = self.directory / "small.core"
        if not core.exists():
            inputs.small_core(core)
        return core

    def mounts(self, runs: int) -> tuple[Results, list[Row]]:
        sparse = self.directory / "sparse.core"
        inputs.sparse_core(sparse)
        cores = {"8 MB": self.small(), "sparse 1 TiB": sparse, **inputs.unpack_corpus(self.corpus, self.directory)}

        def task(core: Path) -> Task:
            def once() -> dict[str, float]:
                with self.memfs.mount(core) as (path, ms):
                    return {"ms": ms, "rss": resident_mb(serving(path))}

            return once

        results = interleave("startup", {PYTHON: self.bare} | {name: task(core) for name, core in cores.items()}, runs)
        for name in inputs.LARGE_OF_CORPUS:
            if name not in cores:
                print(f"left out: no {name} in {self.corpus} (--corpus says where it is)")
        rows = []
        for name in cores:
            large = name in inputs.LARGE_OF_CORPUS
            rows.append(compare(results, f"mount, {name}", "ms", [PYTHON], 500 if large else 80, "ms", name))
            rows.append(compare(results, f"resident, {name}", "rss", bar=100 if large else None, unit="MB", ours=name))
        return results, rows

    def commands(self, runs: int) -> tuple[Results, list[Row]]:
        core = self.small()
        tasks: dict[str, Task] = {
            PYTHON: self.bare,
            "memfs --help": lambda: {"ms": self.memfs.timed("--help")},
            "memfs cat CORE info": lambda: {"ms": self.memfs.timed("cat", core, "info")},
        }
        results = interleave("commands", tasks, runs)
        bars = {"memfs --help": 70.0, "memfs cat CORE info": 120.0}
        return results, [compare(results, name, "ms", [PYTHON], bar, "ms", name) for name, bar in bars.items()]


class Names:
    """Listing a directory of 150,000 files: the C file system of names.c, memfs; cold is a fresh mount."""

    COUNT = 150_000
    LISTS: ClassVar = {"ls -f": ["ls", "-f"], "ls -l": ["ls", "-l"], "find -size": ["find", ".", "-size", "+1000000c"]}

    def __init__(self, memfs: Memfs, programs: Path, directory: Path) -> None:
        self.memfs, self.programs, self.directory = memfs, programs, directory

    @contextlib.contextmanager
    def c(self) -> Iterator[Path]:
        program = self.programs / "names"
        if not program.exists():
            compile_c(HERE / "names.c", program, "fuse3")
        with mountpoint(self.programs) as path:
            try:
                run([program, path, str(self.COUNT)])
                yield path
            finally:
                unmount(path)

    @contextlib.contextmanager
    def ours(self) -> Iterator[Path]:
        core = self.directory / "many.core"
        if not core.exists():
            inputs.many_core(core, self.COUNT)
        with self.memfs.mount(core) as (path, _):
            yield path

    def measure(self, runs: int) -> tuple[Results, list[Row]]:
        def task(mount: Callable[[], AbstractContextManager[Path]], command: Sequence[str]) -> Task:
            def once() -> dict[str, float]:
                with mount() as path:
                    cold = timed(command, cwd=path / "segments")
                    found = {"cold": cold, "warm": timed(command, cwd=path / "segments")}
                    return found | {"rss": resident_mb(serving(path))}

            return once

        tasks: dict[str, Task] = {}
        for name, command in self.LISTS.items():
            tasks |= {f"C {name}": task(self.c, command), f"memfs {name}": task(self.ours, command)}
        results = interleave("names", tasks, runs)
        rows = []
        for name in self.LISTS:
            for figure, bar in (("cold", 1.1), ("warm", 0.7)):
                rows.append(compare(results, f"{name}, {figure}", figure, [f"C {name}"], bar, ours=f"memfs {name}"))
        rows.append(compare(results, "resident, 150,000 names", "rss", bar=100, unit="MB", ours="memfs ls -l"))
        return results, rows


def default_command() -> list[str]:
    script = Path(sys.executable).parent / "memfs"
    return [str(script)] if script.exists() else [sys.executable, "-m", "memfs"]


def roomy(size: int) -> Path:
    """A directory in memory if there is room for the inputs, else the temporary one."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK):
        room = os.statvfs(memory)
        if room.f_bavail * room.f_frsize > 2 * size:
            return memory
    return Path(tempfile.gettempdir())


def environment() -> str:
    """What the figures depend on, in one line."""
    try:
        libfuse = run(["pkg-config", "--modversion", "fuse3"]).strip()
    except BenchError:
        libfuse = "unknown"
    system = f"Linux {platform.release()}, Python {platform.python_version()}, libfuse {libfuse}"
    return f"{system}, {len(os.sched_getaffinity(0))} CPUs, load {os.getloadavg()[0]:.1f}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How fast memfs is, against C and bare Python: ratios, medians.")
    parser.add_argument(
        "--runs", type=int, default=5, help="runs of a read (default 5); a start is run 9 times or more"
    )
    groups = (
        "sequential", "direct", "libfuse", "readers", "startup", "commands", "names", "stuck", "live", "mappings",
        "symbols",
    )  # fmt: skip
    parser.add_argument("--only", action="append", choices=groups, help="this group alone; may be given again")
    parser.add_argument("--memfs", type=shlex.split, default=default_command(), help="the command that is measured")
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="where the large cores and loader.py are")
    parser.add_argument("--dir", type=Path, help="where the inputs go (default /dev/shm if it has room)")
    parser.add_argument("--size", type=int, default=1024, help="MiB of the dense segment (default 1024)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    options.only = options.only or groups
    options.size *= inputs.MIB
    return options


def main() -> int:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every `finally` unmounts
    where = environment()
    groups: dict[str, Results] = {}
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="memfs-bench-") as programs,
        tempfile.TemporaryDirectory(prefix="memfs-bench-", dir=options.dir or roomy(options.size)) as directory,
    ):
        memfs = Memfs(options.memfs, Path(programs))
        reads = Reads(memfs, Path(programs), Path(directory), options.size)
        names = Names(memfs, Path(programs), Path(directory))
        starts = Starts(memfs, Path(directory), options.corpus)
        live = Live(memfs, Path(programs), Path(directory))
        starting_runs = max(9, options.runs)
        for name in options.only:
            try:
                match name:
                    case "sequential":
                        groups[name], more = reads.sequential(options.runs)
                    case "direct":
                        groups[name], more = reads.direct(options.runs)
                    case "libfuse":
                        groups[name], more = reads.libfuse(options.runs)
                    case "names":
                        groups[name], more = names.measure(options.runs)
                    case "stuck":
                        groups[name], more = Stuck(Path(programs), Path(directory)).measure(options.runs)
                    case "live":
                        groups[name], more = live.copies(options.runs)
                    case "mappings":
                        groups[name], more = live.mappings(options.runs)
                    case "symbols":
                        found = Symbols(memfs, Path(programs), Path(directory))
                        groups[name], more = found.measure(options.runs)
                    case "readers":
                        groups[name], more = reads.readers(options.runs)
                    case "startup":
                        groups[name], more = starts.mounts(starting_runs)
                    case _:
                        groups[name], more = starts.commands(starting_runs)
                rows += more
            except (BenchError, OSError) as e:
                groups[name] = Results(problems={"all": str(e)})
    problems = report.failures(groups)
    print(f"{where}\n\n{report.figures(groups)}\n\n{report.table(rows)}", *problems, sep="\n")
    if options.json:
        found = {"environment": where, **report.as_json(rows, groups)}
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
