"""Live processes on a kernel that has what the kernels of test machines often lack: names of anonymous memory, yama,
hidepid; and that lacks PAGEMAP_SCAN and PROCMAP_QUERY, so that /proc/PID/pagemap and maps must do."""

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from mounting import one_line
from needs import REPO, need_tools

from vm.boot import MEMFS, Guest, Ran

PAGE = 4096
PROGRAM = REPO / "tests" / "vm" / "programs" / "pages.c"

# What every area of pages.c holds: page -> its byte; all others are zeros.
HELD = {
    "named": {0: "n", 3: "N"},
    "untouched": {},
    "only read": {},
    "no access": {1: "x"},
    "file": {page: "Z" if page == 2 else "abcdefgh"[page] for page in range(8)},
    "shared": {1: "s"},
    "memfd": {1: "m"},
    "swapped": {1: "w"},  # where there is swap
    "shared swapped": {1: "W"},
    "userfault": {},
}
COUNTED = ("Size:", "Rss:", "Anonymous:", "AnonHugePages:", "ShmemPmdMapped:", "Swap:", "Locked:")


def held(name: str, size: int) -> bytes:
    """The bytes of an area."""
    return b"".join(HELD[name].get(page, "\0").encode() * PAGE for page in range(size // PAGE))


class Pages(NamedTuple):
    """pages.c, running in the guest."""

    guest: Guest
    pid: int
    areas: dict[str, tuple[int, int]]  # name -> address, size


def of_guest(guest: Guest, source: Path, *flags: str) -> Path:
    """A program compiled here for the guest to run. Returns its path there.

    It is on a tmpfs of the guest's: when a file of the host's is opened, virtiofs drops its pages from the cache and
    from whoever has them mapped, and that would look like a trace of memfs."""
    need_tools("cc")
    program = guest.share / source.stem
    subprocess.run(["cc", "-O1", "-Wall", *flags, "-o", program, source], check=True, timeout=120)
    assert guest.run("cp", f"/share/{source.stem}", "/run/").returncode == 0
    return Path("/run") / source.stem


@pytest.fixture
def pages(guest: Guest) -> Iterator[Pages]:
    program = of_guest(guest, PROGRAM)
    done = guest.sh(f"""
        {program} /run/pages.file > said 2>&1 &
        echo $! > pid
        for i in $(seq 100); do grep -q ready said && exit; kill -0 $! || exit; sleep 0.1; done
    """)
    said = (done.directory / "said").read_text().splitlines()
    assert said[-1] == "ready", said
    areas = {}
    for line in said[:-1]:
        name, address, size = line.rsplit(" ", 2)
        areas[name] = int(address, 16), int(size)
    pid = int((done.directory / "pid").read_text())
    yield Pages(guest, pid, areas)
    guest.run("kill", "-KILL", pid)


def counters(smaps: str) -> list[str]:
    """Of each mapping, what reading it could change. (Pss depends on other processes, Referenced on a look at it.)"""
    return [line for line in smaps.splitlines() if line.startswith(COUNTED) or not line.split(" ")[0].endswith(":")]


def test_this_kernel_has_no_scan(pages: Pages) -> None:
    """What the other tests here are about."""
    code = "import fcntl; fcntl.ioctl(open('/proc/self/pagemap'), 0xC0606610, bytes(96))"
    done = pages.guest.run("/usr/bin/python3", "-c", code)
    assert b"Errno 25" in done.stderr, "ENOTTY"


def test_every_page_and_no_trace(pages: Pages) -> None:
    copies = "\n".join(
        f'cat /run/m/at/{start:#x}-{start + size:#x} > "{name}"' for name, (start, size) in pages.areas.items()
    )
    done = pages.guest.sh(
        f"""
        mkdir -p /run/m all
        memfs() {{ {MEMFS} "$@"; }}
        cat /proc/{pages.pid}/smaps > smaps.before
        grep -E '^(Vm|Rss|Threads)' /proc/{pages.pid}/status > status.before
        memfs mount {pages.pid} /run/m || exit
        {copies}
        for file in /run/m/segments/*; do cp --sparse=always "$file" all/ 2>>refused; done
        memfs umount /run/m
        cat /proc/{pages.pid}/smaps > smaps.after
        grep -E '^(Vm|Rss|Threads)' /proc/{pages.pid}/status > status.after
    """,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, b"")
    for name, (_, size) in pages.areas.items():
        if name == "userfault" and not (done.directory / name).stat().st_size:
            continue  # absent: who handles its faults decides what is there
        assert (done.directory / name).read_bytes() == held(name, size), name
    there = done.directory
    assert counters((there / "smaps.before").read_text()) == counters((there / "smaps.after").read_text())
    assert (there / "status.before").read_text() == (there / "status.after").read_text()
    address, size = pages.areas["untouched"]
    (copy,) = there.glob(f"all/*-{address:016x}-rw-")
    assert (copy.stat().st_size, copy.stat().st_blocks) == (size, 0), "SEEK_DATA knows that nothing is there"


@pytest.fixture
def swap(guest: Guest) -> Iterator[None]:
    """Swap, on a compressed disk in memory: before the process, so that it pages out at once."""
    done = guest.sh("echo 64M > /sys/block/zram0/disksize && mkswap /dev/zram0 && swapon /dev/zram0")
    assert done.returncode == 0, done
    yield
    assert guest.sh("swapoff /dev/zram0 && echo 1 > /sys/block/zram0/reset").returncode == 0


def test_what_is_in_swap_stays_there_if_told_to(swap: None, pages: Pages) -> None:
    """noswapin: absent, and as many bytes in swap as before. Without it they come back, and are right."""
    names = ("swapped", "shared swapped")
    places = [f"at/{start:#x}-{start + size:#x}" for start, size in (pages.areas[name] for name in names)]
    count = f"grep -h Swap: /proc/{pages.pid}/smaps"
    done = pages.guest.sh(
        f"""
        memfs() {{ {MEMFS} "$@"; }}
        {count} > before
        memfs cat -o noswapin {pages.pid} {places[0]} > 0 2> refused.0
        memfs cat -o noswapin {pages.pid} {places[1]} > 1 2> refused.1
        {count} > between
        memfs cat {pages.pid} {places[0]} > swapped
        memfs cat {pages.pid} {places[1]} > 'shared swapped'
        {count} > after
    """,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    there = done.directory
    before, between, after = (
        sum(int(line.split()[1]) for line in (there / name).read_text().splitlines())
        for name in ("before", "between", "after")
    )
    assert before >= 8, "both areas have a page in swap"
    assert between == before
    assert after < before
    assert (there / "0").read_bytes() == bytes(PAGE), "what lies before the page"
    assert (there / "1").read_bytes() in (b"", bytes(PAGE)), "before Linux 6.5 (cachestat) nobody knows which page"
    for number, name in enumerate(names):
        assert (there / f"refused.{number}").read_bytes()
        assert (there / name).read_bytes() == held(name, pages.areas[name][1])


class User(NamedTuple):
    """An ordinary user of the guest, with a process of its own and a copy of memfs that it can read."""

    guest: Guest
    pid: int

    AS = "setpriv --reuid 1000 --regid 1000 --clear-groups"

    def memfs(self, *words: object) -> Ran:
        python = "env PYTHONPATH=/run/readable /usr/bin/python3 -m memfs"
        return self.guest.sh(f"cd /; {self.AS} {python} {shlex.join(map(str, words))}")


@pytest.fixture
def somebody(guest: Guest) -> Iterator[User]:
    done = guest.sh(f"""
        [ -d /run/readable ] || {{ mkdir /run/readable && cp -a {REPO}/memfs /run/readable; }}
        {User.AS} sleep 1000 >/dev/null 2>&1 &
        echo $!
        until grep -q sleep /proc/$!/comm; do sleep 0.1; done
    """)
    assert done.returncode == 0, done
    yield User(guest, int(done.stdout))
    guest.run("kill", "-KILL", int(done.stdout))


YAMA = "/proc/sys/kernel/yama/ptrace_scope"


@pytest.mark.guests("lockdown")
def test_yama(somebody: User) -> None:
    """3 cannot be undone until the guest is gone: all of them here, in order, where no other test looks at memory."""
    guest, pid = somebody

    def scope(number: int) -> None:
        assert guest.sh(f"echo {number} > {YAMA} && cat {YAMA}").stdout.split() == [str(number).encode()]

    scope(0)
    assert somebody.memfs("cat", pid, "comm").stdout == b"sleep\n"
    assert somebody.memfs("cat", pid, "mem").returncode == 1, "a gap: but it may be asked"
    heap = somebody.memfs("cat", pid, "regions/stack")
    assert (heap.returncode, heap.stderr) == (0, b"")
    assert heap.stdout.endswith(bytes(8))
    scope(1)
    one_line(somebody.memfs("info", pid), "ptrace_scope is 1", "ancestors", "sysctl kernel.yama.ptrace_scope=0")
    assert guest.memfs("cat", pid, "regions/stack").stdout == heap.stdout, "root may"
    scope(2)
    one_line(somebody.memfs("info", pid), "ptrace_scope is 2", "CAP_SYS_PTRACE", "look as root")
    assert guest.memfs("cat", pid, "regions/stack").stdout == heap.stdout
    scope(3)
    one_line(somebody.memfs("info", pid), "ptrace_scope is 3", "nobody may look")
    one_line(guest.memfs("info", pid), "ptrace_scope is 3", "nobody may look")


def test_hidepid(somebody: User) -> None:
    """What a user cannot see may be there all the same; root sees it."""
    guest, pid = somebody
    for value in ("invisible", "ptraceable"):
        assert guest.run("mount", "-o", f"remount,hidepid={value}", "/proc").returncode == 0
        try:
            assert somebody.memfs("cat", pid, "comm").stdout == b"sleep\n", "its own"
            one_line(somebody.memfs("info", 1), "no process 1", f"hidepid={value}", "look as root")
            assert guest.memfs("cat", 1, "comm").stdout == b"sh\n"
            listed = somebody.memfs("ls", "/proc").stdout.split()
            assert str(pid).encode() in listed
            assert b"1" not in listed
        finally:
            assert guest.run("mount", "-o", "remount,hidepid=0", "/proc").returncode == 0


def test_what_belongs_to_another(somebody: User) -> None:
    one_line(somebody.memfs("info", 1), "not allowed to look into process 1", "belongs to user 0", "as root")
