"""Copies out of live processes: memfs against gcore, gdb's `dump memory`, and a plain read of /proc/PID/mem."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from processes import BenchError, Memfs, compile_c, resident_mb, serving, timed
from report import Results, Row, Task, compare, interleave

HERE = Path(__file__).resolve().parent

CP = "memfs cp"
MOUNT_CP, MOUNT_CAT = "cp, mounted", "cat, mounted"
GCORE, DUMP, PLAIN = "gcore", "gdb dump memory", "plain read"
COPIES = (  # what, MiB that are touched, MiB that are not, every how many pages
    ("dense", 1024, 0, 1),
    ("sparse", 300, 1024, 1),
    ("pieces", 1024, 0, 2),
)


class Process:
    """bench/heap.c, running: its pid, and where its memory lies."""

    def __init__(self, pid: int, start: int, end: int) -> None:
        self.pid, self.start, self.end = pid, start, end

    @property
    def segment(self) -> str:
        """What the name of its segment has in it."""
        return f"-{self.start:016x}-"


class Live:
    """All measurements of live processes."""

    def __init__(self, memfs: Memfs, programs: Path, directory: Path) -> None:
        self.memfs, self.programs, self.directory = memfs, programs, directory

    @contextlib.contextmanager
    def process(self, *words: object) -> Iterator[Process]:
        program = self.programs / "heap"
        if not program.exists():
            compile_c(HERE / "heap.c", program)
        with subprocess.Popen([program, *map(str, words)], stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout
                start, end = (int(word, 16) for word in process.stdout.readline().split())
                yield Process(process.pid, start, end)
            finally:
                process.kill()

    def name(self, process: Process) -> str:
        listing = self.memfs.run("ls", str(process.pid), "segments").split("\n")
        name = next((name for name in listing if process.segment in name), None)
        if name is None:
            raise BenchError(f"segments/ has no file for {process.start:#x}")
        return name

    def copies(self, runs: int) -> tuple[Results, list[Row]]:
        """Each onto a file of its own in memory, which is there from the run before."""
        results = Results()
        for label, touched, rest, every in COPIES:
            with self.process("fill", touched, rest, every) as process:
                found = interleave(f"live, {label}", self.tasks(label, process), runs)
            results.samples |= found.samples
            results.problems |= found.problems
        dense = [f"{GCORE} dense"]
        rows = [
            compare(results, "1 GiB, memfs cp", "ms", dense, 1 / 1.5, ours=f"{CP} dense"),
            compare(results, "1 GiB, mounted, cp", "ms", dense, 1.0, ours=f"{MOUNT_CP} dense"),
            compare(results, "1 GiB, mounted, cat", "ms", dense, 1.0, ours=f"{MOUNT_CAT} dense"),
            compare(results, "1 GiB, mounted, cp", "ms", [f"{DUMP} dense"], 1 / 1.5, ours=f"{MOUNT_CP} dense"),
            compare(results, "300 MB of 1.3 GiB, memfs cp", "ms", [f"{PLAIN} sparse"], 1 / 4, ours=f"{CP} sparse"),
            compare(results, "131,072 pieces, memfs cp", "ms", [f"{CP} dense"], 3.0, ours=f"{CP} pieces"),
        ]
        return results, rows

    def tasks(self, label: str, process: Process) -> dict[str, Task]:
        name = self.name(process)
        pid = str(process.pid)
        ours, theirs = self.directory / "copy", self.directory / "other"
        dump = f"dump binary memory {theirs} {process.start:#x} {process.end:#x}"

        def measured(command: Sequence[str | Path]) -> Task:
            return lambda: {"ms": timed(command, cwd=self.memfs.cwd)}

        def mounted(command: Callable[[Path], Sequence[str | Path]]) -> Task:
            def once() -> dict[str, float]:
                with self.memfs.mount(Path(f"/proc/{pid}")) as (path, _):
                    return {"ms": timed(command(path / "segments" / name))}

            return once

        tasks = {CP: measured([*self.memfs.command, "cp", pid, f"segments/{name}", ours])}
        if label == "dense":
            tasks[MOUNT_CP] = mounted(lambda path: ["cp", path, ours])
            tasks[MOUNT_CAT] = mounted(lambda path: ["sh", "-c", f"cat {path} > {ours}"])
            tasks[GCORE] = measured(["gcore", "-o", self.directory / "core", pid])  # core.PID, removed with the rest
            tasks[DUMP] = measured(["gdb", "-q", "-nx", "-batch", "-p", pid, "-ex", dump])
        if label == "sparse":
            tasks[PLAIN] = lambda: self.plain(theirs)
        return {f"{task} {label}": run for task, run in tasks.items()}

    def plain(self, copy: Path) -> dict[str, float]:
        """dd of the same memory out of /proc/PID/mem, of a process that nobody has read yet."""
        _, touched, rest, every = COPIES[1]
        with self.process("fill", touched, rest, every) as process:
            count = (process.end - process.start) >> 20
            skip = f"skip={process.start}"
            source = f"if=/proc/{process.pid}/mem"
            flags = ["iflag=skip_bytes", "bs=1M", f"count={count}", "conv=notrunc", "status=none"]
            return {"ms": timed(["dd", source, f"of={copy}", skip, *flags])}

    def mappings(self, runs: int) -> tuple[Results, list[Row]]:
        """A process of 60,000 mappings: the first listing, what that costs in memory, and one small file."""

        def mounted() -> dict[str, float]:
            with self.memfs.mount(Path(f"/proc/{process.pid}")) as (path, _):
                found = {"ls": timed(["ls", "-U", path / "regions"]), "rss": resident_mb(serving(path))}
                return found | {"cat": timed(["cat", path / "regions" / "heap"])}

        with self.process("many", 60_000) as process:
            results = interleave("mappings", {"mounted": mounted}, runs)
        return results, [
            compare(results, "60,000 mappings, first ls regions", "ls", bar=1500, unit="ms alone", ours="mounted"),
            compare(results, "60,000 mappings, resident", "rss", bar=150, unit="MB", ours="mounted"),
            compare(results, "60,000 mappings, cat regions/heap", "cat", bar=500, unit="ms alone", ours="mounted"),
        ]
