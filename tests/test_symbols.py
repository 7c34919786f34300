"""Symbols as columns, out of lists and out of a vmlinux."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernels import KERNELS, kallsyms
from needs import need_tools

from memfs.errors import MemfsError
from memfs.facts.symbols import files, listing, verify
from memfs.facts.symbols.columns import ABSOLUTE, MEMORY, PER_CPU


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_lists_of_real_kernels_line_by_line(kernel: str) -> None:
    text = kallsyms(kernel)
    symbols = listing.parse(text)
    digits = 8 if "i386" in kernel else 16
    lines = []
    for index in range(len(symbols)):
        owner = symbols.owners[index]
        module = f"\t[{symbols.modules[owner]}]" if owner else ""
        name, type_ = symbols.name(index).decode(), chr(symbols.types[index])
        lines.append(f"{symbols.addresses[index]:0{digits}x} {type_} {name}{module}\n")
    assert "".join(lines).encode() == text


@pytest.mark.parametrize("kernel", KERNELS)
def test_line_by_line_and_by_columns_are_the_same(kernel: str) -> None:
    symbols = listing.parse(kallsyms(kernel))
    slow = listing.parse(kallsyms(kernel).replace(b" ", b"  ", 1).replace(b"\t[", b"\t[ [", 0) + b"\n\n")
    assert (symbols.addresses, symbols.types, symbols.names) == (slow.addresses, slow.types, slow.names)
    assert (symbols.modules, symbols.owners) == (slow.modules, slow.owners)


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_address_is_found_in_its_symbol(kernel: str) -> None:
    symbols = listing.parse(kallsyms(kernel))
    for index in range(0, len(symbols), 97):
        if symbols.places[index] != MEMORY:
            continue
        address, size = symbols.addresses[index], symbols.sizes[index]
        assert size > 0
        for offset in (0, size // 2, size - 1):
            place = symbols.at(address + offset)
            assert place is not None
            assert (place.offset, place.size) == (offset, size)
            assert symbols.addresses[place.symbol] == address
        after = symbols.at(address + size)
        assert after is None or after.offset == 0


def test_per_cpu_and_absolute() -> None:
    symbols = listing.parse(kallsyms("amd64-6.1"))
    places = {symbols.name(i): symbols.places[i] for i in range(len(symbols)) if chr(symbols.types[i]) in "aA"}
    assert places[b"fixed_percpu_data"] == places[b"current_task"] == PER_CPU
    assert MEMORY not in places.values()
    old = listing.parse(b"00012345 A __crc_x\nc0100000 A _text\nc0100000 T go\nc0200000 A __crc_y\nc0300000 b last\n")
    assert list(old.places) == [ABSOLUTE, MEMORY, MEMORY, ABSOLUTE, MEMORY]
    template = listing.parse(b"c0100000 T _stext\nc0200000 D __per_cpu_start\nc0200010 d x\nc0201000 D __per_cpu_end\n")
    assert list(template.places) == [MEMORY, PER_CPU, PER_CPU, MEMORY]


def test_names() -> None:
    symbols = listing.parse(kallsyms("amd64-6.1"))
    for name in (b"jiffies", b"_stext", b"__func__.0", b"none such", b"", b"jif", b"iffies", b"a\nb"):
        want = [i for i in range(len(symbols)) if symbols.name(i) == name] if name else []
        assert sorted(symbols.find(name)) == want
    assert len(symbols.find(b"__func__.0", owner=0)) == 365
    assert symbols.find(b"_stext", owner=1) == []
    members = symbols.members(1)
    assert {symbols.owners[i] for i in members} == {1}
    assert sorted(symbols.addresses[i] for i in members) == [symbols.addresses[i] for i in members]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"", "this is no list of symbols; it is empty"),
        (b"c0100000 T one\nnonsense\n", "line 2 is not `ADDRESS TYPE NAME`: nonsense"),
        (b"c0100000 T one\nc0100000 T two\t[m]\n\x1b[31m T x\n", r"line 3 is not `ADDRESS TYPE NAME`: \x1b[31m T x"),
        (b"c0100000 T a b c\nd0100000 T\n", "line 1 is not"),
        (b"g0100000 T a\n", "line 1 is not"),
        (b"0000000000000000 t a\n0000000000000000 t b\n", "all addresses of these symbols are zero"),
    ],
)
def test_what_is_no_list_is_refused(text: bytes, what: str) -> None:
    with pytest.raises(MemfsError) as caught:
        listing.parse(text)
    assert what in str(caught.value)


@given(st.binary() | st.lists(st.sampled_from([b"c0100000 T a\n", b"\t", b"[m]", b"\n", b" ", b"x"])).map(b"".join))
def test_no_bytes_make_a_traceback(text: bytes) -> None:
    try:
        symbols = listing.parse(text)
    except MemfsError:
        return
    assert len(symbols.sizes) == len(symbols) > 0


ASSEMBLY = """
.text
.globl _stext, weak_one
_stext: nop
local_one: nop
.weak weak_one
weak_one: nop
.data
.globl jiffies
jiffies: .long 1
.bss
counter: .skip 4
.section .rodata
linux_banner: .ascii "Linux"
.globl number
number = 42
"""


@pytest.mark.parametrize(("bits", "emulation"), [(64, "elf_x86_64"), (32, "elf_i386")])
def test_a_vmlinux_as_nm_prints_it(bits: int, emulation: str, tmp_path: Path) -> None:
    need_tools("as", "ld", "nm")
    made, program = tmp_path / "a.o", tmp_path / "vmlinux"
    subprocess.run(["as", f"--{bits}", "-o", made, "-"], input=ASSEMBLY.encode(), check=True, timeout=60)
    subprocess.run(["ld", "-m", emulation, "-e", "_stext", "-o", program, made], check=True, timeout=60)
    printed = subprocess.run(["nm", program], capture_output=True, check=True, timeout=60).stdout
    symbols = files.load(str(program))
    found = {(symbols.addresses[i], chr(symbols.types[i]), symbols.name(i)) for i in range(len(symbols))}
    assert found == {(int(a, 16), t.decode(), n) for a, t, n in map(bytes.split, printed.splitlines())}
    assert len(found) >= 7


@pytest.mark.parametrize(("bits", "emulation"), [(64, "elf_x86_64"), (32, "elf_i386")])
def test_a_vmlinux_of_another_build_is_refused(bits: int, emulation: str, tmp_path: Path) -> None:
    """By its NT_GNU_BUILD_ID, as readelf prints it; what has none is left to be proved otherwise."""
    need_tools("as", "ld", "readelf")
    made, program, plain = tmp_path / "a.o", tmp_path / "vmlinux", tmp_path / "plain"
    subprocess.run(["as", f"--{bits}", "-o", made, "-"], input=ASSEMBLY.encode(), check=True, timeout=60)
    link = ["ld", "-m", emulation, "-e", "_stext"]
    subprocess.run([*link, "--build-id=sha1", "-o", program, made], check=True, timeout=60)
    subprocess.run([*link, "--build-id=none", "-o", plain, made], check=True, timeout=60)
    found = files.build_id(str(program))
    printed = subprocess.run(["readelf", "-n", program], capture_output=True, check=True, timeout=60).stdout.decode()
    assert f"Build ID: {found}\n" in printed
    assert files.build_id(str(plain)) is None
    verify.check_build(found, {"BUILD-ID": found.upper()})
    verify.check_build(found, {})
    verify.check_build(None, {"BUILD-ID": found})
    with pytest.raises(MemfsError, match=f"its build-id is {found}, and this kernel's 1234"):
        verify.check_build(found, {"BUILD-ID": "1234"})


def test_a_damaged_vmlinux_is_an_error(tmp_path: Path) -> None:
    need_tools("as", "ld")
    made, program = tmp_path / "a.o", tmp_path / "vmlinux"
    subprocess.run(["as", "-o", made, "-"], input=ASSEMBLY.encode(), check=True, timeout=60)
    subprocess.run(["ld", "-e", "_stext", "-o", program, made], check=True, timeout=60)
    data, whole = program.read_bytes(), files.load(str(program))
    damaged = tmp_path / "damaged"
    for cut in range(5, len(data), 101):
        damaged.write_bytes(data[:cut])
        try:
            symbols = files.load(str(damaged))
        except MemfsError:
            continue
        assert symbols.names == whole.names, f"cut after {cut} bytes"
    headers = int.from_bytes(data[40:48], "little")
    for position in [*range(4, 64), *range(headers, len(data))]:
        damaged.write_bytes(data[:position] + b"\xff" + data[position + 1 :])
        try:
            files.build_id(str(damaged))
            files.load(str(damaged))
        except MemfsError as error:
            assert error.what
