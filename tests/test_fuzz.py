"""Mutated headers and notes, of made cores and of real ones: everything is looked through, MemfsError alone may be
raised. FUZZ=N in the environment makes it N examples."""

import itertools
import json
import lzma
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from looking import look_through
from makecore import MACHINES, PT_NOTE, Header, core, note, prstatus, small_core
from needs import CI, SHARED, need_corpus

import memfs
from memfs.errors import MemfsError
from memfs.tree.node import Dir

EXAMPLES = int(os.environ.get("FUZZ", "200"))
SMALL = 30_000
CORPUS = SHARED / "corpus"
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=CI,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
Ranges = list[tuple[int, int]]


def oracles() -> dict[str, dict[str, Any]]:
    """Of the small cores."""
    every = ((path.stem, json.loads(path.read_text())) for path in sorted(CORPUS.glob("*.json")))
    return {name: oracle for name, oracle in every if oracle["size"] < SMALL}


REAL = oracles()

mutations = st.lists(
    st.tuples(
        st.floats(0, 1),  # where, as a part of the headers and notes
        st.one_of(
            st.binary(min_size=1, max_size=8),
            st.sampled_from(
                [b"\xff" * 4, b"\xff" * 8, bytes(8), b"\x00\x00\x00\x80", b"\x01\0\0\0\0\0\0\0", b"\xff\x7f"]
            ),
        ),
    ),
    min_size=1,
    max_size=6,
)


def described(oracle: dict[str, Any]) -> Ranges:
    """Where a real core's headers and notes lie."""
    header, size = oracle["header"], oracle["size"]
    table = (header["phoff"], header["phoff"] + header["phentsize"] * header["phnum"])
    notes = [(s[4], s[4] + s[5]) for s in oracle["segments"] if s[0] == "NOTE"]
    return [(low, min(high, size)) for low, high in [(16, 64), table, *notes] if low < min(high, size)]


def mutated(data: bytes, places: Ranges, changes: list[tuple[float, bytes]]) -> bytes:
    """The bytes with some of those in `places` exchanged."""
    out = bytearray(data)
    total = sum(high - low for low, high in places)
    for where, piece in changes:
        inside = int(where * (total - 1))
        for low, high in places:
            if inside < high - low:
                out[low + inside : low + inside + len(piece)] = piece
                break
            inside -= high - low
    return bytes(out[: len(data)])


def survives(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        image = memfs.open(path)
    except MemfsError as error:
        assert "\n" not in str(error)
        return
    with image:
        look_through(image.tree)
        for name in ("notes", "segments", "regions", "threads"):
            directory = image.tree.lookup(name)
            assert isinstance(directory, Dir)
            assert len(directory.names()) <= len(data), "there are no more names than the file has bytes"
        for region in itertools.islice(image.regions, 20):
            assert len(image.read(region.start, min(region.size, 64), fill=b"?")) == min(region.size, 64)
            image.node(f"at/{region.start:#x}")


@FUZZ
@given(changes=mutations)
def test_made_cores(tmp_path: Path, changes: list[tuple[float, bytes]]) -> None:
    data = small_core()
    survives(tmp_path / "fuzz.core", mutated(data, [(16, len(data))], changes))


@pytest.mark.parametrize(("machine", "bits"), MACHINES)
@pytest.mark.parametrize("order", "<>")
def test_made_machines(tmp_path: Path, machine: int, bits: int, order: str) -> None:
    """Each machine's notes, mutated; whatever the size of the descriptor is said to be."""
    notes = note(b"CORE", 1, prstatus(5, 0x7010, 0x1000, 11, machine, bits, order), order)
    notes += b"".join(note(b"CORE", type_, bytes(124), order) for type_ in (2, 3, 6, 0x53494749, 0x46494C45))
    data = core([Header(1, 6, 0x7000, b"stack" * 20)], notes, bits, order, machine)

    @settings(FUZZ, max_examples=max(1, EXAMPLES // 8))
    @given(changes=mutations)
    def mutate(changes: list[tuple[float, bytes]]) -> None:
        survives(tmp_path / "fuzz.core", mutated(data, [(16, len(data))], changes))

    mutate()


@pytest.mark.parametrize("name", REAL or ["(no corpus)"])
def test_real_cores(tmp_path: Path, name: str) -> None:
    need_corpus()
    data = lzma.decompress((CORPUS / f"{name}.core.xz").read_bytes())
    places = described(REAL[name])

    @settings(FUZZ, max_examples=max(1, EXAMPLES // 8))
    @given(changes=mutations)
    def mutate(changes: list[tuple[float, bytes]]) -> None:
        survives(tmp_path / "fuzz.core", mutated(data, places, changes))

    mutate()


@FUZZ
@given(data=st.binary(max_size=300))
def test_anything_behind_an_elf_magic(tmp_path: Path, data: bytes) -> None:
    survives(tmp_path / "fuzz.core", b"\x7fELF" + data)


@FUZZ
@given(notes=st.binary(max_size=300), desc=st.binary(max_size=200), type_=st.sampled_from([1, 2, 3, 6, 0x46494C45]))
def test_any_notes(tmp_path: Path, notes: bytes, desc: bytes, type_: int) -> None:
    headers = [Header(PT_NOTE, 0, 0, note(b"CORE", type_, desc)), Header(PT_NOTE, 0, 0, notes)]
    survives(tmp_path / "fuzz.core", core([*headers, Header(1, 6, 0x7000, b"stack" * 20)]))
