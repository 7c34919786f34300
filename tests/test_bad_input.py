"""What is no core is one line; what is a damaged core opens, with warnings, in bounded memory."""

import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from looking import look_through
from makecore import PT_NOTE, Header, core, ehdr, note, prstatus_x86_64, small_core
from needs import REPO, run

import memfs
from memfs.errors import MemfsError

ENV = {**os.environ, "PYTHONPATH": str(REPO)}
MEMORY = 500 << 20


def refused(*words: str | bytes | Path) -> str:
    """The one line with which the command fails."""
    done = run(sys.executable, "-m", "memfs", *map(os.fsdecode, words), env=ENV)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 1, done
    assert len(lines) == 1, lines
    assert lines[0].startswith("memfs: ")
    assert "Traceback" not in lines[0]
    return lines[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"\x7f", "inside the ELF magic"),
        (b"\x7fELF", "inside the ELF header"),
        (b"hello, world\n" * 100, "68 65 6c 6c, not with an ELF header"),
        (b"\x1f\x8b\x08" + bytes(100), "gzip -dk"),
        (b"\xfd7zXZ\0" + bytes(100), "xz -dk"),
        (b"\x28\xb5\x2f\xfd" + bytes(100), "zstd -d"),
        (b"BZh91AY" + bytes(100), "bzip2 -dk"),
        (b"\x04\x22\x4d\x18" + bytes(100), "lz4 -d"),
        (b"PK\x03\x04" + bytes(100), "unzip"),
        (bytes(257) + b"ustar" + bytes(300), "tar -xf"),
        (b"KDUMP   " + bytes(100), "kdump"),
        (b"MDMP" + bytes(100), "minidump"),
        (ehdr(e_type=1), "object file (ET_REL)"),
        (ehdr(e_type=2), "executable (ET_EXEC)"),
        (ehdr(e_type=3), "shared library"),
        (ehdr(e_type=0xFE00), "type 0xfe00"),
        (b"\x7fELF\x09\x01" + bytes(60), "unknown class 9"),
    ],
)
def test_files_that_are_no_cores(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    line = refused("info", path)
    assert words in line
    assert str(path) in line


def test_things_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert "a directory" in refused("info", tmp_path)
    assert "a FIFO" in refused("info", tmp_path / "fifo")
    assert "a character device" in refused("info", "/dev/null")
    assert "No such file" in refused("info", tmp_path / "missing")
    assert "\\x0a" in refused("info", tmp_path / "new\nline")
    assert "/\\xff:" in refused("info", os.fsencode(tmp_path) + b"/\xff")
    assert "no process 4194305" in refused("info", "4194305")  # PID_MAX_LIMIT is 4,194,304
    assert "gcore" in refused("ls", "/bin/true")
    assert "a shared library" in refused("info", next(Path(sys.base_prefix).rglob("lib-dynload/*.so")))


@pytest.mark.parametrize(("mode", "want"), [(0o644, "opened\n"), (0, "small.core: Permission denied\n")])
def test_a_file_that_may_not_be_read(small_core: Path, mode: int, want: str) -> None:
    """Root may read everything, so it becomes nobody, once all is imported."""
    code = (
        f"import os, sys; sys.path.insert(0, {str(REPO)!r}); import memfs.api, memfs.backends.elf\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: memfs.open('small.core'); print('opened')\n"
        "except memfs.MemfsError as error: print(error)"
    )
    small_core.chmod(mode)
    small_core.parent.chmod(0o755)
    done = run(sys.executable, "-c", code, cwd=small_core.parent)
    assert done.stdout.decode() == want, done.stderr


def test_an_unpacking_command_that_can_be_pasted(tmp_path: Path) -> None:
    path = tmp_path / "a b;c'd"
    path.write_bytes(b"\x1f\x8b" + bytes(20))
    line = refused("info", path)
    command = line.partition("unpack it: gzip -dk ")[2]
    assert run("sh", "-c", f"printf %s {command}").stdout == str(path).encode()


@pytest.mark.parametrize(("bits", "order"), [(64, "<"), (64, ">"), (32, "<"), (32, ">")])
def test_cut_off_at_every_byte(tmp_path: Path, bits: int, order: str) -> None:
    whole = small_core(bits, order)
    header = 64 if bits == 64 else 52
    path = tmp_path / "cut.core"
    opened = 0
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        try:
            image = memfs.open(str(path))
        except MemfsError as error:
            assert size < header, size
            assert "cut off" in str(error) or "empty" in str(error)
            continue
        opened += 1
        look_through(image.tree)
        if size < len(whole):
            assert image.image.warnings, size
        image.close()
    assert opened == len(whole) + 1 - header


LOOK = f"""
import resource, sys
sys.path[:0] = [{str(REPO)!r}, {str(REPO / "tests")!r}]
import memfs, memfs.api, memfs.tree.process, json
from looking import look_through
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
try:
    image = memfs.open(sys.argv[1])
    look_through(image.tree)
    print(image.cat("info").decode())
except memfs.MemfsError as error:
    print("refused:", error)
"""


def note_of(name_size: int, desc_size: int) -> bytes:
    return struct.pack("<III", name_size, desc_size, 1) + b"CORE\0\0\0\0" + b"x" * 100


ABSURD: dict[str, Callable[[], bytes]] = {
    "phnum-65535": lambda: ehdr(e_phnum=0xFFFF) + bytes(1000),
    "phnum-65534": lambda: ehdr(e_phnum=0xFFFE) + bytes(1000),
    "phentsize-0": lambda: ehdr(e_phnum=7, e_phentsize=0) + bytes(1000),
    "phentsize-1": lambda: ehdr(e_phnum=7, e_phentsize=1) + bytes(1000),
    "phentsize-large": lambda: ehdr(e_phnum=22, e_phentsize=12336) + bytes(1000),
    "phoff-beyond": lambda: ehdr(e_phnum=3, e_phoff=1 << 40) + bytes(100),
    "phoff-wraps": lambda: ehdr(e_phnum=3, e_phoff=(1 << 64) - 10) + bytes(100),
    "xnum-without-section": lambda: ehdr(e_phnum=0xFFFF, e_shoff=1 << 50) + bytes(100),
    "xnum-4-billion": lambda: ehdr(e_phnum=0xFFFF, e_shoff=64) + bytes(44) + b"\xff" * 4 + bytes(100),
    "shnum-bogus": lambda: ehdr(e_shoff=64, e_shnum=65535, e_shentsize=64) + b"\x07" * 5000,
    "note-desc-4-gib": lambda: core(notes=note_of(5, 0xFFFFFFFF)),
    "note-name-4-gib": lambda: core(notes=note_of(0xFFFFFFFF, 4)),
    "note-segment-huge": lambda: core([Header(PT_NOTE, 0, 0, note_of(5, 4), file_size=1 << 62)]),
    "note-everything": lambda: core([Header(PT_NOTE, 0, 0, offset=0, file_size=1 << 20)]),
    "segment-2-63": lambda: core([Header(1, 6, 0x1000, b"x", 1 << 63)]),
    "segment-2-64": lambda: core([Header(1, 6, 0x1000, b"x", (1 << 64) - 1)]),
    "segment-all": lambda: core([Header(1, 6, 0, b"x", (1 << 64) - 1)] * 3),
    "address-wraps": lambda: core([Header(1, 6, (1 << 64) - 4096, b"x" * 8192)]),
    "offset-beyond": lambda: core([Header(1, 6, 0x1000, offset=1 << 40, file_size=4096)]),
    "offset-wraps": lambda: core([Header(1, 6, 0x1000, offset=(1 << 64) - 1, file_size=4096)]),
    "filesz-huge": lambda: core([Header(1, 6, 0x1000, b"x", 10, (1 << 64) - 1)]),
    "files-4-billion": lambda: core(notes=note(b"CORE", 0x46494C45, struct.pack("<QQ", 1 << 32, 1) + b"x" * 50)),
    "one-address-20000": lambda: core([Header(1, 6, 0x1000, offset=64, file_size=100)] * 20000),
    "nested-20000": lambda: core([Header(1, 6, 1 + i, offset=64, file_size=40000 - 2 * i) for i in range(20000)]),
    "auxv-garbage": lambda: core([Header(1, 6, 0x1000, b"\xff" * 9000)], note(b"CORE", 6, b"\xff" * 999)),
    "prstatus-short": lambda: core(notes=note(b"CORE", 1, b"x" * 10) + note(b"CORE", 3, b"y" * 3)),
    "threads-many": lambda: core(notes=note(b"CORE", 1, prstatus_x86_64(1, 1)) * 3000),
    "32-bit-all": lambda: core([Header(1, 6, 0xFFFFF000, b"x" * 8192, 0xFFFFFFFF)], bits=32, machine=3),
}


@pytest.mark.parametrize("name", ABSURD)
def test_absurd_cores(tmp_path: Path, name: str) -> None:
    path = tmp_path / "absurd.core"
    path.write_bytes(ABSURD[name]())
    done = run(sys.executable, "-c", LOOK, path, timeout=120)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert b"kind: process-core" in done.stdout
    assert b"warning: " in done.stdout


@pytest.mark.parametrize("what", ["notes", "headers"])
def test_tables_in_the_holes_of_a_sparse_file(tmp_path: Path, what: str) -> None:
    """1 TiB of zeros that claim to be notes, or program headers, cost neither time nor memory."""
    path = tmp_path / "sparse.core"
    size = 1 << 40
    if what == "notes":
        data = core([Header(PT_NOTE, 0, 0, offset=4096, file_size=size)])
    else:
        data = ehdr(e_phnum=0xFFFF, e_phoff=4096, e_shoff=64) + bytes(44) + b"\xff\xff\xff\x7f" + bytes(100)
    path.write_bytes(data)
    os.truncate(path, size)
    done = run(sys.executable, "-c", LOOK, path, timeout=120)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert b"kind: process-core" in done.stdout


def test_memory_that_is_promised_is_not_allocated(tmp_path: Path) -> None:
    path = tmp_path / "promise.core"
    path.write_bytes(core([Header(1, 6, 0x1000, b"x", 1 << 50)]))
    with memfs.open(str(path)) as image, pytest.raises(memfs.AbsentMemory):
        image.read(0x1000, 1 << 50)


def test_warnings_say_what_is_odd(tmp_path: Path) -> None:
    path = tmp_path / "cut.core"
    path.write_bytes(small_core()[:-50])
    warnings = json.loads(memfs.open(str(path)).cat("info.json"))["warnings"]
    assert "50 bytes short: 1 segment reaches beyond the end of the file" in warnings
