"""Kernel images that are old, odd, damaged or alive: made by hand, each for what it is about."""

import contextlib
import json
import os
import random
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from makekernel import FORMATS, NOWHERE, Load, Note, Tables, core, vmcoreinfo

import memfs
from memfs.api import OpenImage
from memfs.backends import kcore_live, kcore_refusal
from memfs.errors import AbsentMemory, MemfsError
from memfs.io.kcore import Kcore, Replaced
from memfs.tree import options
from memfs.tree.node import File, Policy, Reader

X86_64, I386, ARM64, S390 = 62, 3, 183, 22
PAGE = 4096
KCORE_NOTES = (Note(b"CORE", 1, bytes(336)), Note(b"CORE", 3, bytes(40) + b"vmlinux\0".ljust(96, b"\0")),
               Note(b"CORE", 4, b"\x01" * 100))  # fmt: skip


def opened(path: Path, data: bytes) -> OpenImage:
    path.write_bytes(data)
    return memfs.open(path)


def info(image: OpenImage) -> dict[str, object]:
    found: dict[str, object] = json.loads(image.cat("info.json"))
    return found


def regions(image: OpenImage) -> dict[str, tuple[int, int]]:
    return {region.name: (region.start, region.end) for region in image.regions}


def page(letter: bytes) -> bytes:
    return letter * PAGE


# -- what is a kernel -------------------------------------------------------------------------------------------------


def test_kernel_or_process(tmp_path: Path) -> None:
    kernel = [Load(0xFFFF888000001000, 0x1000, page(b"a")), Load(0xFFFFFFFF81000000, 0x1000000, page(b"b"))]
    user = [Load(0x400000, 0, page(b"a")), Load(0x7FFC00000000, 0, page(b"b"))]
    for name, loads, notes, kind in (
        ("vmcoreinfo", user, [vmcoreinfo()], "kernel-core"),
        ("kcore before 4.19", kernel, KCORE_NOTES, "kernel-core"),
        ("no notes", kernel, [], "kernel-core"),
        ("a machine", [Load(0, 0, page(b"a")), Load(0, 1 << 32, page(b"b"))], [Note(b"QEMU", 0, bytes(400))],
         "kernel-core"),
        ("a process", user, [Note(b"CORE", 1, bytes(336))], "process-core"),
        ("a process with vsyscall", [*user, Load(0xFFFFFFFFFF600000, 0, page(b"v"))], [], "process-core"),
        ("vsyscall alone", [Load(0xFFFFFFFFFF600000, 0, page(b"v"))], [], "process-core"),
        ("a note that says so", user, [Note(b"CORE", 3, bytes(40) + b"vmlinux\0")], "process-core"),
    ):  # fmt: skip
        with opened(tmp_path / "core", core(X86_64, 64, "<", loads, notes)) as image:
            assert info(image)["kind"] == kind, name


# -- old and odd program headers --------------------------------------------------------------------------------------


def test_physical_addresses_of_zero(tmp_path: Path) -> None:
    """Before 4.11: p_paddr says nothing. RAM is what lies below vmalloc; without KASLR, and moved by whole GiB."""
    for base in (0xFFFF880000000000, 0xFFFF8A3340000000):
        vmalloc = 0xFFFFC90000000000 if base == 0xFFFF880000000000 else 0xFFFFA4A4C0000000
        loads = [
            Load(0xFFFFFFFF81000000, 0, page(b"t")),
            Load(vmalloc, 0, page(b"v"), (1 << 45) - 1),
            Load(0xFFFFFFFFA0000000, 0, page(b"m")),
            Load(base + 0x1000, 0, page(b"1") + page(b"2")),
            Load(base + 0x100000, 0, page(b"3")),
            Load(vmalloc + (33 << 40), 0, page(b"x")),
        ]
        with opened(tmp_path / "kcore", core(X86_64, 64, "<", loads, KCORE_NOTES)) as image:
            found = regions(image)
            assert found["direct_map"] == (base, base + 0x101000)
            assert found["vmalloc"] == (vmalloc, vmalloc + (1 << 45) - 1)
            assert found["modules"][0] == 0xFFFFFFFFA0000000
            assert found["vmemmap"][0] == vmalloc + (33 << 40)
            assert found["kernel_text"][0] == 0xFFFFFFFF81000000
            phys = image.node("phys")
            assert isinstance(phys, File)
            buffer = bytearray(PAGE)
            for at, letter in ((0x1000, b"1"), (0x2000, b"2"), (0x100000, b"3")):
                assert phys.open().readinto(at, memoryview(buffer)) == PAGE
                assert buffer == page(letter)
            assert any("VMCOREINFO" in warning for warning in info(image)["warnings"])
            assert info(image)["kaslr_offset"] == "0x0"


def test_five_levels(tmp_path: Path) -> None:
    base, vmalloc = 0xFF36C4E480000000, 0xFF65C6BC40000000
    loads = [
        Load(0xFFFFFFFF86400000, 0xEC00000, page(b"t")),
        Load(vmalloc, NOWHERE, page(b"v"), 0x31FFFFFFFFFFFF),
        Load(0xFFFFFFFFC0000000, NOWHERE, page(b"m"), 0x3F000000),
        Load(base + 0x1000, 0x1000, page(b"r")),
        Load(0xFFBA6A5B80000000, NOWHERE, page(b"x")),
    ]
    notes = [vmcoreinfo("NUMBER(pgtable_l5_enabled)=1", "NUMBER(KERNEL_IMAGE_SIZE)=1073741824",
                        "NUMBER(phys_base)=-715128832", "KERNELOFFSET=5400000")]  # fmt: skip
    with opened(tmp_path / "kcore", core(X86_64, 64, "<", loads, [*KCORE_NOTES, *notes])) as image:
        said = info(image)
        assert (said["page_levels"], said["kaslr_offset"], said["phys_base"]) == (5, "0x5400000", "-0x2aa00000")
        assert list(regions(image)) == ["direct_map", "vmalloc", "vmemmap", "kernel_text", "modules"]
        assert regions(image)["vmalloc"] == (vmalloc, vmalloc + 0x31FFFFFFFFFFFF)
        node = image.node("regions/vmalloc")
        assert isinstance(node, File)
        assert node.stat().size == 0x31FFFFFFFFFFFF
        assert image.node("mem").xattrs()["user.memfs.address"] == "0xff00000000000000"


def test_the_first_of_overlapping_loads_wins(tmp_path: Path) -> None:
    """arm64 maps its text within vmalloc, and lists it first."""
    loads = [
        Load(0xFFFFA00010000000, 0x40200000, page(b"t")),
        Load(0xFFFFA0000FFFF000, NOWHERE, page(b"v") * 3),
        Load(0xFFFF000000000000, 0x40000000, page(b"r")),
    ]
    notes = [vmcoreinfo("NUMBER(VA_BITS)=48", "NUMBER(VMALLOC_START)=0xffff800008000000",
                        "NUMBER(VMALLOC_END)=0xfffffbfff0000000")]  # fmt: skip
    with opened(tmp_path / "kcore", core(ARM64, 64, "<", loads, [*KCORE_NOTES, *notes])) as image:
        assert image.read(0xFFFFA00010000000 - PAGE, 3 * PAGE) == page(b"v") + page(b"t") + page(b"v")
        assert regions(image)["direct_map"][0] == 0xFFFF000000000000 - 0x40000000
        assert set(regions(image)) == {"direct_map", "kernel_text", "vmalloc"}
        second = image.segments[2 if image.segments[0].type == 4 else 1]
        assert image.cat(f"segments/{second.number:03d}-{second.address:016x}-rwx") == page(b"v") * 3


def test_s390x(tmp_path: Path) -> None:
    """RAM is where it is: p_vaddr and p_paddr 0. Big endian."""
    loads = [
        Load(0x37FFFD00000, NOWHERE, page(b"v"), 0x7F80000000),
        Load(0x3FF7FD00000, NOWHERE, page(b"m"), 0x80000000),
        Load(0, 0, page(b"0") + page(b"1")),
        Load(0x37200000000, NOWHERE, page(b"x")),
    ]
    notes = [*KCORE_NOTES, vmcoreinfo("PAGESIZE=4096", "KERNELOFFSET=0")]
    with opened(tmp_path / "kcore", core(S390, 64, ">", loads, notes)) as image:
        assert list(regions(image)) == ["direct_map", "vmemmap", "vmalloc", "modules"]
        assert image.read(0x1000, 16) == b"1" * 16
        assert (info(image)["arch"], info(image)["byte_order"]) == ("s390x", "big")


def test_a_machine_without_virtual_addresses(tmp_path: Path) -> None:
    """What a virtual machine writes without paging: RAM alone. The page tables in it say where it is mapped."""
    tables = Tables(FORMATS["x86_64 4"], 0x2000)
    text, vmalloc, base = 0xFFFFFFFF81000000, 0xFFFFC90000000000, 0xFFFF888000000000
    tables.map(text, 0x200000 * 8, 0x200000)
    tables.map(vmalloc + 0x5000, 0x1000, PAGE)
    tables.map(base, 0, 0x40000000)
    ram = bytearray(0x2000) + tables.memory
    ram[0x1000:0x2000] = page(b"V")
    loads = [Load(0, 0, bytes(ram)), Load(0, 0x1000000, page(b"T"))]
    notes = [Note(b"QEMU", 0, bytes(400)), vmcoreinfo(
        f"SYMBOL(swapper_pg_dir)={0xFFFFFFFF80000000 + tables.top:x}", "NUMBER(phys_base)=0"
    )]  # fmt: skip
    with opened(tmp_path / "vmcore", core(X86_64, 64, "<", loads, notes)) as image:
        assert image.read(vmalloc + 0x5000, PAGE) == page(b"V")
        assert image.read(text, PAGE) == page(b"T")
        assert {"kernel_text", "vmalloc"} <= set(regions(image))
        node = image.node("phys")
        assert isinstance(node, File)
        assert image.cat("at/0xffffffff81000000:4") == b"TTTT"
        with pytest.raises(MemfsError):
            image.node(f"at/{vmalloc:#x}:4")


def test_headers_beyond_32_kib(tmp_path: Path) -> None:
    """Each range of RAM takes 112 bytes of /proc/kcore's headers."""
    base = 0xFFFF888000000000
    loads = [Load(base + i * 0x10000, i * 0x10000, bytes([i & 255]) * 16) for i in range(900)]
    with opened(tmp_path / "kcore", core(X86_64, 64, "<", loads, [vmcoreinfo()])) as image:
        assert len(image.segments) == 901
        assert image.read(base + 899 * 0x10000, 16) == bytes([899 & 255]) * 16
        assert info(image)["ram_bytes"] == 900 * 16


def test_registers_of_processors(tmp_path: Path) -> None:
    """PRSTATUS of each CPU in a crash dump; that of /proc/kcore is of zeros, and of none."""
    first = bytes(112) + struct.pack("<27Q", *range(27)) + bytes(8)
    loads = [Load(0xFFFF888000000000, 0, page(b"r"))]
    notes = [Note(b"CORE", 1, first), Note(b"CORE", 1, first.replace(b"\x01", b"\x09")), vmcoreinfo()]
    with opened(tmp_path / "vmcore", core(X86_64, 64, "<", loads, notes)) as image:
        assert list(image.node("cpus").names()) == ["0", "1"]
        assert json.loads(image.cat("cpus/0/registers.json"))["r14"] == "0x1"
        assert json.loads(image.cat("cpus/1/registers.json"))["r14"] == "0x9"
        assert image.cat("cpus/0/registers") == first[112:328]
        assert info(image)["cpus"] == 2
        assert image.cat("vmcore").count(b"CORE\0") == 2
    with opened(tmp_path / "kcore", core(X86_64, 64, "<", loads, [*KCORE_NOTES, vmcoreinfo()])) as image:
        assert "cpus" not in image.tree.names()


# -- damaged ----------------------------------------------------------------------------------------------------------


def sample() -> bytes:
    tables = Tables(FORMATS["x86_64 4"], 0x2000)
    tables.map(0xFFFFC90000000000, 0x1000, PAGE)
    tables.map(0xFFFFFFFF81000000, 0x200000, 0x200000)
    loads = [
        Load(0xFFFFFFFF81000000, 0x200000, b"Linux version 9.9.9-test (a) #1 SMP\n\0".ljust(PAGE, b"\0")),
        Load(0xFFFF888000000000, 0, bytes(0x2000) + bytes(tables.memory)),
    ]
    root = 0xFFFF888000000000 + tables.top
    notes = [vmcoreinfo(f"SYMBOL(swapper_pg_dir)={root:x}", "SYMBOL(_stext)=ffffffff81000000", "NUMBER(phys_base)=0")]
    return core(X86_64, 64, "<", loads, notes)


def look(path: Path) -> None:
    """Everything small, and the states of the rest: no error but those that users see."""
    try:
        image = memfs.open(path)
    except MemfsError:
        return
    with image:
        for name in ("info", "regions.json", "segments.json", "maps", "notes.json", "version", "kallsyms"):
            try:
                image.cat(name)
            except MemfsError:
                continue
        for name in ("phys", "vmcore", "mem", *(f"regions/{region.name}" for region in image.regions)):
            try:
                node = image.node(name)
                assert isinstance(node, File)
                node.stat()
                reader = node.open()
                reader.readinto(reader.next_data(0), memoryview(bytearray(PAGE)))
            except MemfsError:
                continue


def test_cut_off(tmp_path: Path) -> None:
    whole = sample()
    for size in [*range(0, 700, 37), len(whole) // 2, len(whole) - PAGE, len(whole) - 1]:
        (tmp_path / "cut").write_bytes(whole[:size])
        look(tmp_path / "cut")
    with opened(tmp_path / "cut", whole[: len(whole) - PAGE]) as image:
        assert any("bytes short" in warning for warning in info(image)["warnings"])


@pytest.mark.parametrize("seed", range(8))
def test_fuzz(tmp_path: Path, seed: int) -> None:
    """Bytes of headers, notes and page tables at random; numbers as large as they can be."""
    choice, whole = random.Random(seed), sample()
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(choice.randrange(1, 6)):
            at = choice.choice([choice.randrange(64, 400), choice.randrange(len(data) - 8)])
            value = choice.choice([0, 1, NOWHERE, 1 << 63, choice.getrandbits(64), choice.getrandbits(16)])
            struct.pack_into("<Q", data, at, value)
        (tmp_path / "fuzz").write_bytes(data)
        look(tmp_path / "fuzz")


def test_a_damaged_vmcoreinfo(tmp_path: Path) -> None:
    lines = ("SYMBOL(swapper_pg_dir)=zz", "NUMBER(phys_base)=" + "9" * 99, "PAGESIZE=3", "=", "x", "KERNELOFFSET=-",
             "SYMBOL(init_uts_ns)=ffffffffffffffff", "OFFSET(uts_namespace.name)=-8", "OSRELEASE=\x1b[31m")  # fmt: skip
    loads = [Load(0xFFFF888000000000, 0, page(b"r")), Load(0xFFFFFFFF81000000, 0x1000000, page(b"t"))]
    with opened(tmp_path / "vmcore", core(X86_64, 64, "<", loads, [vmcoreinfo(*lines)])) as image:
        assert info(image)["kind"] == "kernel-core"
        assert b"\x1b" not in image.cat("info")


# -- alive ------------------------------------------------------------------------------------------------------------


def live(path: Path) -> OpenImage:
    """A kcore that changes: a file that is treated as the live one is."""
    return OpenImage(kcore_live.open_image(str(path)), options.parse())


@pytest.fixture
def growing(tmp_path: Path) -> Iterator[tuple[Path, list[bytes]]]:
    """A kcore before and after memory was plugged in: all its offsets move by a page."""
    base = 0xFFFF888000000000
    text = Load(0xFFFFFFFF81000000, 0x1000000, page(b"t") * 4)
    before = [text, Load(base, 0, page(b"a") + page(b"b"))]
    after = [text, before[1], *(Load(base + 0x100000 * i, 0x100000 * i, page(b"n")) for i in range(1, 80))]
    files = [core(X86_64, 64, "<", loads, [*KCORE_NOTES, vmcoreinfo()]) for loads in (before, after)]
    path = tmp_path / "kcore"
    path.write_bytes(files[0])
    yield path, files


def test_memory_is_plugged_in(growing: tuple[Path, list[bytes]]) -> None:
    """Readers that are open go on with the right bytes, though the offsets that they had are others now."""
    path, files = growing
    with live(path) as image:
        node = image.node("regions/direct_map")
        assert isinstance(node, File)
        assert (node.policy, node.direct) == (Policy.LIVE, True)
        reader, buffer = node.open(), bytearray(PAGE)
        assert reader.readinto(PAGE, memoryview(buffer)) == PAGE
        assert buffer == page(b"b")
        path.write_bytes(files[1])
        assert reader.readinto(PAGE, memoryview(buffer)) == PAGE
        assert buffer == page(b"b")
        now = image.image.now()
        assert len(now.segments) == 82
        again = image.node("regions/direct_map")
        assert isinstance(again, File)
        assert again.stat().size == 79 * 0x100000 + PAGE
        assert again.open().readinto(79 * 0x100000, memoryview(buffer)) == PAGE
        assert buffer == page(b"n")


def test_offsets_that_moved_are_never_read_by(growing: tuple[Path, list[bytes]]) -> None:
    path, files = growing
    kcore = Kcore(str(path))
    path.write_bytes(files[1])
    with pytest.raises(Replaced):
        kcore.read(4096, 100)
    assert not kcore.is_current()
    kcore.close()


def test_one_descriptor_for_each_reader_at_a_time(growing: tuple[Path, list[bytes]]) -> None:
    path, _ = growing
    kcore = Kcore(str(path))
    barrier = threading.Barrier(4)
    wrong: list[int] = []

    def work(index: int) -> None:
        barrier.wait()
        for _ in range(200):
            if kcore.read(4096, PAGE) != path.read_bytes()[4096 : 4096 + PAGE]:
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    held = [name for name in os.listdir("/proc/self/fd") if _leads(name) == str(path)]
    assert 1 <= len(held) <= 4
    kcore.close()
    assert not [name for name in os.listdir("/proc/self/fd") if _leads(name) == str(path)]


def _leads(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        return ""


def test_what_is_not_mapped_of_a_live_kernel(tmp_path: Path) -> None:
    """vmalloc as its page tables say: data where something is mapped, zeros in the area, nothing in mem and at/."""
    tables = Tables(FORMATS["x86_64 4"], 0x2000)
    vmalloc = 0xFFFFC90000000000
    tables.map(vmalloc + 0x3000, 0x1000, PAGE)
    tables.map(vmalloc + 0x4000, 0x0000, PAGE)
    whole = bytearray(64 << 20)
    whole[0x3000:0x5000] = page(b"x") + page(b"y")
    loads = [
        Load(vmalloc, NOWHERE, bytes(whole)),
        Load(0xFFFF888000000000, 0, bytes(0x2000) + bytes(tables.memory)),
    ]
    root = 0xFFFF888000000000 + tables.top
    notes = [*KCORE_NOTES, vmcoreinfo(f"SYMBOL(swapper_pg_dir)={root:x}")]
    (tmp_path / "kcore").write_bytes(core(X86_64, 64, "<", loads, notes))
    with live(tmp_path / "kcore") as image:
        node = image.node("regions/vmalloc")
        assert isinstance(node, File)
        reader, buffer = node.open(), bytearray(8 * PAGE)
        assert (reader.next_data(0), reader.next_hole(0x3000), node.stat().data) == (0x3000, 0x5000, 2 * PAGE)
        done = 0
        while done < len(buffer):
            done += reader.readinto(done, memoryview(buffer)[done:])
        assert buffer == whole[: 8 * PAGE]
        assert image.read(vmalloc + 0x3000, 2 * PAGE) == page(b"x") + page(b"y")
        with pytest.raises(AbsentMemory):
            image.read(vmalloc, 1)
        with pytest.raises(MemfsError):
            image.node(f"at/{vmalloc:#x}:16")
        with pytest.raises(AbsentMemory):
            image.read(vmalloc + 0x4000, 2 * PAGE)


def test_who_seeks_is_led_by_one_walk_and_who_opens_by_a_new_one(tmp_path: Path) -> None:
    """Runs in order, backwards, from the middle, by several threads; what is mapped before a file is opened is seen."""
    path, vmalloc = tmp_path / "kcore", 0xFFFFC90000000000
    pages = [0, 2, 3, 7, 300, 511, 512, 4000]

    def write(mapped: list[int]) -> None:
        tables = Tables(FORMATS["x86_64 4"], 0x2000)
        for number in mapped:
            tables.map(vmalloc + number * PAGE, (5 * number % 64) * PAGE, PAGE)
        ram = (bytes(0x2000) + bytes(tables.memory)).ljust(1 << 20, b"\0")
        loads = [Load(vmalloc, NOWHERE, bytes(16 << 20)), Load(0xFFFF888000000000, 0, ram)]
        notes = [*KCORE_NOTES, vmcoreinfo(f"SYMBOL(swapper_pg_dir)={0xFFFF888000000000 + tables.top:x}")]
        path.write_bytes(core(X86_64, 64, "<", loads, notes))

    def seek(reader: Reader) -> list[tuple[int, int]]:
        out: list[tuple[int, int]] = []
        with contextlib.suppress(MemfsError):
            while True:
                start = reader.next_data(out[-1][1] if out else 0)
                out.append((start // PAGE * PAGE, reader.next_hole(start)))
        return out

    def runs(*numbers: tuple[int, int]) -> list[tuple[int, int]]:
        return [(start * PAGE, end * PAGE) for start, end in numbers]

    write(pages)
    want = runs((0, 1), (2, 4), (7, 8), (300, 301), (511, 513), (4000, 4001))
    with live(path) as image:
        node = image.node("regions/vmalloc")
        assert isinstance(node, File)
        reader = node.open()
        assert seek(reader) == seek(reader) == want
        for start, end in reversed(want):
            assert reader.next_hole(start) == reader.next_hole(end - 1) == end
            assert reader.next_data(start) == start
        assert (reader.next_data(100 * PAGE + 5), reader.next_hole(100 * PAGE + 5)) == (300 * PAGE, 100 * PAGE + 5)
        found: list[list[tuple[int, int]]] = []
        threads = [threading.Thread(target=lambda: found.append(seek(reader))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == [want] * 4
        write([*pages, 8])
        assert seek(node.open())[2] == (7 * PAGE, 9 * PAGE)


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "lockdown", "capable", "uid", "wanted"),
    [
        (13, b"", False, 1000, "only root may open it; look as root"),
        (1, b"[none] integrity confidentiality\n", False, 0, "CAP_SYS_RAWIO is missing"),
        (1, b"none integrity [confidentiality]\n", False, 0, "CAP_SYS_RAWIO is missing"),
        (1, b"none integrity [confidentiality]\n", True, 0, "locked down (confidentiality)"),
        (1, b"", True, 0, "or confined otherwise"),
        (1, b"[none] integrity confidentiality\n", True, 0, "another user namespace"),
        (2, b"", True, 0, "CONFIG_PROC_KCORE"),
    ],
)
def test_what_stands_in_the_way(number: int, lockdown: bytes, capable: bool, uid: int, wanted: str) -> None:
    error = MemfsError(os.strerror(number), errno=number)
    why, hint = kcore_refusal.reason(error, lockdown, capable, uid)
    assert wanted in f"{why}; {hint}"


def test_a_kcore_that_is_not_there() -> None:
    """This machine may have one; a /proc below a directory that is no proc filesystem has none that memfs knows of."""
    if os.path.exists("/proc/kcore"):
        pytest.skip("this machine has a /proc/kcore: tests/vm holds it against the kernel")
    with pytest.raises(MemfsError, match="CONFIG_PROC_KCORE") as caught:
        memfs.open("/proc/kcore")
    assert "\n" not in str(caught.value)


def test_a_file_of_that_name_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(MemfsError, match="No such file"):
        memfs.open(tmp_path / "kcore")
    with opened(tmp_path / "kcore", sample()) as image:
        assert image.image.kind == "kernel-core"
