"""Cores of many machines and systems, mounted: everything can be listed, probes hold through mem and segments."""

import json
import lzma
import os
from pathlib import Path

import pytest
from mounting import mounted
from needs import SHARED, need_corpus, run

CORES = (
    "lldb-linux-i386-4b63cd", "rizin-core-linux-arm32", "elfutils-core.bash", "elfutils-backtrace.s390x-30e871",
    "elfutils-testfile-x32-core", "bsi-bsi-369ea7", "lldb-2lwp_process_SIGSEGV.aarch64", "crush-a.out",
    "OberonCompiler-bin-core", "COEN320_project-out", "elfutils-POC", "lldb-x86-64-linux-multithread",
)  # fmt: skip
LARGE = ("r2-core65k", "elfutils-testfile-phdrs.elf")


def unpack(name: str, directory: Path) -> tuple[Path, dict[str, object]]:
    path = directory / f"{name}.core"
    path.write_bytes(lzma.decompress((SHARED / "corpus" / f"{name}.core.xz").read_bytes()))
    return path, json.loads((SHARED / "corpus" / f"{name}.json").read_text())


@pytest.mark.parametrize("name", CORES + LARGE)
def test_mounted(name: str, tmp_path: Path) -> None:
    need_corpus()
    path, oracle = unpack(name, tmp_path)
    with mounted(path, tmp_path / "m") as point:
        where = ["notes", "headers", "threads"] if name in LARGE else ["."]
        done = run("find", *where, "-ls", cwd=point, timeout=80)
        assert done.returncode == 0, done.stderr.decode()
        assert run("ls", "segments", cwd=point, timeout=60).returncode == 0
        probes = oracle["probes"] or []
        assert isinstance(probes, list)
        names = {int(n.split("-")[0]): n for n in os.listdir(point / "segments")}
        mem = os.open(point / "mem", os.O_RDONLY)
        for probe in probes:
            address, want = int(probe["vaddr"], 16), bytes.fromhex(probe["hex"])
            if address < (1 << 63) - 4096:
                assert os.pread(mem, len(want), address) == want, probe
            start = int(os.getxattr(point / "segments" / names[probe["seg"]], "user.memfs.address"), 16)
            fd = os.open(point / "segments" / names[probe["seg"]], os.O_RDONLY)
            assert os.pread(fd, len(want), address - start) == want, probe
            os.close(fd)
        os.close(mem)
        if name not in LARGE:
            files = [info for info in point.rglob("*") if info.suffix in (".txt", ".json") or info.name == "info"]
            assert len(files) >= 8
            assert all(file.read_bytes() for file in files)
