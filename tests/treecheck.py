"""A mount held against the tree in this process: what both must agree on, to the byte."""

import errno
import os
import stat
from pathlib import Path

from mounting import seeks

from memfs.errors import MemfsError
from memfs.tree.node import AddressSpace, Dir, File, Link, Node

CHUNK = 1 << 20
_MODES = {Dir: 0o555, File: 0o444}


def errno_of(error: OSError | MemfsError) -> int:
    assert error.errno
    return error.errno


def read_fd(fd: int, chunk: int = CHUNK) -> tuple[bytes, int]:
    """Everything of an open file up to the end or an error, and its errno (0 for none)."""
    out: list[bytes] = []
    offset = 0
    while True:
        try:
            piece = os.pread(fd, chunk, offset)
        except OSError as error:
            return b"".join(out), errno_of(error)
        if not piece:
            return b"".join(out), 0
        out.append(piece)
        offset += len(piece)


def read_path(path: Path, chunk: int = CHUNK) -> tuple[bytes, int]:
    """The same of a file; what open(2) says counts too."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError as error:
        return b"", errno_of(error)
    try:
        return read_fd(fd, chunk)
    finally:
        os.close(fd)


def whole(path: Path) -> bytes:
    """All bytes of a file, which has no error in it."""
    data, number = read_path(path)
    assert not number, (path, errno.errorcode[number])
    return data


def read_node(node: File) -> tuple[bytes, int]:
    """The same of a node, without a mount."""
    reader, out = node.open(), b""
    buffer = memoryview(bytearray(CHUNK))
    while True:
        try:
            got = reader.readinto(len(out), buffer)
        except MemfsError as error:
            return out, errno_of(error)
        if not got:
            return out, 0
        out += bytes(buffer[:got])


def data_ranges(fd: int, most: int) -> list[tuple[int, int]]:
    """What SEEK_DATA and SEEK_HOLE say of an open file, from 0 on."""
    out: list[tuple[int, int]] = []
    position = 0
    while len(out) < most:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
            position = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            assert error.errno == errno.ENXIO
            break
        out.append((start, position))
    return out


def node_ranges(node: File, most: int) -> list[tuple[int, int]]:
    """The same of a node."""
    reader = node.open()
    out: list[tuple[int, int]] = []
    position = 0
    while len(out) < most:
        try:
            start = reader.next_data(position)
            position = reader.next_hole(start)
        except MemfsError as error:
            assert error.errno == errno.ENXIO
            break
        out.append((start, position))
    return out


def compare(directory: Dir, path: Path, umask: int = 0o077, mtime_ns: int | None = None) -> list[str]:
    """A directory of a mount against the tree's, and all below: names in order, kinds, modes, sizes, times, links,
    attributes, data and holes, bytes and errors. Returns the paths of the files."""
    with os.scandir(path) as listing:
        entries = list(listing)
    assert [entry.name for entry in entries] == list(directory.names())
    assert len({entry.inode() for entry in entries}) == len(entries)
    files: list[str] = []
    for entry, (name, node) in zip(entries, directory.entries(), strict=True):
        info = os.lstat(entry.path)
        assert entry.inode() == info.st_ino
        assert mtime_ns is None or info.st_mtime_ns == mtime_ns
        assert _kind(stat.S_IFMT(info.st_mode)) is _kind_of(node)
        if isinstance(node, Link):
            assert stat.S_IMODE(info.st_mode) == 0o777
            assert os.readlink(entry.path) == node.target
            continue
        assert stat.S_IMODE(info.st_mode) == _MODES[_kind_of(node)] & ~umask, name
        assert {key: os.getxattr(entry.path, key) for key in os.listxattr(entry.path)} == {
            key: os.fsencode(value) for key, value in node.xattrs().items()
        }
        if isinstance(node, Dir):
            files += [f"{name}/{below}" for below in compare(node, path / name, umask, mtime_ns)]
        elif isinstance(node, File):
            compare_file(node, path / name, info)
            files.append(name)
    return files


def compare_file(node: File, path: Path, info: os.stat_result) -> None:
    """One file of a mount against the tree's."""
    want = node.stat()
    assert info.st_size == want.size, path
    assert info.st_blocks == -(-want.data // 512), path
    fd = os.open(path, os.O_RDONLY)
    try:
        ranges = data_ranges(fd, 2000)
        known = node_ranges(node, 2000)
        whole = [(0, want.size)] if want.size else []  # what the kernel says where nobody answers
        assert ranges == (known if seeks() else whole), path
        if not isinstance(node, AddressSpace):
            assert read_fd(fd) == read_node(node), path
            return
        reader = node.open()
        buffer = memoryview(bytearray(CHUNK))
        for start, end in known:
            while start < end:
                got = reader.readinto(start, buffer[: end - start])
                assert os.pread(fd, min(CHUNK, end - start), start) == buffer[:got], (path, hex(start))
                start += got
    finally:
        os.close(fd)


def _kind(mode: int) -> type[Node] | None:
    return {stat.S_IFDIR: Dir, stat.S_IFREG: File, stat.S_IFLNK: Link}.get(mode)


def _kind_of(node: Node) -> type[Node]:
    return next(kind for kind in (Dir, File, Link) if isinstance(node, kind))
