"""In a guest: what /proc/kcore says, read without memfs, against the files of a mount. Prints one object of JSON.

python kcore.py loads                      the PT_LOADs: [vaddr, paddr, offset, size]
python kcore.py compare FILE ...           FILE:OFFSET:ADDRESS:SIZE, the same bytes in a file and at an address?
python kcore.py planted FILE ...           pages of a pattern, found by their frame numbers in FILE
python kcore.py threads FILE ADDRESS SIZE  many threads read FILE at once
python kcore.py runs FILE                  data by SEEK_DATA: [start, end], and the seconds that it took
"""

import ctypes
import errno
import json
import mmap
import os
import random
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PAGE = 4096
MIB = 1 << 20


class Kcore:
    """/proc/kcore of the kernel that runs, 64 bits, little-endian."""

    def __init__(self) -> None:
        self.fd = os.open("/proc/kcore", os.O_RDONLY)
        phoff, count = struct.unpack_from("<32xQ16xH", os.pread(self.fd, 64, 0))
        phdrs = struct.iter_unpack("<IIQQQQQQ", os.pread(self.fd, 56 * count, phoff))
        self.loads = [(vaddr, paddr, at, size) for kind, _, at, vaddr, paddr, size, _, _ in phdrs if kind == 1]

    def read(self, address: int, size: int) -> bytes:
        """Bytes at an address, which one load holds."""
        at = next(at + address - vaddr for vaddr, _, at, have in self.loads if 0 <= address - vaddr < have)
        return os.pread(self.fd, size, at)


def loads() -> object:
    return Kcore().loads


def compare(*wanted: str) -> object:
    """`different`: pages that are never the same. `unlike`: that were not once, though /proc/kcore gave the same before
    and after. Busy pages are counted."""
    kcore, different, unlike, busy, pages = Kcore(), [], [], 0, 0
    for words in wanted:
        path, *numbers = words.rsplit(":", 3)
        offset, address, size = (int(number, 0) for number in numbers)
        fd = os.open(path, os.O_RDONLY)
        for at in range(0, size, MIB):
            length = min(MIB, size - at)
            before, got, after = (
                kcore.read(address + at, length),
                whole(fd, offset + at, length),
                kcore.read(address + at, length),
            )
            for page in range(0, length, PAGE):
                one, two, three = (data[page : page + PAGE] for data in (before, got, after))
                pages += 1
                if not one == two == three:
                    busy += 1
                    if one == three:
                        unlike.append([path, hex(address + at + page)])
                    if not settles(kcore, fd, offset + at + page, address + at + page):
                        different.append([path, hex(address + at + page)])
        os.close(fd)
    return {"different": different, "unlike": unlike, "busy": busy, "pages": pages}


def texts(directory: str, *names: str) -> object:
    """Files of /proc that are not the same in a directory, at a moment when they do not change."""
    different = []
    for name in names:
        for _ in range(50):
            before, got, after = (Path(where, name).read_bytes() for where in ("/proc", directory, "/proc"))
            if before == after:
                break
        if not before == got == after:
            different.append(name)
    return different


def settles(kcore: Kcore, fd: int, offset: int, address: int) -> bool:
    """A page that changes: whether both ever say the same, or there is no quiet moment to tell."""
    quiet = False
    for _ in range(50):
        before, got, after = kcore.read(address, PAGE), os.pread(fd, PAGE, offset), kcore.read(address, PAGE)
        if got in (before, after):
            return True
        quiet |= before == after
    return not quiet


def whole(fd: int, offset: int, size: int) -> bytes:
    """All of it: a short read is an error here."""
    data = os.pread(fd, size, offset)
    if len(data) != size:
        raise OSError(f"{len(data)} of {size} bytes at {offset:#x}")
    return data


def planted(*paths: str) -> object:
    """What this process has written is where the frame numbers of its pages (pagemap, bits 0-54) say."""
    count = 512
    area = mmap.mmap(-1, count * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pattern = [random.Random(page).randbytes(PAGE) for page in range(count)]
    for page, data in enumerate(pattern):
        area[page * PAGE : (page + 1) * PAGE] = data
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        entries = struct.unpack(f"<{count}Q", os.pread(pagemap.fileno(), 8 * count, address // PAGE * 8))
    wrong = dict.fromkeys(paths, 0)
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        for entry, data in zip(entries, pattern, strict=True):
            frame = entry & (1 << 55) - 1
            wrong[path] += not entry >> 63 or not frame or os.pread(fd, PAGE, frame * PAGE) != data
        os.close(fd)
    return {"pages": count, "wrong": wrong}


def threads(path: str, *numbers: str) -> object:
    """Reads of random places by 4 threads, through one descriptor and through one each, against a copy."""
    offset, address, length = (int(number, 0) for number in numbers)
    kcore = Kcore()
    copy, again = (
        b"".join(kcore.read(address + at, min(MIB, length - at)) for at in range(0, length, MIB)) for _ in range(2)
    )
    quiet = {at for at in range(0, length, PAGE) if copy[at : at + PAGE] == again[at : at + PAGE]}
    shared = os.open(path, os.O_RDONLY)
    counts = {"reads": 0, "wrong": 0, "busy": length // PAGE - len(quiet)}
    lock = threading.Lock()
    until = time.monotonic() + 5

    def work(seed: int) -> None:
        own = os.open(path, os.O_RDONLY)
        choice = random.Random(seed)
        while time.monotonic() < until:
            at = choice.randrange(length - 4 * PAGE)
            some = choice.randrange(1, 4 * PAGE)
            if any(page not in quiet for page in range(at // PAGE * PAGE, at + some, PAGE)):
                continue
            data = os.pread(choice.choice((own, shared)), some, offset + at)
            with lock:
                counts["reads"] += 1
                counts["wrong"] += data != copy[at : at + some]
        os.close(own)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return counts


def runs(path: str) -> object:
    """What SEEK_DATA and SEEK_HOLE say of a file."""
    fd = os.open(path, os.O_RDONLY)
    began, found, at = time.monotonic(), [], 0
    while True:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        found.append([start, at])
    return {"runs": found, "seconds": time.monotonic() - began, "size": os.fstat(fd).st_size}


COMMANDS: dict[str, Callable[..., object]] = {
    command.__name__: command for command in (loads, texts, compare, planted, threads, runs)
}


def main(words: Sequence[str]) -> None:
    json.dump(COMMANDS[words[0]](*words[1:]), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
