"""A process that has mapped a file of the mount that looks at it: nobody waits for himself."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mounting import memfs, mounted
from needs import need_fuse, run

pytestmark = [pytest.mark.xdist_group("live"), pytest.mark.usefixtures("point")]

MAPS = """
import mmap, os, sys, time
print("ready", flush=True)
path = sys.stdin.readline().rstrip("\\n")
fd = os.open(path, os.O_RDONLY)
mapped = mmap.mmap(fd, 1 << 16, mmap.MAP_PRIVATE, mmap.PROT_READ)
print("mapped", flush=True)
time.sleep(600)
"""


@contextmanager
def mapping() -> Iterator["subprocess.Popen[str]"]:
    """A process that maps the file whose name comes from stdin."""
    command = [sys.executable, "-c", MAPS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("lazily", [False, True])
def test_it_maps_its_own_memory(point: Path, lazily: bool) -> None:
    """What is mapped of the mount itself is absent, at once; also when it is mounted no more."""
    need_fuse()
    with mapping() as process:
        assert process.stdin and process.stdout
        with mounted(process.pid, point) as root:
            heap = root / "regions" / "heap"
            process.stdin.write(f"{heap}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "mapped\n"
            maps = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
            start = next(int(line.split("-")[0], 16) for line in maps if line.endswith(str(heap)))
            begin = time.monotonic()
            read = run("dd", f"if={root}/mem", "bs=4096", "count=1", f"skip={start // 4096}", timeout=30)
            assert b"No data available" in read.stderr
            listed = run("ls", "-lsR", root / "segments", root / "regions", timeout=30)
            assert listed.returncode == 0, listed.stderr
            assert b"heap.rodata" in listed.stdout
            assert time.monotonic() - begin < 25  # one that waits for itself would end by a timeout of 30
            if lazily:
                with open(root / "mem", "rb", buffering=0) as memory:
                    assert memfs("umount", "-l", point).returncode == 0
                    memory.seek(start)
                    with pytest.raises(OSError, match="No data"):
                        memory.read(4096)
            process.kill()
            process.wait()
