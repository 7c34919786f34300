"""A read while two others are stuck in the server, against the same read while none is."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from processes import BenchError, compile_c, device, finish, mountpoint, run, unmount
from report import Results, Row, Task, compare, interleave

HERE = Path(__file__).resolve().parent
SERVER = HERE.parent / "tests" / "programs" / "stuck.py"
TRANSPORTS = ("kernel", "mfusepy", "fusepy")
SIZE = 256 << 20
BAR = 1.1
_PATIENCE = 20.0


class Stuck:
    """Through each transport: 256 MiB by direct I/O from a file beside two whose reads wait for a pipe."""

    def __init__(self, programs: Path, directory: Path) -> None:
        self.reader, self.programs = programs / "reader", programs
        self.file = directory / "plain"

    def prepare(self) -> None:
        if not self.reader.exists():
            compile_c(HERE / "reader.c", self.reader)
        if not self.file.exists():
            piece = os.urandom(1 << 20)
            with self.file.open("wb") as out:
                for _ in range(SIZE >> 20):
                    out.write(piece)

    @contextlib.contextmanager
    def mount(self, transport: str) -> Iterator[tuple[Path, int]]:
        """The mount, and the end of the pipe that its stuck reads wait for."""
        receive, send = os.pipe()
        with mountpoint(self.programs) as path:
            command = [sys.executable, SERVER, "mount", transport, str(receive), self.file, path]
            env = {**os.environ, "PYTHONPATH": str(HERE.parent)}
            server = subprocess.Popen(command, env=env, pass_fds=(receive,), stderr=subprocess.DEVNULL)
            os.close(receive)
            try:
                end = time.monotonic() + _PATIENCE
                while device(path) is None:
                    if server.poll() is not None or time.monotonic() > end:
                        raise BenchError(f"no mount through {transport}")
                    time.sleep(0.01)
                run(["ls", path])
                yield path, send
            finally:
                os.close(send)  # what is stuck ends
                unmount(path)
                finish(server, _PATIENCE)

    def once(self, transport: str, stuck: int) -> Mapping[str, float]:
        with self.mount(transport) as (path, pipe), contextlib.ExitStack() as stack:
            readers = []
            for number in range(stuck):
                command = ["head", "-c", "1", path / f"stuck{number}"]
                readers.append(stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL)))
            stack.callback(os.write, pipe, bytes(stuck))  # before they are waited for
            time.sleep(0.3)  # their reads have come to the server
            start, stop, done, _ = map(int, run([self.reader, path / "plain", "0", str(SIZE)]).split())
            if done != SIZE:
                raise BenchError(f"{done} of {SIZE} bytes were read")
            if any(reader.poll() is not None for reader in readers):
                raise BenchError("a read that was to be stuck ended")
        return {"read": (stop - start) / 1e6}

    def measure(self, runs: int) -> tuple[Results, list[Row]]:
        self.prepare()
        tasks: dict[str, Task] = {}
        for transport in TRANSPORTS:
            tasks[f"{transport}, two stuck"] = partial(self.once, transport, 2)
            tasks[f"{transport}, none"] = partial(self.once, transport, 0)
        results = interleave("stuck", tasks, runs)
        return results, [
            compare(
                results, f"a read beside two stuck, {name}", "read", [f"{name}, none"], BAR, ours=f"{name}, two stuck"
            )
            for name in TRANSPORTS
        ]
