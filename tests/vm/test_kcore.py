"""The running kernel's memory through a mount of /proc/kcore, against what the same kernel says of itself."""

import json
import re
import sys
from typing import Any, NamedTuple

import pytest

from vm.kcore import PAGE, POINT, PROBE, TEXTS, Kernel, ram

BOTH = pytest.mark.guests("4-level", "5-level")
SOME = 4 << 20
FAR = 256 << 20  # a physical address that is RAM
AREAS = ("direct_map", "kernel_text", "modules", "vmalloc", "vmemmap")


@BOTH
def test_texts_are_those_of_proc(kernel: Kernel) -> None:
    assert kernel.refused == ""
    assert all(kernel.memfs(name) for name in TEXTS)
    assert kernel.probe("texts", POINT, *TEXTS) == []


@BOTH
def test_info(kernel: Kernel) -> None:
    info, said = kernel.info, kernel.vmcoreinfo
    assert info["kind"] == "kernel"
    assert info["arch"] == "x86_64"
    assert info["release"] == kernel.proc("release").strip() == said["OSRELEASE"]
    assert info["version"] in kernel.proc("version")
    assert info["page_levels"] == 4 + int(said["NUMBER(pgtable_l5_enabled)"])
    assert info["page_levels"] == (5 if kernel.guest.machine.five_levels else 4)
    assert info["page_size"] == PAGE
    assert int(info["kaslr_offset"], 16) == int(said["KERNELOFFSET"], 16)
    assert int(info["phys_base"], 16) == int(said["NUMBER(phys_base)"])
    assert info["ram_bytes"] == sum(end - start for start, end in kernel.ram())
    assert bytes.fromhex(info["build_id"]) in (kernel.directory / "proc" / "notes").read_bytes()
    assert info["cpus"] == int(kernel.proc("nproc"))


@BOTH
def test_areas(kernel: Kernel) -> None:
    """Each load of /proc/kcore is in an area, and each area is a link in segments/."""
    assert set(AREAS) == set(kernel.regions)
    assert kernel.memfs("regions").split() == sorted(AREAS, key=kernel.address)
    for area in AREAS:
        assert f" {area} -> " in kernel.memfs("segments")
    ends = {name: kernel.address(name) + row["size"] for name, row in kernel.regions.items()}
    for vaddr, _, _, size in kernel.loads:
        assert [name for name in AREAS if kernel.address(name) <= vaddr and vaddr + size <= ends[name]]
    bases = {vaddr - paddr for vaddr, paddr, _, _ in kernel.loads if vaddr < kernel.address("vmalloc") and paddr + 1}
    assert {kernel.address("direct_map")} <= bases
    assert kernel.address("kernel_text") == int(kernel.vmcoreinfo["SYMBOL(_stext)"], 16)


@BOTH
def test_direct_map_has_what_is_ram(kernel: Kernel) -> None:
    for path in ("regions/direct_map", "phys"):
        found = kernel.probe("runs", f"{POINT}/{path}")
        assert [tuple(run) for run in found["runs"]] == kernel.ram()
        assert found["size"] == kernel.ram()[-1][1]


@BOTH
def test_pages_of_a_program_are_where_their_frames_are(kernel: Kernel) -> None:
    """The one oracle that knows every byte: a process that wrote them."""
    paths = f"{POINT}/regions/direct_map", f"{POINT}/phys"
    found = kernel.probe("planted", *paths)
    assert found["pages"] >= 256
    assert found["wrong"] == dict.fromkeys(paths, 0)


def compared(kernel: Kernel, wanted: list[tuple[str, int, int, int]]) -> Any:
    """Files of the mount, each from an offset on, against /proc/kcore from an address on, so many bytes."""
    return kernel.probe("compare", *(f"{POINT}/{path}:{at}:{address}:{size}" for path, at, address, size in wanted))


def compared_again(kernel: Kernel, different: list[tuple[str, str]], base: int) -> Any:
    """Those of some pages (path and address, of files that begin with address `base`) that are different once more."""
    wanted = [(path.removeprefix(f"{POINT}/"), int(page, 16) - base, int(page, 16), PAGE) for path, page in different]
    return compared(kernel, wanted)["different"] if wanted else []


@BOTH
def test_bytes_are_those_of_kcore(kernel: Kernel) -> None:
    text, direct = kernel.address("kernel_text"), kernel.address("direct_map")
    physical = text - kernel.loads[0][0] + kernel.loads[0][1]  # the first load is the text's
    attributes = kernel.memfs("addresses").partition("/mem\n")[2]
    lowest = int(attributes.split('"')[1], 16)
    wanted = [("regions/direct_map", 0x1000, direct + 0x1000, 0x9000), ("phys", FAR, direct + FAR, SOME)]
    different = compared(kernel, wanted)["different"]
    for _ in range(3):  # a page that memfs itself uses is another one while it answers: of the next memfs, another is
        if not different:
            break
        kernel.remount()
        different = compared_again(kernel, different, direct)
    assert different == []
    wanted = []
    for start, end in kernel.constant():
        size = min(end - start, SOME)
        wanted += [
            ("regions/kernel_text", start - text, start, end - start),
            ("regions/direct_map", physical + start - text, direct + physical + start - text, size),
            ("mem", start - lowest, start, size),
            (f"at/{start:#x}-{start + size:#x}", 0, start, size),
        ]
    assert compared(kernel, wanted)["unlike"] == []


@BOTH
def test_bytes_that_change(kernel: Kernel) -> None:
    """Variables, too; but a lock that belongs to who reads /proc/kcore is another with memfs."""
    text = kernel.address("kernel_text")
    wanted = [("regions/kernel_text", start - text, start, end - start) for start, end in kernel.variables()]
    found = compared(kernel, wanted)
    different = found["different"]
    for _ in range(3):  # of what changed and changed back, other pages each time
        different = compared_again(kernel, different, text)
    assert len(different) < 10, different
    assert found["pages"] > 1000, "this compares something"
    assert found["busy"] < found["pages"] / 10


@BOTH
def test_readers_at_once(kernel: Kernel) -> None:
    """One descriptor of /proc/kcore mixes what is read through it at once."""
    start, end = kernel.constant()[0]
    offset = start - kernel.address("kernel_text")
    found = kernel.probe("threads", f"{POINT}/regions/kernel_text", offset, start, min(end - start, 2 * SOME))
    assert found["wrong"] == 0
    assert found["reads"] > 100


class Listed(NamedTuple):
    """A line of /proc/vmallocinfo."""

    start: int
    end: int
    what: str


def vmallocinfo(text: str) -> list[Listed]:
    lines = re.findall(r"^0x([0-9a-f]+)-0x([0-9a-f]+) +\d+ (.*)$", text, re.MULTILINE)
    return [Listed(int(start, 16), int(end, 16), what) for start, end, what in lines]


def uncovered(start: int, end: int, by: list[Listed]) -> int:
    """How many bytes of [start, end) lie in no area."""
    left = 0
    for area in sorted(by):
        if area.start < end and area.end > start:
            left += max(0, area.start - start)
            start = min(end, area.end)
    return left + end - start


UNMAPPED = re.compile("unpurged|vm_map_ram|ioremap|phys=")
"""Areas that need not be mapped, or are device memory."""


@BOTH
def test_what_is_mapped_of_vmalloc(kernel: Kernel) -> None:
    """All data of vmalloc lies in areas of /proc/vmallocinfo, all of these have data, and a sparse copy ends."""
    done = kernel.guest.sh(
        f"""
        cat /proc/vmallocinfo > before
        {sys.executable} {PROBE} runs {POINT}/regions/vmalloc > runs
        cat /proc/vmallocinfo > after
        cp --sparse=always {POINT}/regions/vmalloc /run/copy
        du -k /run/copy {POINT}/regions/vmalloc
        rm /run/copy
    """,
        timeout=180,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    start = kernel.address("vmalloc")
    end = start + kernel.regions["vmalloc"]["size"]
    before, after = (vmallocinfo((done.directory / name).read_text()) for name in ("before", "after"))
    runs = [(low + start, high + start) for low, high in json.loads((done.directory / "runs").read_text())["runs"]]
    assert len(runs) > 20
    assert [f"{low:#x}-{high:#x}" for low, high in runs if uncovered(low, high, before + after)] == []
    steady = [area for area in set(before) & set(after) if start <= area.start < end]
    without = [area for area in steady if not any(low < area.end and area.start < high for low, high in runs)]
    assert [area for area in without if not UNMAPPED.search(area.what)] == []
    copied, seen = (int(line.split()[0]) for line in done.stdout.decode().splitlines())  # KiB
    assert 0 < copied < 64 << 10
    assert 0 < seen < 64 << 10


@BOTH
def test_modules_are_mapped(kernel: Kernel) -> None:
    """Every module of /proc/modules is data in the area of modules."""
    base = kernel.address("modules")
    runs = [(start + base, end + base) for start, end in kernel.probe("runs", f"{POINT}/regions/modules")["runs"]]
    for line in kernel.proc("modules").splitlines():
        address = int(line.split()[5], 16)
        assert any(start <= address < end for start, end in runs), line


@BOTH
def test_memory_that_is_plugged_in(kernel: Kernel) -> None:
    """Headers are read again: the mount shows the memory, and what was there before is where it was."""
    guest = kernel.guest
    before = kernel.ram()
    guest.plug_memory(256)
    done = guest.sh("""
        for i in $(seq 50); do
            grep -l offline /sys/devices/system/memory/memory*/state && break
            sleep 0.2
        done
        for state in $(grep -l offline /sys/devices/system/memory/memory*/state); do echo online > $state; done
        cat /proc/iomem > iomem
    """)
    now = ram((done.directory / "iomem").read_text())
    assert sum(end - start for start, end in now) == sum(end - start for start, end in before) + (256 << 20)
    found = kernel.probe("runs", f"{POINT}/regions/direct_map")
    assert [tuple(run) for run in found["runs"]] == now
    start, direct = now[-1][0], kernel.address("direct_map")
    text = kernel.address("kernel_text")
    wanted = (
        f"{POINT}/regions/direct_map:{start}:{direct + start}:{1 << 20}",
        f"{POINT}/phys:{start}:{direct + start}:{1 << 20}",
        f"{POINT}/regions/kernel_text:0:{text}:{1 << 20}",
    )
    assert kernel.probe("compare", *wanted)["different"] == []
