"""Kernels that were saved, read through the tree and held against what their own /proc and other tools said."""

import importlib.util
import itertools
import json
import lzma
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernels import KERNELS, rebuilt, saved
from mounting import mounted, watchdog
from needs import SHARED, need, need_tools, run

import memfs
from memfs.api import OpenImage
from memfs.errors import AbsentMemory, MemfsError
from memfs.facts import kernel as facts
from memfs.tree.node import File, Link

PAGE = 4096


class Case:
    """A kernel as `exact` (the whole of a kcore, sparse) or `compact` (some of its pages)."""

    def __init__(self, name: str, layout: str, directory: Path) -> None:
        self.name = name
        self.is_exact = layout == "exact"
        self.path = rebuilt(name, directory, layout)
        self.image: OpenImage = memfs.open(self.path)

    def json(self, path: str) -> object:
        return json.loads(self.image.cat(path))

    def node(self, path: str) -> File:
        node = self.image.node(path)
        assert isinstance(node, File)
        return node

    def pages(self) -> Iterator[tuple[int, bytes]]:
        """The memory that was saved: addresses and bytes."""
        runs = json.loads(saved(self.name, "pages.json"))
        data = saved(self.name, "pages.bin.xz")
        at = 0
        for address, size in runs:
            yield int(address, 16), data[at : at + size]
            at += size

    def phdrs(self) -> list[tuple[int, int, int]]:
        """What readelf said of the PT_LOADs: address, physical address, size."""
        text = saved(self.name, "readelf.txt").decode()
        rows = re.findall(r"^ +LOAD +0x\w+ 0x(\w+) 0x(\w+) 0x\w+ 0x(\w+) ", text, re.MULTILINE)
        return [(int(a, 16), int(b, 16), int(c, 16)) for a, b, c in rows]

    def regions(self) -> dict[str, tuple[int, int]]:
        return {r.name: (r.start, r.end) for r in self.image.regions}


def at(node: File, offset: int, size: int) -> bytes:
    reader = node.open()
    buffer = bytearray(size)
    view, done = memoryview(buffer), 0
    while done < size:
        got = reader.readinto(offset + done, view[done:])
        assert got
        done += got
    return bytes(buffer)


@pytest.fixture(scope="module")
def tmpfs() -> Iterator[Path]:
    """The files are 128 TiB long, with holes: no other filesystem takes them."""
    need(Path("/dev/shm").is_dir(), "no /dev/shm")
    need((SHARED / "kernels" / "loader.py").exists(), f"no saved kernels in {SHARED}")
    path = Path(tempfile.mkdtemp(prefix="memfs-test-", dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module", params=itertools.product(KERNELS, ("exact", "compact")), ids="-".join)
def case(request: pytest.FixtureRequest, tmpfs: Path) -> Iterator[Case]:
    case = Case(*request.param, tmpfs)
    yield case
    case.image.close()


@pytest.fixture(scope="module", params=KERNELS)
def exact(request: pytest.FixtureRequest, tmpfs: Path) -> Iterator[Case]:
    case = Case(request.param, "exact", tmpfs)
    yield case
    case.image.close()


# -- what the kernel says of itself ---------------------------------------------------------------------------------


def test_info(case: Case) -> None:
    info = case.json("info.json")
    assert isinstance(info, dict)
    version = saved(case.name, "version.xz").decode()
    text = case.image.cat("vmcoreinfo").decode()
    told = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    assert info["kind"] == "kernel-core"
    assert info["release"] == version.split()[2] == told["OSRELEASE"]
    assert version.endswith(f" {info['version']}\n")
    assert info["build_id"] == told["BUILD-ID"]
    assert info["page_size"] == int(told["PAGESIZE"])
    assert info["page_levels"] == {"amd64": 4, "arm64": 4, "i386": 2}[case.name.split("-")[0]]
    if "KERNELOFFSET" in told:
        assert int(info["kaslr_offset"], 16) == int(told["KERNELOFFSET"], 16)
    if "NUMBER(phys_base)" in told:
        assert int(info["phys_base"], 16) == int(told["NUMBER(phys_base)"])
    else:
        assert info["phys_base"] is None
    assert int(told["SYMBOL(_stext)"], 16) - {"i386": 0xC1000000}.get(case.name.split("-")[0], 0) >= 0
    ram = [size for address, physical, size in case.phdrs() if address - physical == int(info["direct_map"], 16)]
    assert info["ram_bytes"] == (sum(ram) if case.is_exact else None)
    assert info["data_bytes"] == sum(len(data) for _, data in case.pages())


def test_texts(case: Case) -> None:
    assert case.image.cat("version") == saved(case.name, "version.xz")
    assert case.image.cat("cmdline") == saved(case.name, "cmdline")
    notes = case.json("notes.json")
    assert isinstance(notes, list)
    decoded = next(note["desc"]["vmcoreinfo"] for note in notes if note["owner"] == "VMCOREINFO")
    assert decoded["OSRELEASE"] == saved(case.name, "version.xz").decode().split()[2]
    for name in ("iomem", "modules", "vmallocinfo"):  # nobody can tell
        assert name not in case.image.tree.names()


# -- areas ----------------------------------------------------------------------------------------------------------


def test_areas_are_the_program_headers(exact: Case) -> None:
    """Each PT_LOAD in one area; RAM is direct_map, from where physical 0 is."""
    regions = exact.regions()
    nowhere = 0xFFFFFFFF if exact.name.startswith("i386") else (1 << 64) - 1
    for address, physical, size in exact.phdrs():
        homes = [name for name, (start, end) in regions.items() if start <= address and address + size <= end]
        assert homes, hex(address)
        if physical == nowhere:
            assert "direct_map" not in homes
            if "kernel_text" not in homes:
                assert len(homes) == 1
    ram = [(a, p, s) for a, p, s in exact.phdrs() if p != nowhere and a - p == regions["direct_map"][0]]
    assert regions["direct_map"][1] == max(a + s for a, _, s in ram)
    arch = exact.name.split("-")[0]
    want = {"direct_map", "vmalloc"} | (set() if arch == "i386" else {"vmemmap", "modules", "kernel_text"})
    assert set(regions) == want
    for name in regions:
        link = exact.image.tree.lookup("segments").lookup(name)
        assert isinstance(link, Link)
        assert link.target == f"../regions/{name}"
    lines = exact.image.cat("maps").decode().splitlines()
    assert [line.split()[-1] for line in lines] == [f"[{name}]" for name in regions]
    assert [line.split()[0] for line in lines] == [f"{start:08x}-{end:08x}" for start, end in regions.values()]


def test_areas_of_some_pages_are_those_that_are_mapped(tmpfs: Path) -> None:
    """A dump without most PT_LOADs: its page tables say what there was."""
    for name in ("amd64-6.1", "amd64-5.10"):
        whole, some = Case(name, "exact", tmpfs), Case(name, "compact", tmpfs)
        large = whole.regions()
        for area, (start, end) in some.regions().items():
            assert large[area][0] <= start < end <= large[area][1] + 1, area
        assert set(some.regions()) == set(large)


# -- bytes ----------------------------------------------------------------------------------------------------------


def test_every_page_at_its_address(case: Case) -> None:
    low = int(case.node("mem").xattrs()["user.memfs.address"], 16)
    for address, data in case.pages():
        assert case.image.read(address, len(data)) == data
        assert at(case.node(f"at/{address:#x}:{len(data)}"), 0, len(data)) == data
        assert at(case.node("mem"), address - low, PAGE) == data[:PAGE]
        area = next(r for r in reversed(case.image.regions) if r.start <= address < r.end)
        assert at(case.node(f"regions/{area.name}"), address - area.start, len(data)) == data


def test_physical_memory_is_the_direct_map(case: Case) -> None:
    base = case.regions()["direct_map"][0]
    size = case.regions()["direct_map"][1] - base
    attributes = case.node("regions/direct_map").xattrs()
    assert int(attributes["user.memfs.address"], 16) == base
    assert attributes["user.memfs.physical"] == "0x0"
    text = {a: p for a, p, _ in case.phdrs() if a != base and a - p != base and p >> 40 == 0}
    found = 0
    for address, data in case.pages():
        offset = address - base
        if 0 <= offset < size:
            assert at(case.node("phys"), offset, len(data)) == data
            found += 1
        for start, physical in text.items():  # kernel text is the same memory, and stored here under one of its names
            if case.is_exact and case.name.startswith("amd64") and 0 <= address - start < 64 << 20:
                assert at(case.node("phys"), physical + address - start, len(data)) == data
                found += 1
    assert found
    if case.is_exact:
        assert case.node("phys").stat().size == size


def test_what_is_not_there(case: Case) -> None:
    """Between RAM: zeros in what is complete, no bytes in what a dump tool left over; nothing at all in mem and at/."""
    base = case.regions()["direct_map"][0]
    if case.name.startswith("i386"):
        hole = case.regions()["direct_map"][1] + PAGE
    else:
        hole = base + (0xA0000 if case.name.startswith("amd64") else 0)
        if case.is_exact:
            assert at(case.node("regions/direct_map"), hole - base, PAGE) == bytes(PAGE)
            assert at(case.node("phys"), hole - base, PAGE) == bytes(PAGE)
        else:
            with pytest.raises(AbsentMemory):
                at(case.node("phys"), hole - base, PAGE)
    with pytest.raises(MemfsError):
        case.node(f"at/{hole:#x}:16")
    with pytest.raises(AbsentMemory):
        case.image.read(hole, 1)


# -- page tables ----------------------------------------------------------------------------------------------------

STACKS = 4 * 16384
UNLISTED = re.compile(r"unpurged|vm_map_ram|phys=|ioremap")


def test_mapped_memory_is_in_vmallocinfo(exact: Case) -> None:
    """Every mapped range of vmalloc and modules lies in a line of the kernel's own /proc/vmallocinfo, and every line
    that is memory has mapped pages."""
    lines = re.findall(r"^0x(\w+)-0x(\w+) +\d+ (.*)$", saved(exact.name, "vmallocinfo").decode(), re.MULTILINE)
    listed = sorted((int(start, 16), int(end, 16), what) for start, end, what in lines)
    kernel = facts.source(exact.image.image)
    tables = kernel.tables
    mapped = []
    for name, (start, end) in exact.regions().items():
        if name in ("vmalloc", "modules"):
            mapped += [(piece.start, piece.end) for piece in tables.ranges(start, end)]
    assert len(mapped) > 20
    text = exact.regions().get("kernel_text", (0, 0))
    outside = 0
    for start, end in mapped:
        position = start
        for low, high, _ in listed:
            if low <= position < high:
                position = high
        if position < end and not text[0] <= start < text[1]:
            outside += end - position
    assert outside <= STACKS, "the sample is of moments later: two processes began"
    pages = [what for low, high, what in listed if "pages=" in what and not UNLISTED.search(what)]
    empty = [
        what
        for low, high, what in listed
        if "pages=" in what and not UNLISTED.search(what) and not any(s < high and low < e for s, e in mapped)
    ]
    assert len(empty) < len(pages) / 10, empty  # stacks that were just freed


def test_modules_are_mapped(exact: Case) -> None:
    tables = facts.source(exact.image.image).tables
    for line in saved(exact.name, "modules").decode().splitlines():
        address = int(line.split()[5], 16)
        assert next(tables.ranges(address, address + 1), None), line


# -- vmcore ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vmcore(tmpfs: Path) -> Iterator[Path]:
    """vmcore of amd64-6.1, copied with its holes."""
    source, path = rebuilt("amd64-6.1", tmpfs, "exact"), tmpfs / "vmcore"
    done = run("python3", "-m", "memfs", "cp", source, "vmcore", path, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done
    yield path


def test_vmcore_headers(vmcore: Path) -> None:
    need_tools("readelf")
    text = run("readelf", "-hlnW", vmcore).stdout.decode()
    assert "CORE (Core file)" in text
    assert re.search(r"VMCOREINFO\s+0x", text)
    rows = [
        tuple(int(field, 16) for field in row)
        for row in re.findall(r"LOAD +0x\w+ 0x(\w+) 0x(\w+) 0x(\w+) 0x(\w+) ", text)
    ]
    source = [(a, p, s, s) for a, p, s in Case("amd64-6.1", "exact", vmcore.parent).phdrs() if p >> 48 == 0]
    assert rows == source


def test_vmcore_is_an_image_again(vmcore: Path) -> None:
    """Without a PT_LOAD for vmalloc: the page tables in it lead there."""
    case = Case("amd64-6.1", "exact", vmcore.parent)
    with memfs.open(vmcore) as image:
        info = json.loads(image.cat("info.json"))
        assert (info["kind"], info["format"]) == ("kernel-core", "ELF64 vmcore")
        assert info["ram_bytes"] == 1073209344
        assert set(case.regions()) == {region.name for region in image.regions}
        assert image.cat("kallsyms") == case.image.cat("kallsyms")
        for address, data in case.pages():
            if address < 0xFFFFFFFFC0000000:
                assert image.read(address, len(data)) == data
        first = next(region for region in image.regions if region.name == "vmalloc")
        tables = facts.source(image.image).tables
        piece = next(tables.ranges(first.start, first.end))
        direct = next(region for region in image.regions if region.name == "direct_map").start
        size = piece.end - piece.start
        assert image.read(piece.start, size) == image.read(direct + piece.physical, size)


def test_drgn_reads_vmcore(vmcore: Path) -> None:
    need(importlib.util.find_spec("drgn") is not None, "no drgn (pip install drgn)")
    code = """
import sys, drgn
from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms
program = drgn.Program()
program.set_core_dump(sys.argv[1])
assert program.flags & drgn.ProgramFlags.IS_LINUX_KERNEL
program.register_symbol_finder("kallsyms", load_vmlinux_kallsyms(program), enable_index=0)
for name in sys.argv[2:]:
    address = program.symbol(name).address
    print(name, hex(address), program.read(address, 16).hex())
"""
    names = ("linux_banner", "init_uts_ns", "vmalloc_base")
    done = subprocess.run([sys.executable, "-c", code, vmcore, *names], capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    said = lzma.decompress((SHARED / "kernels/amd64-6.1/drgn.txt.xz").read_bytes()).decode()  # of the live kernel
    for line in done.stdout.decode().splitlines():
        name, address, data = line.split()
        match = re.search(rf"^{name} (0x\w+) size \d+ (\w+)$", said, re.MULTILINE)
        if match:
            assert (address, data) == match.groups()
    assert "linux_banner" in done.stdout.decode()


def test_volatility_reads_vmcore(vmcore: Path, tmp_path: Path) -> None:
    """volatility3 stacks its layer for ELF on it, and finds the banner at its physical address."""
    need(importlib.util.find_spec("volatility3") is not None, "no volatility3 (pip install volatility3)")
    code = "import sys, volatility3.cli; sys.argv[0] = 'vol'; sys.exit(volatility3.cli.main())"
    options = ["--offline", "--cache-path", tmp_path, "-vv", "-r", "json"]
    command = [sys.executable, "-c", code, *options, "-f", vmcore, "banners.Banners"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Stacked layers: ['Elf64Layer', 'FileLayer']" in done.stderr
    lines = saved("amd64-6.1", "kallsyms.xz").splitlines()
    address = next(int(line.split()[0], 16) for line in lines if line.endswith(b" linux_banner"))
    text = next(load for load in Case("amd64-6.1", "exact", vmcore.parent).phdrs() if load[0] <= address)
    found = {row["Offset"]: row["Banner"] for row in json.loads(done.stdout[done.stdout.index(b"[") :])}
    assert found[address - text[0] + text[1]] == saved("amd64-6.1", "version.xz").decode().rstrip("\n")


# -- a mount --------------------------------------------------------------------------------------------------------


@pytest.mark.needs("seek")
def test_a_mount(tmpfs: Path, point: Path) -> None:
    """Sparse copies of 32 TiB end, and so does du; bytes are those of the image."""
    case = Case("amd64-6.1", "exact", tmpfs)
    with mounted(case.path, point), watchdog(point):
        done = run("du", "-k", point / "regions/vmalloc", point / "regions/direct_map", timeout=60)
        assert done.returncode == 0, done
        done = run("cp", "--sparse=always", point / "segments/modules", tmpfs / "copy", timeout=60)
        assert done.returncode == 0, done
        with (tmpfs / "copy").open("rb") as copy:
            for address, data in case.pages():
                offset = address - 0xFFFFFFFFC0000000
                if offset >= 0:
                    copy.seek(offset)
                    assert copy.read(len(data)) == data
        assert (tmpfs / "copy").stat().st_blocks * 512 <= 1 << 20
        done = run("readelf", "-lW", point / "vmcore", timeout=60)
        assert done.returncode == 0
        assert b"There are 4 program headers" in done.stdout
        assert (point / "info").read_bytes() == case.image.cat("info")
