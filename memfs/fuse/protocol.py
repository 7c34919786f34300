"""The FUSE protocol as the kernel speaks it: opcodes, flags, structures. Source: include/uapi/linux/fuse.h, Linux 6.12.

All integers are in host byte order. Offsets and sizes are bytes."""

from __future__ import annotations

from struct import Struct

LOOKUP, FORGET, GETATTR, READLINK = 1, 2, 3, 5
OPEN, READ, STATFS, RELEASE, FSYNC = 14, 15, 17, 18, 20
GETXATTR, LISTXATTR, FLUSH, INIT, OPENDIR = 22, 23, 25, 26, 27
READDIR, RELEASEDIR, ACCESS, INTERRUPT, DESTROY = 28, 29, 34, 36, 38
BATCH_FORGET, READDIRPLUS, LSEEK = 42, 44, 46

OPCODES = {
    1: "LOOKUP", 2: "FORGET", 3: "GETATTR", 4: "SETATTR", 5: "READLINK", 14: "OPEN", 15: "READ", 16: "WRITE",
    17: "STATFS", 18: "RELEASE", 20: "FSYNC", 21: "SETXATTR", 22: "GETXATTR", 23: "LISTXATTR", 25: "FLUSH",
    26: "INIT", 27: "OPENDIR", 28: "READDIR", 29: "RELEASEDIR", 30: "FSYNCDIR", 34: "ACCESS", 36: "INTERRUPT",
    38: "DESTROY", 39: "IOCTL", 40: "POLL", 42: "BATCH_FORGET", 44: "READDIRPLUS", 46: "LSEEK", 50: "SYNCFS",
    52: "STATX",
}  # fmt: skip

# INIT flags
ASYNC_READ, DO_READDIRPLUS, ASYNC_DIO, PARALLEL_DIROPS = 1 << 0, 1 << 13, 1 << 15, 1 << 18
MAX_PAGES, CACHE_SYMLINKS, INIT_EXT = 1 << 22, 1 << 23, 1 << 30
WANTED = ASYNC_READ | DO_READDIRPLUS | ASYNC_DIO | PARALLEL_DIROPS | MAX_PAGES | CACHE_SYMLINKS | INIT_EXT

# OPEN flags
DIRECT_IO, KEEP_CACHE, CACHE_DIR, NOFLUSH = 1 << 0, 1 << 1, 1 << 3, 1 << 5

# READ flags
READ_LOCKOWNER = 1 << 1  # set by fuse_send_read (fs/fuse/file.c), for direct I/O; never when the page cache reads

IN_HEADER = Struct("=IIQQIIIHH")  # len, opcode, unique, nodeid, uid, gid, pid, extlen, padding
OUT_HEADER = Struct("=IiQ")  # len, error, unique
INIT_IN = Struct("=IIII")  # major, minor, max_readahead, flags
INIT_OUT = Struct("=IIIIHHIIHHIIH22s")
ATTR = Struct("=6Q10I")  # ino, size, blocks, times, time nsecs, mode, nlink, uid, gid, rdev, blksize, flags
ENTRY_OUT = Struct("=4Q2I6Q10I")  # nodeid, generation, entry valid, attr valid, nsecs; attr
ATTR_OUT = Struct("=QII6Q10I")  # attr valid, nsec, padding; attr
OPEN_OUT = Struct("=QIi")  # fh, open flags, backing id
READ_IN = Struct("=QQIIQII")  # fh, offset, size, read flags, lock owner, flags, padding
RELEASE_IN = Struct("=QIIQ")
GETXATTR_IN = Struct("=II")
GETXATTR_OUT = Struct("=II")
LSEEK_IN = Struct("=QQII")
LSEEK_OUT = Struct("=Q")
FORGET_IN = Struct("=Q")
BATCH_FORGET_IN = Struct("=II")
FORGET_ONE = Struct("=QQ")
INTERRUPT_IN = Struct("=Q")
STATFS_OUT = Struct("=5Q4I24s")
DIRENT_PLUS = Struct("=4Q2I6Q10IQQII")  # ENTRY_OUT, then DIRENT
DIRENT = Struct("=QQII")  # ino, offset of the next, name's length, type; then the name, padded to 8

MAJOR, MINOR = 7, 39
MAX_WRITE = 4096  # the filesystem is read-only; a small one keeps the request buffer small
REQUEST_SIZE = 16384
FOREVER = 86400 * 365


def init_reply(major: int, minor: int, readahead: int, flags: int, live: bool, read_at_most: int) -> bytes:
    """The answer to INIT: what of WANTED the kernel offers, requests of so many bytes, many of them at a time. Links of
    what is live lead elsewhere from time to time."""
    wanted = WANTED & flags & ~(CACHE_SYMLINKS if live else 0)
    return INIT_OUT.pack(
        MAJOR,
        min(minor, MINOR) if major == MAJOR else MINOR,
        max(readahead, read_at_most),
        wanted,
        64,  # max_background
        48,  # congestion_threshold
        MAX_WRITE,
        1,  # time_gran: nanoseconds
        read_at_most // 4096,  # max_pages
        0,
        0,
        0,
        0,
        bytes(22),
    )


def padded(name: bytes) -> bytes:
    """A name in a directory entry: filled up to a multiple of 8."""
    return name + bytes(-len(name) % 8)
