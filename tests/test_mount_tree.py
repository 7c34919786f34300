"""A mount of a core that the kernel wrote: byte for byte the tree, and every Unix tool works on it."""

import ctypes
import errno
import fcntl
import hashlib
import mmap
import os
import random
import re
import select
import signal
import stat
import struct
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import SECRET, Crash
from makecore import Header, core, file_note_64, note
from mounting import PATIENCE, daemons, memfs, mounted, seeks, watchdog
from needs import need, need_tools, run
from treecheck import compare, data_ranges, read_fd, read_path

import memfs as package
from memfs.api import OpenImage
from memfs.facts.regions import Region
from memfs.image import State


@pytest.fixture(scope="module")
def image(crash_core: Crash) -> OpenImage:
    return package.open(str(crash_core.core))


@pytest.fixture(scope="module")
def mount_of_the_module(transport: str, crash_core: Crash, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with mounted(crash_core.core, tmp_path_factory.mktemp("tree") / "m", patience=1200) as point:
        yield point


@pytest.fixture
def mnt(mount_of_the_module: Path) -> Iterator[Path]:
    with watchdog(mount_of_the_module, PATIENCE):
        yield mount_of_the_module


def region(image: OpenImage, name: str) -> Region:
    return next(r for r in image.regions if r.name == name)


def partly_absent(image: OpenImage) -> Region:
    """A region that begins with data, and then has none: the first page of a library, as the kernel dumps it."""
    for r in image.regions:
        tally = image.image.space.tally(r.start, r.end)
        first = next(iter(image.image.space.runs(r.start, r.end)))
        if tally and tally.absent and first.state == State.DATA:
            return r
    raise AssertionError("the kernel dumped no ELF header")


def dense(image: OpenImage) -> list[Region]:
    """Regions of which every byte is data."""
    return [r for r in image.regions if (t := image.image.space.tally(r.start, r.end)) and t.data == r.size]


def refused(number: int, call: Callable[[], object]) -> None:
    with pytest.raises(OSError) as caught:
        call()
    assert caught.value.errno == number


def shell(command: str, cwd: Path, status: int = 0, timeout: float = 60) -> bytes:
    done = run("bash", "-o", "pipefail", "-c", command, cwd=cwd, timeout=timeout)
    assert done.returncode == status, done
    return done.stdout


# -- bytes ---------------------------------------------------------------------------------------------------------


def test_every_byte(image: OpenImage, mnt: Path, crash_core: Crash) -> None:
    assert len(compare(image.tree, mnt, mtime_ns=crash_core.core.stat().st_mtime_ns)) > 100


def test_memfs_cat_gives_the_same_bytes_and_errors(image: OpenImage, mnt: Path, crash_core: Crash) -> None:
    paths = [p.relative_to(mnt) for p in sorted(mnt.rglob("*")) if p.is_file() and not p.is_symlink()]
    read = {path: read_path(mnt / path) for path in paths if path.name != "mem"}
    whole = [path for path, (_, number) in read.items() if not number]
    broken = [path for path, (_, number) in read.items() if number]
    assert len(whole) > 80
    done = memfs("cat", crash_core.core, *whole)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"".join(read[path][0] for path in whole)
    assert len(broken) >= 4
    done = memfs("cat", crash_core.core, *broken)
    assert done.returncode == 1
    assert done.stdout == b"".join(read[path][0] for path in broken)
    assert len(done.stderr.splitlines()) == len(broken)
    assert {read[path][1] for path in broken} == {errno.ENODATA}
    assert any(read[path][0] for path in broken)  # the prefix of one that is there in part


def test_secret_core(secret_core: Path, tmp_path: Path) -> None:
    with mounted(secret_core, tmp_path / "m") as point:
        assert len(compare(package.open(str(secret_core)).tree, point)) > 100
        assert b"the-secret-is-swordfish" in (point / "regions/heap").read_bytes()


def test_a_segment_is_what_the_core_has_there(image: OpenImage, mnt: Path, crash_core: Crash) -> None:
    source = crash_core.core.read_bytes()
    checked = 0
    for record, name in zip(image.segments, os.listdir(mnt / "segments"), strict=True):
        data, number = read_path(mnt / "segments" / name)
        if record.type == 1:
            assert data == source[record.offset : record.offset + record.file_size], name
            assert number == (errno.ENODATA if record.memory_size > record.file_size else 0), name
            checked += record.file_size > 0
    assert checked > 8


@pytest.mark.parametrize("chunk", [1, 511, 4095, 4097, 65537, 1 << 20, 3 << 20])
def test_sizes_of_reads_do_not_matter(image: OpenImage, mnt: Path, chunk: int) -> None:
    names = ["regions/stack", f"regions/{partly_absent(image).name}", "regions/heap", "maps", "headers/phdrs"]
    for name in names if chunk > 500 else names[-2:]:
        assert read_path(mnt / name, chunk) == read_path(mnt / name, 4096), name


def test_links(mnt: Path, image: OpenImage, crash_core: Crash) -> None:
    assert os.readlink(mnt / "exe") == str(crash_core.program)
    current = os.readlink(mnt / "threads/current")
    assert (mnt / "threads/current/registers.json").samefile(mnt / "threads" / current / "registers.json")
    for thread in image.threads:
        stack = mnt / f"threads/{thread.tid}/stack"
        assert stack.samefile(mnt / "regions" / Path(os.readlink(stack)).name)
    assert (mnt / "threads/current/stack").read_bytes() == (mnt / "regions/stack").read_bytes()
    refused(errno.EINVAL, lambda: os.readlink(mnt / "info"))


# -- tools ---------------------------------------------------------------------------------------------------------


def test_tools_that_walk(mnt: Path, image: OpenImage) -> None:
    """find, ls, du and grep see every name, and end without an error but grep's about what is absent."""
    names = {str(p.relative_to(mnt)) for p in mnt.rglob("*")}
    found = shell("find . -mindepth 1 -printf '%P\\n'", mnt).decode().splitlines()
    assert set(found) == names
    assert len(found) == len(names)
    assert len([line for line in shell("ls -lR", mnt).splitlines() if line[:1] in b"-dl" and b" " in line]) == len(
        names
    )
    assert [line.decode() for line in shell("ls -U", mnt).splitlines()] == list(image.tree.names())
    blocks = sum(p.lstat().st_blocks for p in mnt.rglob("*")) * 512
    assert int(shell("du -s --block-size=1 .", mnt).split()[0]) == blocks
    want = {name for name in names if SECRET in read_path(mnt / name)[0] and not (mnt / name).is_symlink()}
    done = run("grep", "-r", "-l", "-a", SECRET.decode(), ".", cwd=mnt)
    assert {line[2:] for line in done.stdout.decode().splitlines()} == want
    assert "regions/heap" in want
    assert done.returncode in (0, 2)  # 2: it says what it could not read
    assert all(b"No data available" in line for line in done.stderr.splitlines())


TOOLS = {
    "tail -c 1000 regions/stack": lambda heap, stack: stack[-1000:],
    "tail -c +1001 regions/heap": lambda heap, stack: heap[1000:],
    "head -c 5000 regions/heap": lambda heap, stack: heap[:5000],
    "dd if=regions/heap bs=16 skip=42 count=2 status=none": lambda heap, stack: heap[672:704],
    "dd if=regions/heap bs=1M iflag=direct status=none": lambda heap, stack: heap,
    "dd if=regions/stack bs=777 skip=3 iflag=skip_bytes,fullblock status=none": lambda heap, stack: stack[3:],
    "xxd -s 0x2a0 -l 48 -p -c 64 regions/heap": lambda heap, stack: heap[0x2A0:0x2D0].hex().encode() + b"\n",
    "xxd -s -16 -p regions/stack": lambda heap, stack: stack[-16:].hex().encode() + b"\n",
    "od -An -v -tx1 -j 100 -N 4 regions/heap": lambda heap, stack: b" " + heap[100:104].hex(" ").encode() + b"\n",
    "wc -c < regions/heap": lambda heap, stack: b"%d\n" % len(heap),
    "cat regions/heap regions/stack": lambda heap, stack: heap + stack,
    "cat < regions/heap | cat": lambda heap, stack: heap,
    "sha256sum < regions/stack": lambda heap, stack: hashlib.sha256(stack).hexdigest().encode() + b"  -\n",
    "cmp regions/heap at/$(sed -n 's/\\([^-]*\\)-\\([^ ]*\\).*heap.*/0x\\1-0x\\2/p' maps)": lambda heap, stack: b"",
    "strings -a -n 20 regions/heap | grep -c -x 'a secret in the heap of crash.c'": lambda heap, stack: b"1\n",
    "grep -c -a 'a secret in the heap' regions/heap": lambda heap, stack: b"1\n",
    'python3 -c \'import sys; sys.stdout.write(str(len(open("regions/heap", "rb").read())))\'': (
        lambda heap, stack: str(len(heap)).encode()
    ),
}


@pytest.mark.parametrize("command", TOOLS)
def test_tools_read_right_bytes(mnt: Path, image: OpenImage, command: str) -> None:
    need_tools(*[word for word in ("strings", "xxd") if command.startswith(word)])
    parts = [image.read(r.start, r.size) for r in (region(image, "heap"), region(image, "stack"))]
    assert shell(command, mnt) == TOOLS[command](*parts)


def test_tools_that_know_elf(mnt: Path, crash_core: Crash, tmp_path: Path) -> None:
    need_tools("file", "readelf", "eu-readelf", "gdb")
    assert b"ELF 64-bit" in shell("file -b regions/vdso", mnt)
    assert b"__vdso_clock_gettime" in shell("readelf --dyn-syms -W regions/vdso", mnt)
    assert b"__vdso_clock_gettime" in shell("eu-readelf -s regions/vdso", mnt)
    assert b"clock_gettime" in shell("gdb -nx -batch -ex 'info functions clock_gettime' regions/vdso", mnt)
    both = (mnt / "headers/ehdr").read_bytes() + (mnt / "headers/phdrs").read_bytes()
    assert crash_core.core.read_bytes().startswith(both)  # as the kernel lays a core out
    (tmp_path / "headers").write_bytes(both)
    for switch in ("-hW", "-lW"):
        of_headers = run("readelf", switch, tmp_path / "headers").stdout
        assert of_headers == run("readelf", switch, crash_core.core).stdout
        assert len(of_headers.splitlines()) > 15
    notes = run("readelf", "-nW", crash_core.core).stdout.decode()
    assert len(re.findall(r"^  \S+ +0x[0-9a-f]{8}\t", notes, re.M)) == len(
        [n for n in os.listdir(mnt / "notes") if not n.endswith((".txt", ".json"))]
    )


def test_getfattr(mnt: Path, image: OpenImage) -> None:
    need_tools("getfattr")
    heap = region(image, "heap")
    said = shell("getfattr -d regions/heap", mnt).decode().splitlines()
    assert f'user.memfs.address="{heap.start:#x}"' in said
    assert f'user.memfs.size="{heap.size:#x}"' in said
    assert 'user.memfs.permissions="rw-"' in said
    walked = shell("getfattr -R -h -P -d -m - .", mnt).decode()
    assert walked.count("user.memfs.address=") == sum(
        1 for p in mnt.rglob("*") if not p.is_symlink() and "user.memfs.address" in os.listxattr(p)
    )


def holes_as_zeros(path: Path) -> bytes:
    """What a sparse copy must hold: the bytes that are there, zeros for those that are not."""
    fd = os.open(path, os.O_RDONLY)
    try:
        out = bytearray(os.fstat(fd).st_size)
        for start, end in data_ranges(fd, 100_000):
            out[start:end] = os.pread(fd, end - start, start)
        return bytes(out)
    finally:
        os.close(fd)


@pytest.mark.needs("seek")
def test_tar_of_everything(mnt: Path, tmp_path: Path) -> None:
    """tar -S of the whole tree ends, and holds every byte; what is absent is a hole."""
    shell(f"tar -S -cf {tmp_path}/t.tar . && tar -xf {tmp_path}/t.tar -C {tmp_path}", mnt)
    with tarfile.open(tmp_path / "t.tar") as archive:
        assert any(member.issparse() for member in archive)
    compared = 0
    for path in mnt.rglob("*"):
        copy = tmp_path / path.relative_to(mnt)
        if path.is_symlink():
            assert os.readlink(copy) == os.readlink(path)
        elif path.is_file():
            assert copy.read_bytes() == (b"" if path.name == "mem" else holes_as_zeros(path)), path  # mem has no size
            compared += 1
    assert compared > 100


@pytest.mark.needs("seek")
@pytest.mark.parametrize("sparse", ["always", "auto"])
def test_cp(mnt: Path, tmp_path: Path, sparse: str) -> None:
    shell(f"cp -r --sparse={sparse} regions segments {tmp_path}", mnt)
    for directory in ("regions", "segments"):
        for name in os.listdir(mnt / directory):
            path, copy = mnt / directory / name, tmp_path / directory / name
            want = holes_as_zeros(path)
            assert copy.read_bytes() == want, name
            stored = copy.stat().st_blocks * 512
            assert stored <= -(-path.stat().st_blocks * 512 // 4096) * 4096 + 4096, name
            assert sparse == "auto" or any(want) or not stored


# -- mmap ----------------------------------------------------------------------------------------------------------


def test_mmap_of_what_is_all_there(mnt: Path, image: OpenImage) -> None:
    mapped = 0
    for r in dense(image):
        with (mnt / "regions" / r.name).open("rb") as file:
            for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
                with mmap.mmap(file.fileno(), 0, flags, mmap.PROT_READ) as mapping:
                    assert mapping[:] == image.read(r.start, r.size), r.name
                    mapped += 1
    assert mapped >= 10


def touch(path: Path, size: int, *offsets: int) -> list[int | str]:
    """What a process sees at offsets of a private mapping of `size` bytes: a byte, or the signal that it gets."""
    code = (
        "import mmap, sys\n"
        "file = open(sys.argv[1], 'rb')\n"
        "mapping = mmap.mmap(file.fileno(), int(sys.argv[2]), mmap.MAP_PRIVATE, mmap.PROT_READ)\n"
        "print(mapping[int(sys.argv[3])], flush=True)\n"
    )
    seen: list[int | str] = []
    for offset in offsets:
        done = run(sys.executable, "-c", code, path, size, offset)
        assert not done.stderr, done.stderr
        seen.append(int(done.stdout) if done.returncode == 0 else signal.Signals(-done.returncode).name)
    return seen


def test_mmap_of_what_is_partly_absent(mnt: Path, image: OpenImage) -> None:
    """MAP_SHARED is refused; MAP_PRIVATE shows what is there, and SIGBUS where nothing is."""
    r = partly_absent(image)
    path = mnt / "regions" / r.name
    with path.open("rb") as file:
        refused(errno.ENODEV, lambda: mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ))
        with mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapping:
            assert mapping[:4096] == image.read(r.start, 4096)
    assert touch(path, r.size, 0, r.size - 1) == [image.read(r.start, 1)[0], "SIGBUS"]
    assert path.stat().st_size == r.size


@pytest.mark.parametrize("first", [0, 9_999, 10_000, 12_288])
def test_mapping_makes_nothing_up(tmp_path: Path, first: int) -> None:
    """A page fault on a file whose page is not all there must neither shrink the file for everybody nor fill the
    page with zeros, whichever page is touched first."""
    path = tmp_path / "part.core"
    path.write_bytes(core([Header(address=0x10000, data=b"A" * 10_000, memory_size=400_000)]))
    offsets = [0, 4095, 8191, 8192, 9_999, 10_000, 12_287, 12_288, 399_999]
    with mounted(path, tmp_path / "m") as point:
        file = point / SEGMENT
        want = {offset: 65 if offset < 8192 else "SIGBUS" for offset in offsets}
        for offset in (first, *offsets):
            assert touch(file, 400_000, offset) == [want[offset]]
            assert file.stat().st_size == 400_000
        assert read_path(file) == (b"A" * 10_000, errno.ENODATA)
        with (point / "mem").open("rb") as mem:
            assert os.pread(mem.fileno(), 20_000, 0x10000) == b"A" * 10_000


# -- data and holes ------------------------------------------------------------------------------------------------


def test_seek_in_a_dense_file(mnt: Path, image: OpenImage) -> None:
    r = max(dense(image), key=lambda r: r.size)
    assert r.size > 4096
    with (mnt / "regions" / r.name).open("rb") as file:
        fd, size = file.fileno(), r.size
        assert os.fstat(fd).st_blocks * 512 == size
        assert os.lseek(fd, 0, os.SEEK_END) == size
        assert os.lseek(fd, 100, os.SEEK_DATA) == 100
        assert os.lseek(fd, 100, os.SEEK_HOLE) == size
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            refused(errno.ENXIO, lambda whence=whence: os.lseek(fd, size, whence))
        refused(errno.EINVAL, lambda: os.lseek(fd, 0, 9))


@pytest.mark.needs("seek")
def test_seek_in_a_partly_absent_file(mnt: Path, image: OpenImage) -> None:
    r = partly_absent(image)
    there = next(iter(image.image.space.runs(r.start, r.end))).end - r.start
    with (mnt / "regions" / r.name).open("rb") as file:
        fd = file.fileno()
        assert os.lseek(fd, 0, os.SEEK_HOLE) == there
        assert os.lseek(fd, there, os.SEEK_HOLE) == there
        refused(errno.ENXIO, lambda: os.lseek(fd, there, os.SEEK_DATA))
        assert os.fstat(fd).st_blocks == there // 512
        assert os.pread(fd, there + 100, 0) == image.read(r.start, there)  # to the byte, then:
        refused(errno.ENODATA, lambda: os.pread(fd, 1, there))
        assert os.pread(fd, 1, r.size) == b""


@pytest.mark.needs("seek")
def test_mem_is_an_address_space(mnt: Path, image: OpenImage) -> None:
    heap = region(image, "heap")
    fd = os.open(mnt / "mem", os.O_RDONLY)
    try:
        assert os.fstat(fd).st_size == 0
        assert os.pread(fd, heap.size, heap.start) == (mnt / "regions/heap").read_bytes()
        for gap in (0, heap.end, 1 << 62, (1 << 63) - 8192):
            refused(errno.ENODATA, lambda gap=gap: os.pread(fd, 16, gap))
        assert os.pread(fd, 64, heap.end - 8) == image.read(heap.end - 8, 8)
        first = os.lseek(fd, 0, os.SEEK_DATA)
        assert first == next(r.start for r in image.image.space.runs(0, 1 << 63) if r.state == State.DATA)
        assert os.lseek(fd, first, os.SEEK_HOLE) > first
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 0
        assert os.read(fd, 16) if os.lseek(fd, heap.start, os.SEEK_SET) else True
    finally:
        os.close(fd)


def sparse_core(path: Path, size: int, pieces: list[tuple[int, bytes]]) -> None:
    """A core whose one segment, from 4096 on in the file, has these pieces and holes."""
    with path.open("wb") as file:
        file.write(core([Header(address=0x10000, offset=4096, file_size=size)]))
        file.truncate(4096 + size)
        for offset, data in pieces:
            file.seek(4096 + offset)
            file.write(data)


SEGMENT = f"segments/000-{0x10000:016x}-rw-"


def test_holes_of_the_source(tmp_path: Path) -> None:
    """Holes are zeros without blocks, and the file can be mapped and cached: nothing of it is absent."""
    path = tmp_path / "holes.core"
    pieces = [(0, b"a" * 4096), (1 << 20, b"b" * 8192), ((3 << 20) + 4096, b"c" * 4096)]
    size = 4 << 20
    sparse_core(path, size, pieces)
    need(path.stat().st_blocks * 512 < 1 << 20, f"{tmp_path} is on a filesystem without holes")
    want = bytearray(size)
    for offset, data in pieces:
        want[offset : offset + len(data)] = data
    with mounted(path, tmp_path / "m") as point:
        compare(package.open(str(path)).tree, point)
        assert (point / SEGMENT).read_bytes() == want
        with (point / SEGMENT).open("rb") as file:
            if seeks():
                assert data_ranges(file.fileno(), 9) == [(offset, offset + len(data)) for offset, data in pieces]
            assert os.fstat(file.fileno()).st_blocks * 512 == 16384
            with mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as mapping:
                assert mapping[:] == want
        with (point / "mem").open("rb") as mem:  # zeros here are memory, not a gap
            assert os.pread(mem.fileno(), 4096, 0x10000 + 8192) == bytes(4096)
            assert not seeks() or os.lseek(mem.fileno(), 0, os.SEEK_DATA) == 0x10000


@pytest.mark.needs("seek")
def test_a_sparse_core_of_1_tib(tmp_path: Path) -> None:
    path, size, middle = tmp_path / "sparse.core", 1 << 40, 1 << 39
    sparse_core(path, size, [(0, b"data" * 1024), (middle, b"half" * 1024), (size - 4096, b"last" * 1024)])
    with mounted(path, tmp_path / "m") as point:
        info = os.stat(point / SEGMENT)
        assert (info.st_size, info.st_blocks * 512) == (size, 3 * 4096)
        for sparse in ("always", "auto"):
            assert run("cp", f"--sparse={sparse}", point / SEGMENT, tmp_path / "copy", timeout=60).returncode == 0
            with (tmp_path / "copy").open("rb") as copy, (point / SEGMENT).open("rb") as file:
                assert os.fstat(copy.fileno()).st_size == size
                assert os.fstat(copy.fileno()).st_blocks * 512 < 1 << 20
                for offset in (0, middle, size - 4096, 1 << 30):
                    assert os.pread(copy.fileno(), 4096, offset) == os.pread(file.fileno(), 4096, offset)
        with (point / SEGMENT).open("rb") as file:
            fd = file.fileno()
            assert os.lseek(fd, 1 << 30, os.SEEK_DATA) == middle
            assert os.lseek(fd, 0, os.SEEK_HOLE) == 4096
            assert os.pread(fd, 8, (1 << 32) - 4) == bytes(8)
            assert os.pread(fd, 8, middle - 4) == b"\0\0\0\0half"
            assert os.pread(fd, 100, size - 4) == b"last"
        assert shell(f"tail -c 4 {SEGMENT}", point) == b"last"
        assert shell(f"dd if={SEGMENT} bs=4096 skip={middle // 4096} count=1 status=none", point) == b"half" * 1024
        assert shell(f"cmp {SEGMENT} at/0x10000:{size} -n 1048576 -i {middle - 4096}", point) == b""
        shell(f"tar -S -cf {tmp_path}/t.tar {SEGMENT}", point)
        assert (tmp_path / "t.tar").stat().st_size < 1 << 20
        assert int(shell("du -s --block-size=1 segments", point).split()[0]) <= 1 << 20
    (tmp_path / "copy").unlink()


@pytest.mark.needs("seek")
def test_the_largest_sizes(tmp_path: Path) -> None:
    path = tmp_path / "huge.core"
    path.write_bytes(core([Header(address=0x1000, data=b"begin", memory_size=(1 << 63) + 4096)]))
    largest = (1 << 63) - 4096
    with mounted(path, tmp_path / "m") as point:
        segment = point / f"segments/000-{0x1000:016x}-rw-"
        assert segment.stat().st_size == largest
        assert segment.stat().st_blocks == 1
        fd = os.open(segment, os.O_RDONLY)
        assert read_fd(fd) == (b"begin", errno.ENODATA)
        assert os.pread(fd, 5, 0) == b"begin"
        assert os.lseek(fd, 0, os.SEEK_END) == largest
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 5
        refused(errno.ENXIO, lambda: os.lseek(fd, 5, os.SEEK_DATA))
        refused(errno.ENODATA, lambda: os.pread(fd, 4096, largest - 4096))
        os.close(fd)
        assert str(largest).encode() in shell("ls -lsR .", point)
        assert b"segments/000" in shell("find . -type f -size +1000000G", point)
        assert int(shell("du -s --block-size=1 segments", point).split()[0]) <= 8192
        shell(f"tar -S -cf {tmp_path}/t.tar maps info.json mem", point)
    with mounted(path, tmp_path / "m", "-o", "absent=zero") as point:
        segment = point / f"segments/000-{0x1000:016x}-rw-"
        with segment.open("rb") as file:
            assert os.pread(file.fileno(), 9, 0) == b"begin\0\0\0\0"
            assert os.pread(file.fileno(), 4096, largest - 4096) == bytes(4096)
            assert os.pread(file.fileno(), 4096, largest - 10) == bytes(10)
            assert data_ranges(file.fileno(), 9) == [(0, 5)]


def test_addresses_that_are_no_offsets(tmp_path: Path) -> None:
    """Memory in the upper half is in segments/, regions/ and at/; mem ends before it, and info says so."""
    path = tmp_path / "high.core"
    last = (1 << 64) - 4096
    pages = {0x400000: b"l" * 4096, 0xFFFFFFFFFF600000: b"h" * 4096, last: b"e" * 4096}
    path.write_bytes(core([Header(address=a, data=data) for a, data in pages.items()]))
    with mounted(path, tmp_path / "m") as point:
        compare(package.open(str(path)).tree, point)
        for index, (address, data) in enumerate(pages.items()):
            assert (point / f"segments/{index:03}-{address:016x}-rw-").read_bytes() == data
            assert (point / f"at/{address:#x}").read_bytes() == data
            assert (point / f"at/{address + 4095:#x}:1").read_bytes() == data[:1]
        with (point / "mem").open("rb") as mem:
            assert not seeks() or data_ranges(mem.fileno(), 9) == [(0x400000, 0x401000)]
        assert "warning: memory above 0x7ffffffffffff000 is not in mem" in (point / "info").read_text()
        fd = os.open(point / f"at/{last:#x}:5000", os.O_RDONLY)
        assert read_fd(fd) == (b"e" * 4096, errno.ENODATA)
        os.close(fd)


# -- reads of all kinds --------------------------------------------------------------------------------------------


class Large(NamedTuple):
    """A core of 96 MiB: a segment that is all there, and one whose end was not dumped."""

    path: Path
    data: bytes
    dense: str
    cut: str
    cut_at: int


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Large:
    path = tmp_path_factory.mktemp("large") / "large.core"
    data = random.Random(7).randbytes(64 << 20) + bytes(range(256)) * (32 << 12)
    cut = data[: (5 << 20) + 123]
    path.write_bytes(
        core([Header(address=0x10000, data=data), Header(address=1 << 32, data=cut, memory_size=len(cut) + 54321)])
    )
    return Large(path, data, SEGMENT, f"segments/001-{1 << 32:016x}-rw-", len(cut))


def test_many_threads_read_at_odd_places(large: Large, tmp_path: Path) -> None:
    wrong: list[str] = []

    def work(point: Path, seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(80):
            name = rng.choice((large.dense, large.cut))
            end = len(large.data) if name == large.dense else large.cut_at
            offset, size = rng.randrange(end), rng.choice((1, 4096, 70001, 131072, 1 << 20, rng.randrange(3 << 20)))
            fd = os.open(point / name, os.O_RDONLY | rng.choice((0, 0, os.O_DIRECT)))
            got = os.pread(fd, size, offset)
            if got != large.data[offset : min(end, offset + size)]:
                wrong.append(f"{name} {offset} {size}: {len(got)}")
            os.close(fd)

    with mounted(large.path, tmp_path / "m") as point:
        threads = [threading.Thread(target=work, args=(point, seed)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
    assert not wrong


def test_whole_files_and_the_memory_that_they_cost(large: Large, tmp_path: Path) -> None:
    """Read to the end by page cache, direct and mapped; the daemon stays small and keeps no descriptor."""
    want = hashlib.sha256(large.data).digest()
    with mounted(large.path, tmp_path / "m") as point:
        (daemon,) = daemons(point)
        (point / large.dense).open("rb").read(1 << 20)  # the first worker has its pipe now
        before = opened(daemon)
        for flags in (0, os.O_DIRECT):
            fd = os.open(point / large.dense, os.O_RDONLY | flags)
            digest = hashlib.sha256()
            while piece := os.read(fd, 1 << 20):
                digest.update(piece)
            os.close(fd)
            assert digest.digest() == want
        with (
            (point / large.dense).open("rb") as file,
            mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as mapping,
        ):
            assert hashlib.sha256(mapping).digest() == want
        assert read_path(point / large.cut) == (large.data[: large.cut_at], errno.ENODATA)
        status = Path(f"/proc/{daemon}/status").read_text()
        assert int(re.search(r"VmRSS:\s+(\d+)", status)[1]) < 100 << 10  # type: ignore[index]
        assert {link for link in opened(daemon) - before if not link.startswith("pipe:")} == set()
        assert len(opened(daemon)) <= len(before) + 16, "a pipe for each worker"


def opened(process: int) -> set[str]:
    """What a process has open."""
    return {os.readlink(link) for link in Path(f"/proc/{process}/fd").iterdir()}


def test_a_file_that_others_have_open(large: Large, tmp_path: Path) -> None:
    """Positions belong to who opened, not to the node."""
    with mounted(large.path, tmp_path / "m") as point, (point / large.dense).open("rb", 0) as one:
        with (point / large.dense).open("rb", 0) as other:
            one.seek(1000)
            assert other.read(100) == large.data[:100]
            assert one.read(100) == large.data[1000:1100]
        assert one.read(100) == large.data[1100:1200]
        copy = os.dup(one.fileno())
        assert os.read(copy, 100) == large.data[1200:1300]
        os.close(copy)


# -- attributes, rights --------------------------------------------------------------------------------------------


def test_extended_attributes(mnt: Path, image: OpenImage) -> None:
    heap = region(image, "heap")
    path = mnt / "regions/heap"
    assert os.getxattr(path, "user.memfs.address") == hex(heap.start).encode()
    assert os.getxattr(path, "user.memfs.size") == hex(heap.size).encode()
    assert os.getxattr(path, "user.memfs.permissions") == b"rw-"
    assert os.getxattr(path, "user.memfs.origin") == b"image"
    assert os.getxattr(mnt / "regions/crash.data", "user.memfs.path").endswith(b"/crash")
    for name in os.listdir(mnt / "segments"):
        address = os.getxattr(mnt / "segments" / name, "user.memfs.address")
        assert "-note" in name or int(address, 16) == int(name.split("-")[1], 16)
    part = mnt / f"at/{heap.start + 16:#x}:64"
    assert os.getxattr(part, "user.memfs.address") == hex(heap.start + 16).encode()
    assert os.getxattr(part, "user.memfs.size") == b"0x40"
    offset = int(os.getxattr(path, "user.memfs.offset"), 16)
    assert int(os.getxattr(part, "user.memfs.offset"), 16) == offset + 16
    assert os.listxattr(mnt / "info") == []
    for name, number in (
        ("user.other", errno.ENODATA),
        ("user.memfs.physical", errno.ENODATA),
        ("security.selinux", errno.EOPNOTSUPP),
        ("trusted.x", errno.EOPNOTSUPP),
        ("system.posix_acl_access", errno.EOPNOTSUPP),
    ):
        refused(number, lambda name=name: os.getxattr(path, name))


def test_the_offset_attribute_leads_to_the_bytes(mnt: Path, image: OpenImage, crash_core: Crash) -> None:
    source = crash_core.core.read_bytes()
    for r in dense(image):
        offset = int(os.getxattr(mnt / "regions" / r.name, "user.memfs.offset"), 16)
        data = (mnt / "regions" / r.name).read_bytes()
        assert source[offset : offset + 4096] == data[:4096], r.name


def test_nothing_can_be_changed(mnt: Path) -> None:
    changes: tuple[Callable[[], object], ...] = (
        lambda: os.open(mnt / "new", os.O_CREAT | os.O_WRONLY),
        lambda: os.open(mnt / "info", os.O_WRONLY),
        lambda: os.open(mnt / "info", os.O_RDWR),
        lambda: os.open(mnt / "info", os.O_WRONLY | os.O_APPEND),
        lambda: os.open(mnt / "info", os.O_RDONLY | os.O_TRUNC),
        lambda: os.open(mnt, os.O_TMPFILE | os.O_WRONLY),
        lambda: os.mkdir(mnt / "new"),
        lambda: os.rmdir(mnt / "regions"),
        lambda: os.unlink(mnt / "info"),
        lambda: os.unlink(mnt / "at/0x10"),
        lambda: os.rename(mnt / "info", mnt / "old"),
        lambda: os.truncate(mnt / "info", 0),
        lambda: os.chmod(mnt / "info", 0o777),
        lambda: os.chown(mnt / "info", 0, 0),
        lambda: os.utime(mnt / "info"),
        lambda: os.symlink("x", mnt / "link"),
        lambda: os.link(mnt / "info", mnt / "link"),
        lambda: os.mkfifo(mnt / "fifo"),
        lambda: os.setxattr(mnt / "info", "user.x", b"y"),
        lambda: os.removexattr(mnt / "regions/heap", "user.memfs.size"),
    )
    before = os.listdir(mnt)
    for index, change in enumerate(changes):
        with pytest.raises(OSError) as caught:
            change()
        missing = index == 9  # what does not exist cannot be removed, whatever the filesystem
        assert caught.value.errno in ((errno.EROFS, errno.ENOENT) if missing else (errno.EROFS,)), index
    assert os.listdir(mnt) == before
    assert not os.access(mnt / "info", os.W_OK)


def test_what_programs_ask_of_a_file(mnt: Path) -> None:
    """poll says ready, ioctl is not for us, a lock can be had, and memory is never run."""
    with (mnt / "regions/heap").open("rb") as file:
        poll = select.poll()
        poll.register(file, select.POLLIN)
        assert poll.poll(10_000)
        refused(errno.ENOTTY, lambda: fcntl.ioctl(file, 0x5401, bytes(64)))
        fcntl.flock(file, fcntl.LOCK_SH)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        receive, send = os.pipe()
        assert os.sendfile(send, file.fileno(), 100, 1000) == 1000
        assert os.read(receive, 1000) == os.pread(file.fileno(), 1000, 100)
        os.close(receive)
        os.close(send)
    refused(errno.EACCES, lambda: os.execv(mnt / "regions/vdso", ["vdso"]))
    refused(errno.ENOTDIR, lambda: os.listdir(mnt / "info"))
    refused(errno.EISDIR, lambda: (mnt / "regions").open("rb"))
    refused(errno.ENOENT, lambda: os.stat(mnt / "none"))
    refused(errno.ENOENT, lambda: os.stat(mnt / ("x" * 255)))


def test_at(mnt: Path, image: OpenImage) -> None:
    heap = region(image, "heap")
    want = (mnt / "regions/heap").read_bytes()
    start, end = heap.start, heap.end
    assert (mnt / f"at/{start:#x}").read_bytes() == want
    assert (mnt / f"at/{start + 5:#x}").read_bytes() == want[5:]
    assert (mnt / f"at/{start + 5:#x}:0x20").read_bytes() == want[5:37]
    assert (mnt / f"at/0x{start + 5:X}:32").read_bytes() == want[5:37]
    assert (mnt / f"at/0x{start:016x}:8").read_bytes() == want[:8]
    assert (mnt / f"at/{start:#x}-{start + 7:#x}").read_bytes() == want[:7]
    assert (mnt / f"at/{start:#x}:64").stat().st_size == 64
    assert (mnt / f"at/{start:#x}:64").stat().st_blocks == 1
    assert os.listdir(mnt / "at") == []
    assert "at" not in os.listdir(mnt)
    assert stat.S_ISDIR((mnt / "at").stat().st_mode)
    wrong = ["0x10", "main", f"{start}", "0x", "", f"{start:x}", "0x1" + "0" * 16, "0xg", "..0x10", "-1", ":", "0x10-"]
    wrong += [f"{start:#x}{rest}" for rest in (":0", ":-1", ":", ":1k", f"-{start:#x}", f"-{start - 1:#x}", "+1", " ")]
    for expression in filter(None, wrong):
        refused(errno.ENOENT, lambda expression=expression: os.stat(mnt / "at" / expression))
    # Past the end of the heap nothing is mapped.
    assert read_path(mnt / f"at/{end - 8:#x}:64") == (want[-8:], errno.ENODATA)
    absent = region(image, "libc.so.6.text")
    assert read_path(mnt / f"at/{absent.start:#x}:64") == (b"", errno.ENODATA)
    r = partly_absent(image)
    there = next(iter(image.image.space.runs(r.start, r.end))).end
    assert read_path(mnt / f"at/{there - 3:#x}:64") == (image.read(there - 3, 3), errno.ENODATA)
    with (mnt / f"at/{there - 3:#x}:64").open("rb") as file:
        assert not seeks() or data_ranges(file.fileno(), 9) == [(0, 3)]


def test_statfs(mnt: Path) -> None:
    info = os.statvfs(mnt)
    assert info.f_namemax == 255
    assert info.f_flag & os.ST_RDONLY
    assert info.f_flag & os.ST_NOSUID
    assert info.f_flag & os.ST_NODEV
    assert info.f_flag & os.ST_NOEXEC
    assert (info.f_bfree, info.f_bavail, info.f_ffree) == (0, 0, 0)
    assert str(mnt).encode() in run("df", "-a", mnt).stdout


# -- options -------------------------------------------------------------------------------------------------------


def test_options(crash_core: Crash, tmp_path: Path) -> None:
    options = "umask=0022,uid=12,gid=34,fsname=a\\,b,absent=zero,nodev"
    with mounted(crash_core.core, tmp_path / "m", "-o", options) as point:
        zeros = package.open(str(crash_core.core), absent="zero")
        assert len(compare(zeros.tree, point, umask=0o022)) > 100
        assert all(p.lstat().st_uid == 12 and p.lstat().st_gid == 34 for p in (point, *point.rglob("*")))
        text = (point / "regions/libc.so.6.text").read_bytes()
        assert len(text) == os.stat(point / "regions/libc.so.6.text").st_size
        assert not any(text)
        with (point / "regions/libc.so.6.text").open("rb") as file:
            mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ).close()
        with (point / "mem").open("rb") as mem:
            refused(errno.ENODATA, lambda: os.pread(mem.fileno(), 1, 0))  # gaps stay gaps
        done = run("grep", "-rl", "no such text anywhere", ".", cwd=point)
        assert (done.stdout, done.stderr) == (b"", b"grep: ./mem: No data available\n")  # a gap; nothing else failed
        source = next(line for line in Path("/proc/self/mounts").read_text().splitlines() if str(point) in line)
        assert source.startswith("a,b ")
        assert " fuse.memfs ro," in source


@pytest.mark.parametrize(("umask", "mode"), [("0", 0o444), ("0777", 0), ("027", 0o440)])
def test_umask(secret_core: Path, tmp_path: Path, umask: str, mode: int) -> None:
    with mounted(secret_core, tmp_path / "m", "-o", f"umask={umask}", "-o", "uid=4294967294") as point:
        assert stat.S_IMODE((point / "info").stat().st_mode) == mode
        assert stat.S_IMODE((point / "regions").stat().st_mode) == 0o555 & ~int(umask, 8)
        assert stat.S_IMODE(point.stat().st_mode) == 0o555 & ~int(umask, 8)
        assert stat.S_IMODE((point / "exe").lstat().st_mode) == 0o777
        assert (point / "info").stat().st_uid == 4294967294


# -- names, large directories --------------------------------------------------------------------------------------


def test_odd_names(tmp_path: Path) -> None:
    paths = [b"/t/w\xfcrd", b"/t/new\nline", b"/t/" + b"x" * 255, b"/t/.hidden", b"/t/per%cent", b"/t/a b", b"/t/\xff"]
    paths += [b"/t/" + "ü".encode() * 127, b"/t/foo", b"/t/foo.json", b"/", b"/t/back\\slash", b"/t/tab\ttab"]
    notes = note(
        b"CORE", 0x46494C45, file_note_64(*[(0x10000 * i, 0x10000 * i + 4096, 0, p) for i, p in enumerate(paths, 1)])
    )
    path = tmp_path / "odd.core"
    path.write_bytes(core([Header(address=0x10000 * i, data=b"%d" % i * 4) for i in range(1, len(paths) + 1)], notes))
    with mounted(path, tmp_path / "m") as point:
        files = compare(package.open(str(path)).tree, point)
        names = [os.fsencode(name) for name in os.listdir(point / "regions")]
        assert len(set(names)) == len(names) >= len(paths)
        assert max(len(name) for name in names) <= 255
        assert not any(b"\n" in name or b"\t" in name or name.startswith(b".") for name in names)
        assert any(b"w\xfcrd" in name for name in names)
        done = run("find", ".", "-type", "f", "-print0", cwd=point)
        assert sorted(done.stdout.split(b"\0")[:-1]) == sorted(b"./" + os.fsencode(name) for name in files)


def test_a_directory_of_70000(transport: str, tmp_path: Path) -> None:
    count = 70_000 if transport == "kernel" else 7_000  # the others list without the kernel's cache
    path = tmp_path / "large.core"
    table = b"".join(
        struct.pack("<IIQQQQQQ", 1, 4, 64, 0x10000 * i, 0, i % 64, i % 128, 1) for i in range(1, count + 1)
    )
    section = struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, count, 0, 0)
    head = core(e_phnum=0xFFFF, e_shoff=64 + len(table), e_shentsize=64, e_shnum=1)
    path.write_bytes(head[:64] + table + section)
    want = [f"{i - 1:03}-{0x10000 * i:016x}-r--" for i in range(1, count + 1)]
    with mounted(path, tmp_path / "m") as point:
        entries = list(os.scandir(point / "segments"))
        assert [entry.name for entry in entries] == want
        assert [entry.stat().st_size for entry in entries] == [i % 128 for i in range(1, count + 1)]
        assert [entry.inode() for entry in entries] == [entry.stat().st_ino for entry in entries]
        done = run("ls", "-l", point / "segments", timeout=60)
        assert len(done.stdout.splitlines()) == count + 1
        assert done.stderr == b""
        assert os.listdir(point / "segments") == want  # out of the kernel's cache
        raw = path.read_bytes()
        for i in (1, 2, 63, 64, 65, 5432, count):
            data, number = read_path(point / "segments" / want[i - 1])
            stored = min(i % 64, i % 128)
            assert data == raw[64 : 64 + stored]
            assert number == (errno.ENODATA if i % 128 > i % 64 else 0)
        refused(errno.ENOENT, lambda: os.stat(point / "segments" / "70001-0"))
        for places in ([0, 1, 2, 193, 194, 195, 196, count // 3, count - 1], [count - 1, 3, count // 2, 0]):
            assert seek_and_read(point / "segments", places) == [want[place] for place in places]


def seek_and_read(directory: Path, places: list[int]) -> list[str]:
    """telldir(3) of every entry, then seekdir(3) to some and the entries there."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    libc.telldir.restype = ctypes.c_long
    libc.readdir.argtypes = libc.telldir.argtypes = libc.closedir.argtypes = (ctypes.c_void_p,)
    libc.seekdir.argtypes = (ctypes.c_void_p, ctypes.c_long)
    stream = libc.opendir(os.fsencode(directory))
    assert stream

    def entry() -> str | None:
        found = libc.readdir(stream)
        return os.fsdecode(ctypes.string_at(found + 19)) if found else None  # d_name of struct dirent

    positions: list[int] = []
    while True:
        position = libc.telldir(stream)
        name = entry()
        if name is None:
            break
        if name not in (".", ".."):
            positions.append(position)
    out = []
    for place in places:
        libc.seekdir(stream, positions[place])
        out.append(entry() or "")
    libc.closedir(stream)
    return out


def test_two_lists_at_once(mnt: Path, image: OpenImage) -> None:
    """Each opendir has its own position."""
    want = list(image.tree.names())
    with os.scandir(mnt) as one, os.scandir(mnt) as other:
        assert [next(one).name, next(other).name, next(one).name] == [want[0], want[0], want[1]]
        assert [entry.name for entry in other] == want[1:]
        assert [entry.name for entry in one] == want[2:]
