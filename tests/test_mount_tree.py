"""A mount of a core that the kernel wrote: byte for byte the tree, and every Unix tool works on it."""

import errno
import mmap
import os
import random
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SECRET, Crash
from makecore import Header, core
from mounting import mounted
from needs import need_tools, run

import memfs
from memfs.api import OpenImage
from memfs.errors import MemfsError
from memfs.tree.node import AddressSpace, Dir, File, Link


@pytest.fixture(scope="module")
def image(crash: Crash) -> OpenImage:
    return memfs.open(str(crash.core))


@pytest.fixture(scope="module")
def mnt(crash: Crash, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with mounted(crash.core, tmp_path_factory.mktemp("tree") / "m") as point:
        yield point


def read_all(fd: int) -> tuple[bytes, int]:
    """Everything up to the end or an error, and its errno (0 for none)."""
    out = b""
    while True:
        try:
            piece = os.pread(fd, 1 << 20, len(out))
        except OSError as error:
            return out, error.errno or -1
        if not piece:
            return out, 0
        out += piece


def file_bytes(node: File) -> tuple[bytes, int]:
    """The same of a node, without a mount."""
    reader, out = node.open(), b""
    buffer = memoryview(bytearray(1 << 20))
    while True:
        try:
            got = reader.readinto(len(out), buffer)
        except MemfsError as error:
            return out, error.errno
        if not got:
            return out, 0
        out += bytes(buffer[:got])


def compare(directory: Dir, path: Path) -> int:
    """A directory of the mount with the tree's: names in order, kinds, sizes, links, bytes. Returns the files."""
    entries = list(os.scandir(path))
    assert [entry.name for entry in entries] == list(directory.names())
    count = 0
    for entry, (name, node) in zip(entries, directory.entries(), strict=True):
        info = entry.stat(follow_symlinks=False)
        assert entry.inode() == info.st_ino
        if isinstance(node, Dir):
            assert stat.S_IMODE(info.st_mode) == 0o500
            count += compare(node, path / name)
        elif isinstance(node, Link):
            assert os.readlink(path / name) == node.target
        elif isinstance(node, File):
            count += 1
            assert (info.st_size, stat.S_IMODE(info.st_mode)) == (node.stat().size, 0o400)
            assert info.st_blocks == -(-node.stat().data // 512)
            fd = os.open(path / name, os.O_RDONLY)
            assert isinstance(node, AddressSpace) or read_all(fd) == file_bytes(node), name
            os.close(fd)
    return count


def test_every_byte(image: OpenImage, mnt: Path) -> None:
    assert compare(image.tree, mnt) > 100


def test_secret_core(secret_core: Path, tmp_path: Path) -> None:
    with mounted(secret_core, tmp_path / "m") as point:
        assert compare(memfs.open(str(secret_core)).tree, point) > 100
        assert b"the-secret-is-swordfish" in (point / "regions/heap").read_bytes()


def test_links_resolve(mnt: Path) -> None:
    assert (mnt / "threads/current/registers.json").exists()
    assert (mnt / "threads/current/stack").read_bytes() == (mnt / "regions/stack").read_bytes()


@pytest.mark.parametrize(
    "command",
    [
        "find . -type f -size +0 | wc -l",
        "ls -lR | wc -l",
        "du -s .",
        "file -b regions/vdso | grep ELF",
        "strings regions/heap | grep 'a secret in the heap'",
        "(grep -rl 'a secret in the heap' . 2>/dev/null || true) | grep regions/heap",
        "xxd -s 0x2a0 -l 16 regions/heap | grep 'a secret'",
        "tail -c 16 regions/stack | xxd",
        "dd if=regions/heap bs=16 skip=42 count=2 status=none | grep -a secret",
        "readelf -hW regions/vdso | grep -i elf64",
        "cmp regions/heap at/0x$(sed -n 's/-.*heap.*//p' maps) && echo same",
        "cat threads/*/registers.json | grep -c rip",
        "head -c 4 regions/vdso | od -c | grep E",
    ],
)
def test_tools(mnt: Path, command: str) -> None:
    need_tools(*[word for word in ("file", "strings", "xxd", "readelf") if word in command])
    done = run("bash", "-o", "pipefail", "-c", command, cwd=mnt)
    assert done.returncode == 0, done
    assert done.stdout.strip() not in (b"", b"0")


def test_tar_and_cp_are_sparse_and_equal(mnt: Path, tmp_path: Path) -> None:
    for command in (
        f"tar -S -cf - regions/heap regions/stack | tar -xf - -C {tmp_path}",
        f"cp --sparse=always regions/heap {tmp_path}/heap",
    ):
        assert run("bash", "-o", "pipefail", "-c", command, cwd=mnt).returncode == 0
    want = (mnt / "regions/heap").read_bytes()
    assert (tmp_path / "regions/heap").read_bytes() == (tmp_path / "heap").read_bytes() == want
    assert (tmp_path / "heap").stat().st_blocks * 512 < len(want)


def test_what_is_absent_becomes_a_hole(mnt: Path, tmp_path: Path, image: OpenImage) -> None:
    absent = next(r for r in image.regions if r.name == "libc.so.6.text")
    assert run("cp", "--sparse=always", mnt / "regions" / absent.name, tmp_path / "copy").returncode == 0
    assert (tmp_path / "copy").stat().st_size == absent.size


def test_mmap(mnt: Path, image: OpenImage) -> None:
    with (mnt / "regions/heap").open("rb") as file:
        want = os.pread(file.fileno(), 1 << 20, 0)
        for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
            with mmap.mmap(file.fileno(), 0, flags, mmap.PROT_READ) as mapping:
                assert mapping[:] == want
                assert mapping.find(SECRET) > 0
    with (mnt / "regions/libc.so.6.text").open("rb") as file, pytest.raises(OSError) as caught:
        mmap.mmap(file.fileno(), 4096, mmap.MAP_SHARED, mmap.PROT_READ)
    assert caught.value.errno == errno.ENODEV


def test_mem_is_an_address_space(mnt: Path, image: OpenImage) -> None:
    heap = next(r for r in image.regions if r.name == "heap")
    fd = os.open(mnt / "mem", os.O_RDONLY)
    try:
        assert os.fstat(fd).st_size == 0
        assert os.pread(fd, heap.size, heap.start) == (mnt / "regions/heap").read_bytes()
        with pytest.raises(OSError) as caught:
            os.pread(fd, 16, 0)
        assert caught.value.errno == errno.ENODATA
        first = os.lseek(fd, 0, os.SEEK_DATA)
        assert first == next(r.start for r in image.image.space.runs(0, 1 << 63) if r.state == 0)
        assert os.lseek(fd, first, os.SEEK_HOLE) > first
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 0
    finally:
        os.close(fd)


def test_extended_attributes(mnt: Path, image: OpenImage) -> None:
    heap = next(r for r in image.regions if r.name == "heap")
    path = mnt / "regions/heap"
    assert os.getxattr(path, "user.memfs.address") == hex(heap.start).encode()
    assert os.getxattr(path, "user.memfs.size") == hex(heap.size).encode()
    assert os.getxattr(path, "user.memfs.permissions") == b"rw-"
    assert "user.memfs.offset" in os.listxattr(path)
    assert os.getxattr(mnt / "regions/crash.data", "user.memfs.path").endswith(b"/crash")
    segment = next(iter((mnt / "segments").glob("001-*")))
    assert int(os.getxattr(segment, "user.memfs.address"), 16) == int(segment.name.split("-")[1], 16)
    assert os.getxattr(mnt / f"at/{heap.start + 16:#x}:64", "user.memfs.address") == hex(heap.start + 16).encode()
    assert os.listxattr(mnt / "info") == []
    for name, number in (("user.other", errno.ENODATA), ("security.selinux", errno.EOPNOTSUPP)):
        with pytest.raises(OSError) as caught:
            os.getxattr(path, name)
        assert caught.value.errno == number


def test_nothing_can_be_changed(mnt: Path) -> None:
    changes = (
        lambda: os.open(mnt / "new", os.O_CREAT | os.O_WRONLY),
        lambda: os.open(mnt / "info", os.O_WRONLY),
        lambda: os.mkdir(mnt / "new"),
        lambda: os.unlink(mnt / "info"),
        lambda: os.rename(mnt / "info", mnt / "old"),
        lambda: os.truncate(mnt / "info", 0),
        lambda: os.chmod(mnt / "info", 0o777),
        lambda: os.symlink("x", mnt / "link"),
        lambda: os.setxattr(mnt / "info", "user.x", b"y"),
    )
    for change in changes:
        with pytest.raises(OSError) as caught:
            change()
        assert caught.value.errno == errno.EROFS


def test_at(mnt: Path, image: OpenImage) -> None:
    heap = next(r for r in image.regions if r.name == "heap")
    want = (mnt / "regions/heap").read_bytes()
    start = heap.start
    assert (mnt / f"at/{start:#x}").read_bytes() == want
    assert (mnt / f"at/{start + 5:#x}:0x20").read_bytes() == want[5:37]
    assert (mnt / f"at/{start:#x}-{start + 7:#x}").read_bytes() == want[:7]
    assert os.listdir(mnt / "at") == []
    assert "at" not in os.listdir(mnt)
    for wrong in (
        "0x10",
        "main",
        f"{start:#x}:0",
        f"{start:#x}-{start:#x}",
        f"{start}",
        "0x",
        f"{start:#x}:-1",
        "0x1" + "0" * 16,
    ):
        assert not (mnt / "at" / wrong).exists(), wrong
    end = heap.end
    fd = os.open(mnt / f"at/{end - 8:#x}:64", os.O_RDONLY)  # past the end of the heap nothing is mapped
    assert read_all(fd) == (want[-8:], errno.ENODATA)
    os.close(fd)


def test_many_threads_read_at_odd_places(mnt: Path, image: OpenImage) -> None:
    regions = [
        r for r in image.regions if (t := image.image.space.tally(r.start, r.end)) and t.absent == 0 and r.size > 5000
    ]
    wrong: list[str] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(150):
            region = rng.choice(regions)
            offset, size = rng.randrange(region.size), rng.randrange(1, 70000)
            fd = os.open(mnt / "regions" / region.name, os.O_RDONLY)
            want = image.read(region.start + offset, min(size, region.size - offset))
            if os.pread(fd, size, offset) != want:
                wrong.append(f"{region.name} {offset} {size}")
            os.close(fd)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_statfs(mnt: Path) -> None:
    assert os.statvfs(mnt).f_namemax == 255
    assert os.statvfs(mnt).f_flag & os.ST_RDONLY
    assert os.statvfs(mnt).f_flag & os.ST_NOSUID


def test_options(crash: Crash, tmp_path: Path) -> None:
    options = "umask=0022,uid=12,gid=34,fsname=a\\,b,absent=zero,nodev"
    with mounted(crash.core, tmp_path / "m", "-o", options) as point:
        info = os.stat(point / "info")
        assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o444, 12, 34)
        text = (point / "regions/libc.so.6.text").read_bytes()
        assert len(text) == os.stat(point / "regions/libc.so.6.text").st_size
        assert not any(text)
        with (point / "regions/libc.so.6.text").open("rb") as file:
            mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ).close()
        fd = os.open(point / "mem", os.O_RDONLY)
        with pytest.raises(OSError) as caught:
            os.pread(fd, 1, 0)
        os.close(fd)
        assert caught.value.errno == errno.ENODATA  # gaps stay gaps
        source = next(line for line in Path("/proc/self/mounts").read_text().splitlines() if str(point) in line)
        assert source.startswith("a,b ")
        assert " fuse.memfs ro," in source


def test_a_directory_of_70000(tmp_path: Path) -> None:
    count = 70_000
    path = tmp_path / "large.core"
    table = b"".join(
        struct.pack("<IIQQQQQQ", 1, 4, 64, 0x10000 * i, 0, i % 64, i % 128, 1) for i in range(1, count + 1)
    )
    section = struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, count, 0, 0)
    head = core(e_phnum=0xFFFF, e_shoff=64 + len(table), e_shentsize=64, e_shnum=1)
    path.write_bytes(head[:64] + table + section)
    with mounted(path, tmp_path / "m") as point:
        entries = list(os.scandir(point / "segments"))
        assert len(entries) == count
        assert entries[0].name == f"000-{0x10000:016x}-r--"
        sizes = [entry.stat().st_size for entry in entries]
        assert sizes == [i % 128 for i in range(1, count + 1)]
        done = run("ls", "-l", point / "segments", timeout=60)
        assert len(done.stdout.splitlines()) == count + 1


def test_a_sparse_core_of_1_tib(tmp_path: Path) -> None:
    path = tmp_path / "sparse.core"
    size = 1 << 40
    head = core([Header(address=0x10000, offset=4096, file_size=size)])
    with path.open("wb") as file:
        file.write(head)
        for offset in (4096, 4096 + (1 << 39), 4096 + size - 4096):
            file.seek(offset)
            file.write(b"data" * 1024)
    name = f"segments/000-{0x10000:016x}-rw-"
    with mounted(path, tmp_path / "m") as point:
        info = os.stat(point / name)
        assert info.st_size == size
        assert info.st_blocks * 512 <= 1 << 20
        assert run("cp", "--sparse=always", point / name, tmp_path / "copy", timeout=60).returncode == 0
        assert (tmp_path / "copy").stat().st_size == size
        with (tmp_path / "copy").open("rb") as copy, (point / name).open("rb") as file:
            for offset in (0, 1 << 39, size - 4096, 1 << 30):
                assert os.pread(copy.fileno(), 4096, offset) == os.pread(file.fileno(), 4096, offset)
            fd = file.fileno()
            assert os.lseek(fd, 1 << 30, os.SEEK_DATA) == 1 << 39
            assert os.lseek(fd, 0, os.SEEK_HOLE) == 4096
    (tmp_path / "copy").unlink()


def test_the_largest_sizes(tmp_path: Path) -> None:
    path = tmp_path / "huge.core"
    path.write_bytes(core([Header(address=0x1000, data=b"begin", memory_size=(1 << 63) + 4096)]))
    with mounted(path, tmp_path / "m") as point:
        segment = point / f"segments/000-{0x1000:016x}-rw-"
        assert segment.stat().st_size == (1 << 63) - 4096
        fd = os.open(segment, os.O_RDONLY)
        assert read_all(fd) == (b"begin", errno.ENODATA)
        assert os.pread(fd, 5, 0) == b"begin"
        os.close(fd)
