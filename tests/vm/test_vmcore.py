"""`vmcore`, the core of the running machine, as drgn, makedumpfile and readelf read it."""

import json
import re
import sys

import pytest
from needs import REPO, need_tools

from vm.kcore import POINT, Kernel, ram

BOTH = pytest.mark.guests("4-level", "5-level")
DRGN = REPO / "tests" / "vm" / "inside" / "by_drgn.py"
VMCORE = f"{POINT}/vmcore"


@BOTH
def test_headers(kernel: Kernel) -> None:
    """Every PT_LOAD has all of its bytes, and RAM its physical address; the notes have VMCOREINFO."""
    need_tools("readelf")
    done = kernel.guest.sh(f"cat /proc/iomem > iomem; readelf -hlnW {VMCORE}")
    assert done.returncode == 0, done
    text = done.stdout.decode()
    assert "CORE (Core file)" in text
    assert re.search(r"VMCOREINFO\s+0x", text)
    loads = re.findall(r"LOAD +0x\w+ 0x(\w+) 0x(\w+) 0x(\w+) 0x(\w+) ", text)
    rows = [tuple(int(field, 16) for field in row) for row in loads]
    assert all(in_file == in_memory > 0 for _, _, in_file, in_memory in rows)
    direct = kernel.address("direct_map")
    found = [(paddr, paddr + size) for vaddr, paddr, size, _ in rows if vaddr - paddr == direct]
    assert sorted(found) == ram((done.directory / "iomem").read_text())


@BOTH
def test_drgn(kernel: Kernel) -> None:
    """What drgn answers of vmcore is what it answers of the running kernel."""
    listed = kernel.guest.run("grep", "-w", "-E", "linux_banner|init_uts_ns|_stext", "/proc/kallsyms")
    symbols = {line.split()[2]: int(line.split()[0], 16) for line in listed.stdout.decode().splitlines()}
    pieces = [
        f"{symbols[name]:#x}:{size}" for name, size in (("linux_banner", 80), ("init_uts_ns", 400), ("_stext", 1 << 20))
    ]
    answers = []
    for image in (VMCORE, "-"):
        done = kernel.guest.run(sys.executable, DRGN, image, *pieces)
        assert done.returncode == 0, done.stderr.decode()
        answers.append(json.loads(done.stdout))
    ours, live = answers
    assert ours["is_kernel"]
    assert ours["release"] == kernel.proc("release").strip()
    assert bytes.fromhex(ours["bytes"][0]) == kernel.proc("version").encode()[:80]
    assert ours["release"].encode() in bytes.fromhex(ours["bytes"][1])
    assert ours == live


@BOTH
def test_makedumpfile(kernel: Kernel) -> None:
    """The kernel's log out of it, and a filtered dump of the whole."""
    need_tools("makedumpfile")
    done = kernel.guest.sh(
        f"""
        dmesg --notime > log
        makedumpfile --dump-dmesg {VMCORE} dmesg || exit
        makedumpfile -c -d 31 {VMCORE} /run/dump || exit
        head -c 13 /run/dump
        rm /run/dump
    """,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    lines = re.sub(r"^\[[^]]*\] ", "", (done.directory / "dmesg").read_text(), flags=re.MULTILINE).splitlines()
    log = (done.directory / "log").read_text().splitlines()
    assert log[:50] == lines[:50]
    assert done.stdout.endswith(b"makedumpfile\0") or b"KDUMP   " in done.stdout
