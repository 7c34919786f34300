"""kallsyms tables out of memory: of real kernels, and of every layout that is in no sample, made here."""

import re
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import KERNELS, kallsyms, rebuilt

import memfs
from memfs.errors import MemfsError
from memfs.facts.symbols import listing, search, tables
from memfs.facts.symbols.columns import Symbols
from memfs.facts.symbols.tables import Layout, Machine, Read


def reader(image: memfs.OpenImage) -> Read:
    def read(address: int, size: int) -> bytes:
        buffer = bytearray(size)
        try:
            got = image.image.space.readinto(address, memoryview(buffer))
        except MemfsError:
            return b""
        return bytes(buffer[:got])

    return read


@pytest.mark.parametrize("how", ["VMCOREINFO", "search"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_real_kernels_line_by_line(kernel: str, how: str, tmp_path: Path) -> None:
    lines = kallsyms(kernel).splitlines(keepends=True)
    want = listing.parse(b"".join(line for line in lines if b"\t" not in line))
    with memfs.open(rebuilt(kernel, tmp_path)) as image:
        note = next(note for note in image.notes if note.owner == "VMCOREINFO")
        text = image.image.desc(note).rstrip(b"\0").decode()
        info = {name: int(value, 16) for name, value in re.findall(r"^SYMBOL\((\w+)\)=(\w+)$", text, re.M)}
        machine = Machine(image.image.target.word, image.image.target.order)
        stext, read = info["_stext"], reader(image)
        layout = tables.located(read, machine, info)
        assert (layout is None) == (kernel == "amd64-5.10")
        if how == "search" or layout is None:
            layout = next(search.layouts(read, machine, [(stext, stext + (64 << 20))]))
        got = tables.symbols(read, machine, layout, stext)
    assert got.names == want.names
    assert got.types == want.types
    assert got.addresses == want.addresses


# -- layouts that are made ---------------------------------------------------------------------------------------------

COUNT = 2500
BASE = 0xFFFFFFFF81000000
STEXT = BASE + 0x1000
AT = BASE + 0x40000


class Made:
    """Memory with tables in it: what `order` says, one after the other, each aligned to a word."""

    def __init__(self, machine: Machine, scheme: str, order: str) -> None:
        self.machine = machine
        self.mask = (1 << 8 * machine.word) - 1
        prefix = "<" if machine.order == "little" else ">"
        word = prefix + ("Q" if machine.word == 8 else "I")
        names = [b"T_stext", *(b"tsymbol_%d" % i for i in range(1, COUNT - 1)), b"T" + b"long" * 60]
        self.names = [name[1:] for name in names]
        self.addresses = [(STEXT + 16 * i) & self.mask for i in range(COUNT)]
        if scheme == "per-cpu":
            self.addresses[7] = 0x20
        tokens = [
            bytes([t]) if (chr(t).isalnum() and t < 0x80) or t == 95 else b"" for t in range(256)
        ]  # no use, no text
        starts = [sum(len(token) + 1 for token in tokens[:t]) for t in range(256)]
        pieces = {
            "num_syms": struct.pack(prefix + "I", COUNT),
            "names": b"".join(self._length(len(name)) + name for name in names),
            "markers": bytes(40),
            "token_table": b"".join(token + b"\0" for token in tokens),
            "token_index": struct.pack(prefix + "256H", *starts),
        }
        self.at: dict[str, int] = {}
        self.memory = bytearray(b"\xcc" * 64)
        base = (BASE if scheme != "per-cpu" else STEXT) & self.mask
        for name in order.split():
            tight = name.endswith("!")  # not aligned to a word
            name = name.rstrip("!")
            self.memory += bytes(-len(self.memory) % (4 if tight else machine.word))
            here = self.at[name] = (AT + len(self.memory)) & self.mask
            offsets = {
                "relative": lambda i: self.addresses[i] - base,
                "per-cpu": lambda i: self.addresses[i] if i == 7 else base - 1 - self.addresses[i],
                "pc-relative": lambda i, here=here: self.addresses[i] - here - 4 * i,
                "addresses": lambda i: 0,
            }[scheme]
            made = {
                "offsets": lambda value=offsets: struct.pack(f"{prefix}{COUNT}i", *map(value, range(COUNT))),
                "relative_base": lambda: struct.pack(word, base),
                "addresses": lambda: b"".join(struct.pack(word, address) for address in self.addresses),
            }
            self.memory += pieces[name] if name in pieces else made[name]()
        self.memory += b"\xcc" * 4096

    @staticmethod
    def _length(size: int) -> bytes:
        return bytes([size]) if size < 0x80 else bytes([size & 0x7F | 0x80, size >> 7])

    def read(self, address: int, size: int) -> bytes:
        offset = address - (AT & self.mask)
        return bytes(self.memory[offset : offset + size]) if offset >= 0 else b""

    def holds(self, symbols: Symbols) -> None:
        assert symbols.names == b"".join(name + b"\n" for name in self.names)
        assert list(symbols.addresses) == self.addresses


MACHINES = [Machine(8, "little"), Machine(8, "big"), Machine(4, "little"), Machine(4, "big")]
ORDERS = {
    "4.6": ("relative", "offsets relative_base num_syms names markers token_table token_index"),
    "4.6, x86-64": ("per-cpu", "offsets relative_base num_syms names markers token_table token_index"),
    "4.6, absolute": ("addresses", "addresses num_syms names markers token_table token_index"),
    "6.4": ("relative", "num_syms names markers token_table token_index offsets relative_base"),
    "6.4, x86-64": ("per-cpu", "num_syms names markers token_table token_index offsets relative_base"),
    "7.x": ("pc-relative", "num_syms! names! markers! token_table! token_index! offsets!"),
}


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: f"{8 * m.word}-{m.order}")
@pytest.mark.parametrize("release", ORDERS)
def test_every_layout(release: str, machine: Machine) -> None:
    made = Made(machine, *ORDERS[release])
    info = {f"kallsyms_{name}": address for name, address in made.at.items()}
    layout = tables.located(made.read, machine, info)
    assert layout
    stext = STEXT & made.mask
    made.holds(tables.symbols(made.read, machine, layout, stext))
    start = AT & made.mask
    for found in search.layouts(made.read, machine, [(start, start + len(made.memory))]):
        try:
            symbols = tables.symbols(made.read, machine, found, stext)
        except MemfsError:
            continue
        made.holds(symbols)
        break
    else:
        pytest.fail("not found by its look")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 255)), max_size=4), st.integers(0, 60_000))
def test_damaged_tables_are_an_error_or_right_in_shape(changes: list[tuple[int, int]], cut: int) -> None:
    made = Made(Machine(8, "little"), *ORDERS["6.4"])
    info = {f"kallsyms_{name}": address for name, address in made.at.items()}
    for position, value in changes:
        made.memory[position % len(made.memory)] = value
    del made.memory[cut:]
    try:
        layout = tables.located(made.read, made.machine, info)
        assert layout
        symbols = tables.symbols(made.read, made.machine, layout, STEXT)
    except MemfsError as error:
        assert error.why
        return
    assert len(symbols) == layout.total


@pytest.mark.parametrize("total", [0, 1 << 23, 0xFFFFFFFF])
def test_a_count_out_of_the_blue(total: int) -> None:
    made = Made(Machine(8, "little"), *ORDERS["6.4"])
    layout = tables.located(made.read, made.machine, {f"kallsyms_{n}": a for n, a in made.at.items()})
    assert isinstance(layout, Layout)
    with pytest.raises(MemfsError, match="no symbols in the kernel's own memory"):
        tables.symbols(made.read, made.machine, layout._replace(total=total), STEXT)
