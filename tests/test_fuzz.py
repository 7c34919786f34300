"""Mutated headers and notes, of made cores and of real ones: everything is looked through, MemfsError alone may be
raised. FUZZ=N in the environment makes it N examples."""

import lzma
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from looking import look_through
from makecore import Header, auxv_64, core, file_note_64, note, prpsinfo_64, prstatus_x86_64
from needs import CI, SHARED, need_corpus

import memfs
from memfs.errors import MemfsError

EXAMPLES = int(os.environ.get("FUZZ", "120"))
REAL = (
    "lldb-linux-arm", "lldb-x86-32-linux", "lldb-linux-i386-102852", "lldb-x86-64-netbsd-multithread",
    "elfutils-testfile63", "elfutils-eu-readelf-n-crash", "elfutils-POC", "lldb-netbsd-amd64",
)  # fmt: skip
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=CI,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

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


def made() -> bytes:
    notes = note(b"CORE", 1, prstatus_x86_64(5, 0x7010, 0x1000, 11)) + note(b"CORE", 3, prpsinfo_64(5))
    notes += note(b"CORE", 0x53494749, bytes(128)) + note(b"CORE", 6, auxv_64(AT_ENTRY=0x1000, AT_RANDOM=0x7020))
    notes += note(b"CORE", 0x46494C45, file_note_64((0x1000, 0x2000, 0, b"/bin/a"), (0x2000, 0x3000, 1, b"/lib/b")))
    notes += note(b"CORE", 2, bytes(512))
    return core([Header(1, 5, 0x1000, b"code" * 20, 4096), Header(1, 6, 0x7000, b"stack" * 20)], notes)


def mutated(data: bytes, changes: list[tuple[float, bytes]]) -> bytes:
    out = bytearray(data)
    reach = min(len(data), 6000)
    for where, piece in changes:
        position = int(where * (reach - 1))
        out[position : position + len(piece)] = piece
    return bytes(out[: len(data)])


def survives(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        image = memfs.open(str(path))
    except MemfsError as error:
        assert "\n" not in str(error)
        return
    try:
        look_through(image.tree)
    finally:
        image.close()


@FUZZ
@given(changes=mutations)
def test_made_cores(tmp_path: Path, changes: list[tuple[float, bytes]]) -> None:
    survives(tmp_path / "fuzz.core", mutated(made(), changes))


@pytest.mark.parametrize("name", REAL)
def test_real_cores(tmp_path: Path, name: str) -> None:
    need_corpus()
    data = lzma.decompress((SHARED / "corpus" / f"{name}.core.xz").read_bytes())

    @settings(FUZZ, max_examples=max(1, EXAMPLES // 4))
    @given(changes=mutations)
    def mutate(changes: list[tuple[float, bytes]]) -> None:
        survives(tmp_path / "fuzz.core", mutated(data, changes))

    mutate()


@FUZZ
@given(data=st.binary(max_size=300))
def test_anything_behind_an_elf_magic(tmp_path: Path, data: bytes) -> None:
    survives(tmp_path / "fuzz.core", b"\x7fELF" + data)
