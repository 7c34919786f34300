"""Kernel images that are old, odd, damaged or alive: made by hand, each for what it is about."""

import contextlib
import json
import os
import random
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from makekernel import FORMATS, NOWHERE, Load, Note, Tables, core, vmcoreinfo
from needs import REPO, need, run

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
        assert regions(image)["direct_map"] == (base, base + 0x40000000)
        assert (info(image)["direct_map"], info(image)["ram_bytes"]) == (hex(base), len(ram) + PAGE)
        assert not [said for said in info(image)["warnings"] if "direct map" in said]
        node = image.node("regions/direct_map")
        assert node.xattrs()["user.memfs.physical"] == "0x0"
        assert image.cat("at/0xffffffff81000000:4") == b"TTTT"
        with pytest.raises(MemfsError):
            image.node(f"at/{vmalloc:#x}:4")


def test_an_arm64_machine(tmp_path: Path) -> None:
    """Physical 0 is below RAM, and below all addresses: PHYS_OFFSET says where the direct map begins."""
    tables = Tables(FORMATS["arm64 48"], 0x40001000)
    low, voffset = 0xFFFF000000000000, 0xFFFFA90F28400000
    tables.map(low, 0x40000000, 0x200000)
    tables.map(0xFFFF800008000000, 0x40000000, PAGE)
    ram = (page(b"V") + bytes(tables.memory)).ljust(2 << 20, b"r")
    notes = [Note(b"QEMU", 0, bytes(400)), vmcoreinfo(
        "NUMBER(VA_BITS)=48", "NUMBER(TCR_EL1_T1SZ)=0x10", "NUMBER(PHYS_OFFSET)=0x40000000",
        f"NUMBER(kimage_voffset)={voffset:#x}", f"SYMBOL(swapper_pg_dir)={voffset + tables.top:x}",
    )]  # fmt: skip
    dump = core(ARM64, 64, "<", [Load(0x40000000, 0x40000000, ram)], notes)
    unsaid = dump.replace(b"PHYS_OFFSET", b"PHYS_UNSAID")  # the area is named by its place
    for data, base in ((dump, low - 0x40000000), (unsaid, None)):
        with opened(tmp_path / "dump", data) as image:
            assert info(image)["direct_map"] == (hex(base) if base else None)
            assert regions(image)["direct_map"] == (base or low, low + 0x200000)
            assert image.node("regions/direct_map").xattrs().get("user.memfs.physical") == ("0x0" if base else None)
            assert image.read(0xFFFF800008000000, PAGE) == image.read(low, PAGE) == page(b"V")


def i386_machine(*lines: str) -> bytes:
    """What QEMU writes of a guest of i386 with PAE: ELF64, as its ROM ends at 4 GiB, and memory goes on above that."""
    tables = Tables(FORMATS["i386 PAE"], 0x2000)
    tables.map(0xC0000000, 0, 2 << 20)
    tables.map(0xF7800000, 0x100003000, PAGE)
    tables.map(0xF7803000, 0x37803000, PAGE)  # highmem, mapped where the direct map would have it, were it larger
    ram = (bytes(0x2000) + tables.memory).ljust(2 << 20, b"\0")
    loads = [
        Load(0, 0, ram),
        Load(0x37803000, 0x37803000, page(b"H")),
        Load(0xFFFC0000, 0xFFFC0000, page(b"R")),
        Load(1 << 32, 1 << 32, page(b"0") + page(b"1") + page(b"2") + page(b"3")),
    ]
    registers = bytes(72) + struct.pack("<17I", *range(17)) + bytes(4)
    notes = [Note(b"CORE", 1, registers), Note(b"QEMU", 0, bytes(440)), vmcoreinfo(*lines)]
    return core(I386, 64, "<", loads, notes)


def test_i386_in_elf64(tmp_path: Path) -> None:
    """A virtual machine's dump: addresses have 32 bits all the same, and those of RAM more."""
    data = i386_machine("SYMBOL(swapper_pg_dir)=c0002000", "SYMBOL(_stext)=c1000000", "CONFIG_X86_PAE=y")
    with opened(tmp_path / "dump", data) as image:
        said = info(image)
        wanted = {"format": "ELF64 vmcore", "arch": "i386", "bits": 32, "page_levels": 3, "direct_map": "0xc0000000",
                  "ram_bytes": (2 << 20) + 6 * PAGE, "kaslr_offset": "0x0"}  # fmt: skip
        assert {key: said[key] for key in wanted} == wanted
        assert regions(image) == {"direct_map": (0xC0000000, 0xC0200000), "vmalloc": (0xF7800000, 0xF7804000)}
        assert image.read(0xF7800000, PAGE) == page(b"3")
        assert image.read(0xF7803000, PAGE) == page(b"H")
        assert image.read(0xC0002018, 8) == image.cat("at/0xc0002018:8") != bytes(8)
        with pytest.raises(AbsentMemory):  # the ROM, which is nowhere mapped
            image.read(0xFFFC0000, 1)
        assert json.loads(image.cat("cpus/0/registers.json"))["edi"] == "0x4"
        vmcore = image.cat("vmcore")
    with opened(tmp_path / "vmcore", vmcore) as again:
        assert again.read(0xF7800000, PAGE) == page(b"3")
        assert info(again)["ram_bytes"] == said["ram_bytes"]


def test_i386_that_says_nothing(tmp_path: Path) -> None:
    """Without VMCOREINFO, or with another split than 3G/1G, where RAM is mapped is not guessed."""
    for lines in ((), ("SYMBOL(swapper_pg_dir)=80002000", "SYMBOL(_stext)=81000000", "CONFIG_X86_PAE=y")):
        with opened(tmp_path / "dump", i386_machine(*lines)) as image:
            said = info(image)
            assert (said["arch"], said["direct_map"], said["ram_bytes"]) == ("i386", None, (2 << 20) + 6 * PAGE)
            assert any("no direct map" in warning for warning in said["warnings"])
            phys = image.node("phys")
            assert isinstance(phys, File)
            buffer = bytearray(PAGE)
            assert phys.open().readinto(0x100003000, memoryview(buffer)) == PAGE
            assert buffer == page(b"3")


def test_x86_64_that_says_i386(tmp_path: Path) -> None:
    """Symbols of 64 bits are of no i386."""
    with opened(tmp_path / "dump", i386_machine("SYMBOL(_stext)=ffffffff81000000")) as image:
        assert (info(image)["arch"], info(image)["bits"]) == ("x86_64", 64)


def test_highmem_of_kexec(tmp_path: Path) -> None:
    """kexec-tools gives RAM that has no virtual address p_vaddr -1, in ELF64 where it lies above 4 GiB."""
    for bits in (32, 64):
        high = 1 << 32 if bits == 64 else 0x40000000
        loads = [Load(0xC0000000, 0, page(b"0") + page(b"1")), Load((1 << bits) - 1, high, page(b"h"))]
        with opened(tmp_path / "vmcore", core(I386, bits, "<", loads, [vmcoreinfo("CONFIG_X86_PAE=y")])) as image:
            assert (info(image)["ram_bytes"], info(image)["bits"]) == (3 * PAGE, 32)
            assert regions(image) == {"direct_map": (0xC0000000, 0xC0002000)}
            phys = image.node("phys")
            assert isinstance(phys, File)
            buffer = bytearray(PAGE)
            assert phys.open().readinto(high, memoryview(buffer)) == PAGE
            assert buffer == page(b"h")


def s390x_machine(pointer: int = 0x8000, note: bytes = b"", modules: int = 0x3FF7FD00000) -> bytes:
    """What QEMU writes of a guest of s390x: RAM, registers, and nothing of Linux but what lies in the RAM itself."""
    tables = Tables(FORMATS["s390x 3"], 0x10000)
    tables.map(0x37200000000, 0x1000, PAGE)
    tables.map(modules - 0x40000, 0x2000, PAGE)  # the last of vmalloc
    tables.map(modules, 0x3000, PAGE)
    if modules + (2 << 30) < 1 << 42:
        tables.map((1 << 42) - 0x202000, 0x6000, PAGE)  # a lowcore
    ram = bytearray(0x10000) + tables.memory
    ram[0xE0C:0xE14] = struct.pack(">Q", pointer)
    text = f"OSRELEASE=9.9.9-test\nSYMBOL(swapper_pg_dir)={tables.top:x}\nSYMBOL(_stext)=4000\n".encode()
    ram[0x8000:0x9000] = (note or struct.pack(">III12s", 11, len(text), 0, b"VMCOREINFO") + text).ljust(PAGE, b"\0")
    for at, letter in ((0x1000, b"x"), (0x2000, b"v"), (0x3000, b"m")):
        ram[at : at + PAGE] = page(letter)
    notes = [Note(b"CORE", 1, bytes(335) + b"\1"), Note(b"LINUX", 0x305, struct.pack(">I", 0x6000))]
    return core(S390, 64, ">", [Load(0, 0, bytes(ram))], notes)


def test_s390x_from_outside(tmp_path: Path) -> None:
    """A dump without VMCOREINFO is known by its registers; the note lies in RAM, where the lowcore points to."""
    with opened(tmp_path / "dump", s390x_machine()) as image:
        said = info(image)
        wanted = {"kind": "kernel-core", "arch": "s390x", "release": "9.9.9-test", "page_levels": 3, "cpus": 1}
        assert {key: said[key] for key in wanted} == wanted
        found = {name: start for name, (start, _) in regions(image).items()}
        assert found == {"direct_map": 0, "vmemmap": 0x37200000000, "vmalloc": 0x3FF7FCC0000, "modules": 0x3FF7FD00000}
        assert [image.cat(f"regions/{name}")[:1] for name in ("vmemmap", "vmalloc", "modules")] == [b"x", b"v", b"m"]
        assert image.cat("vmcoreinfo").startswith(b"OSRELEASE=9.9.9-test\n")
    with opened(tmp_path / "dump", s390x_machine(modules=0x3FF80000000)) as image:  # nothing lies behind them
        assert regions(image)["modules"][0] == 0x3FF80000000
        assert regions(image)["vmalloc"] == (0x3FF7FFC0000, 0x3FF7FFC1000)


def test_s390x_with_a_damaged_lowcore(tmp_path: Path) -> None:
    """Where the pointer leads to no such note, the machine is there all the same."""
    for pointer, note in (
        (0, b""),
        ((1 << 64) - 8, b""),
        (0x123456789000, b""),
        (0x8000, struct.pack(">III12s", 11, 0xFFFFFFF0, 0, b"VMCOREINFO")),
        (0x8000, struct.pack(">III12s", 11, 1 << 18, 0, b"VMCOREINFO")),
        (0x8000, struct.pack(">III12s", 11, 100, 0, b"SOMETHING")),
    ):
        with opened(tmp_path / "dump", s390x_machine(pointer, note)) as image:
            said = info(image)
            assert (said["kind"], said["release"]) == ("kernel-core", None)
            assert list(regions(image)) == ["direct_map"]
            assert image.read(0x1000, 4) == b"xxxx"


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
    need(not os.path.exists("/proc/kcore"), "this machine has a /proc/kcore: tests/vm holds it against the kernel")
    with pytest.raises(MemfsError, match="CONFIG_PROC_KCORE") as caught:
        memfs.open("/proc/kcore")
    assert "\n" not in str(caught.value)


def test_a_file_of_that_name_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(MemfsError, match="No such file"):
        memfs.open(tmp_path / "kcore")
    with opened(tmp_path / "kcore", sample()) as image:
        assert image.image.kind == "kernel-core"


# -- copies -----------------------------------------------------------------------------------------------------------


def test_a_copy_of_vmcore_has_the_holes_of_the_image(tmp_path: Path) -> None:
    """64 MiB of memory, of which the saved kernel stored a page: the rest is a hole of its file."""
    loads = [Load(0xFFFF888000000000, 0, page(b"a"), 64 << 20), Load(0xFFFFFFFF81000000, 0x1000000, page(b"b"))]
    raw = core(X86_64, 64, "<", loads, [vmcoreinfo("PAGESIZE=4096")])
    source, copy = tmp_path / "core", tmp_path / "copy"
    source.write_bytes(raw)
    os.truncate(source, len(raw) + (64 << 20))
    done = run(sys.executable, "-m", "memfs", "cp", source, "vmcore", copy, cwd=REPO)
    assert done.stderr == b""
    with memfs.open(source) as image:
        assert copy.read_bytes() == image.cat("vmcore")
    assert copy.stat().st_blocks * 512 < 1 << 20
