"""The memory of a live process: every state of a page is seen as what it is, and looking changes nothing."""

import ctypes
import errno
import itertools
import json
import mmap
import os
import shutil
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import live
import pytest
from live import Live, changes, expected, footprint, look, running, space_of
from living import width
from needs import REPO, need, need_tools
from test_mount_user import USER, interpreter

from memfs.errors import AbsentMemory, MemfsError
from memfs.image import Space, State
from memfs.io import maps, native, pagemap
from memfs.io.pagemap import PAGE
from memfs.io.process import WINDOW, LiveSpace
from memfs.io.smaps import Flags

pytestmark = pytest.mark.xdist_group("live")  # one after the other: they share swap and the pool of huge pages

WAYS = {"scan": (True, True), "page map": (False, True), "page map and maps": (False, False)}


@pytest.fixture(scope="module")
def hugetlb() -> Iterator[bool]:
    """Whether there are huge pages: as root, 4 more than there were."""
    pool = Path("/proc/sys/vm/nr_hugepages")
    before = int(pool.read_text()) if pool.exists() else 0
    try:
        pool.write_text(str(before + 4))
        got = int(pool.read_text()) >= before + 4
    except OSError:
        got = False
    if not got:
        warnings.warn("no huge pages here: hugetlb mappings are not tested", stacklevel=1)
    yield got
    if pool.exists() and os.access(pool, os.W_OK):
        pool.write_text(str(before))


@pytest.fixture(scope="module")
def target(live_programs: Path, hugetlb: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """pages.c, running."""
    need(os.geteuid() == 0, "only root may open what map_files leads to")
    files = tmp_path_factory.mktemp("files")
    with running(live_programs / "pages", files, *(["hugetlb"] if hugetlb else [])) as process:
        for name, reason in live.parse(process.lines).lacks.items():
            warnings.warn(f"not tested, this machine has none: {name}: {reason}", stacklevel=1)
        yield process


@pytest.fixture(params=WAYS)
def space(target: Live, request: pytest.FixtureRequest) -> Iterator[LiveSpace]:
    """Its memory, looked at in each of the ways that kernels allow."""
    scans, queries = WAYS[request.param]
    with space_of(target.pid) as space:
        space._scans, space._queries = scans and space._scans, queries
        yield space


def files_of(target: Live) -> Path:
    return Path(Path(f"/proc/{target.pid}/cmdline").read_bytes().split(b"\0")[1].decode())


def test_every_state(space: LiveSpace, target: Live) -> None:
    rows = target.rows
    seen = look(space, rows)
    wanted = {name: expected(row) for name, row in rows.items()}
    called_data = ["hugetlb_untouched"]  # hugetlbfs does not tell its holes: they are read, and are zeros
    if not space._scans:
        called_data.append("only_read")  # the page map does not tell the zero page from others
    for name in called_data:
        if name in wanted:
            wanted[name]["tally"] = [rows[name].size, 0, 0]
    assert seen == wanted


def test_looking_changes_nothing(space: LiveSpace, target: Live) -> None:
    before = footprint(target.pid, files_of(target))
    total = live.everything(space, vast=space._scans)
    look(space, target.rows)
    assert total > 40 << 20
    assert not changes(before, footprint(target.pid, files_of(target)))


def test_a_plain_read_does_change_it(live_programs: Path, tmp_path: Path) -> None:
    """The referee works: what is counted above is what a plain read moves."""
    with running(live_programs / "pages", tmp_path) as process:
        before = live.counters(process.pid)
        with open(f"/proc/{process.pid}/mem", "rb", buffering=0) as memory:
            for name in ("untouched", "file_private", "shared_hole"):
                row = process.rows[name]
                os.preadv(memory.fileno(), [bytearray(row.size)], row.address)
        after = live.counters(process.pid)
    assert after["RssFile"] - before["RssFile"] == 1024
    assert after["RssShmem"] - before["RssShmem"] == 1024
    assert after["VmPTE"] >= before["VmPTE"]


@pytest.mark.parametrize("size", [1, 16, 4095, 4097, 70_000, 3 << 20])
def test_any_offset_any_size(target: Live, size: int) -> None:
    rows = target.rows
    with space_of(target.pid) as space:
        for name in ("written", "every_second", "file_half_written", "no_access", "only_read"):
            row = rows[name]
            for offset in (0, 1, 4095, 4096, row.size - 1, row.size // 2 + 7):
                want = row.bytes[offset : offset + size]
                buffer = memoryview(bytearray(b"\xaa" * len(want)))
                assert space.readinto(row.address + offset, buffer) == len(want)
                assert buffer == want


def test_a_read_ends_where_bytes_are_absent(target: Live) -> None:
    rows = target.rows
    need("guard" in rows, "no MADV_GUARD_INSTALL")
    guarded, guard = rows["guarded"], rows["guard"]
    with space_of(target.pid) as space:
        assert live.read(space, guarded.address, guarded.size * 2) == guarded.bytes
        with pytest.raises(AbsentMemory) as error:
            space.readinto(guard.address, memoryview(bytearray(10)))
        assert not error.value.gap
        with pytest.raises(AbsentMemory) as error:
            space.readinto(rows["below_the_stack"].address, memoryview(bytearray(10)))
        assert error.value.gap


@pytest.mark.parametrize("scans", [True, False])
def test_runs_are_lazy_and_whole(target: Live, scans: bool) -> None:
    """128 TiB with a mapping of 1 TiB: a handful of runs, without holes between them."""
    with space_of(target.pid) as space:
        space._scans = scans
        runs = list(space.runs(0, 1 << 47))
        assert next(iter(space.runs(0, 1 << 63))).state == State.GAP
    assert runs[0].start == 0
    assert runs[-1].end == 1 << 47
    assert all(a.end == b.start and a.state != b.state for a, b in itertools.pairwise(runs))
    assert len(runs) < 200
    data = [run for run in runs if run.state == State.DATA]
    for name in ("tebibyte_0", "tebibyte_1", "tebibyte_2", "tebibyte_3"):
        row = target.rows[name]
        assert any(run.start <= row.address and row.address + row.size <= run.end for run in data)


def test_the_end_of_user_space(live_programs: Path, tmp_path: Path) -> None:
    """Without random addresses the stack ends where user space does: what lies behind is a gap, and no error."""
    need_tools("setarch")
    command = ["setarch", "-R", live_programs / "pages", tmp_path, "plain"]
    with running(*command) as process, space_of(process.pid) as space:
        stack = next(area for area in space.areas() if area.path == "[stack]")
        need(stack.end == 0x7FFFFFFFF000, "the stack of this machine does not end with user space")
        for scans in (True, False):
            space._scans = scans
            runs = list(space.runs(stack.start, 1 << 47))
            assert runs[-1] == (stack.end, 1 << 47, State.GAP, None)
            assert len(live.read(space, stack.end - 100, 4096)) == 100
            assert list(space.runs(stack.start, 1 << 63))[-1].end == 1 << 63


def test_runs_join_short_zeros_and_tally_does_not(target: Live) -> None:
    row = target.rows["every_second"]
    with space_of(target.pid) as space:
        states = [(run.state, run.end - run.start) for run in space.runs(row.address, row.address + row.size)]
        assert states == [(State.DATA, row.size - 4096), (State.ZERO, 4096)]
        assert space.tally(row.address, row.address + row.size) == (row.size // 2, row.size // 2, 0)


def test_special_mappings(target: Live) -> None:
    """[vvar] is the clock's and cannot be read; [vdso] is there as a whole, and the same as ours."""
    from memfs.io import vdso

    with space_of(target.pid) as space:
        found = {area.path: area for area in space.areas() if area.path.startswith("[")}
        for name in ("[vvar]", "[vsyscall]"):
            area = found[name]
            assert space.tally(area.start, area.end) == (0, 0, area.end - area.start)
            with pytest.raises(AbsentMemory):
                space.readinto(area.start, memoryview(bytearray(10)))
        area = found["[vdso]"]
        assert live.read(space, area.start, area.end - area.start) == vdso.own()
        assert vdso.own().startswith(b"\x7fELF")


def test_without_the_mapped_files(target: Live) -> None:
    """nobacking: what only a file could tell is absent; what is in the page table is still there."""
    rows = target.rows
    with space_of(target.pid, backing=False) as space:
        seen = look(
            space, {name: rows[name] for name in ("file_private", "shared_hole", "written", "file_half_written")}
        )
    half = rows["file_half_written"].size // 2
    assert seen["file_private"] == expected(rows["file_private"], "absent")
    assert seen["shared_hole"] == expected(rows["shared_hole"], "absent")
    assert seen["written"] == expected(rows["written"])
    assert seen["file_half_written"]["tally"] == [half, 0, half]
    assert seen["file_half_written"]["got"] == 4096


def test_areas_are_what_maps_says(target: Live) -> None:
    with space_of(target.pid) as space:
        areas = space.areas()
    lines = Path(f"/proc/{target.pid}/maps").read_bytes().splitlines()
    assert [_line(area) for area in areas] == [b" ".join(line.split(maxsplit=5)) for line in lines]


def _line(area: maps.Area) -> bytes:
    major, minor = area.device
    head = f"{area.start:08x}-{area.end:08x} {area.permissions} {area.offset:08x} {major:02x}:{minor:02x} {area.inode}"
    return f"{head} {area.path}".rstrip(" ").encode(errors="surrogateescape")


def test_both_ways_to_ask_agree(target: Live) -> None:
    fd = os.open(f"/proc/{target.pid}/maps", os.O_RDONLY)
    try:
        areas = maps.parse(maps.read_all(fd))
        need(maps.query(fd, areas[0].start, areas[0].end) is not None, "no PROCMAP_QUERY (Linux 6.11)")
        asked = [maps.query(fd, area.start, area.end) for area in areas if area.start < 1 << 63]
    finally:
        os.close(fd)
    assert asked == [[area] for area in areas if area.start < 1 << 63]


def test_the_page_map_and_the_scan_agree(target: Live) -> None:
    fd = os.open(f"/proc/{target.pid}/pagemap", os.O_RDONLY)
    kept = pagemap.PRESENT | pagemap.SWAPPED | pagemap.GUARD
    try:
        for row in target.rows.values():
            if row.state == "gap":
                continue
            ways = []
            for way in (pagemap.scan, pagemap.entries):
                pages = {}
                for start, end, categories in way(fd, row.address, row.address + row.size):
                    pages.update(dict.fromkeys(range(start, end, 4096), categories & kept))
                ways.append(pages)
            assert ways[0] == ways[1], row.name
    finally:
        os.close(fd)


def pagemap_scans() -> bool:
    fd = os.open("/proc/self/pagemap", os.O_RDONLY)
    try:
        list(pagemap.scan(fd, PAGE, 2 * PAGE))
        return True
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise
        return False
    finally:
        os.close(fd)


@pytest.mark.parametrize("pages", [500, 1024, 1536, 4096, 5000])
@pytest.mark.parametrize("way", [pagemap.scan, pagemap.entries])
def test_every_page_is_told_of_once(way: Callable[[int, int, int], Iterator[pagemap.Pages]], pages: int) -> None:
    """Of many pieces too: where they do not fit into a buffer of the kernel's own, it says that it came less far."""
    need(way is not pagemap.scan or pagemap_scans(), "no PAGEMAP_SCAN (Linux 6.7)")
    memory = mmap.mmap(-1, pages * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for at in range(0, pages * PAGE, 2 * PAGE):
        memory[at] = 1
    low = native.address_of(memoryview(memory))
    fd = os.open("/proc/self/pagemap", os.O_RDONLY)
    try:
        found = list(way(fd, low, low + pages * PAGE))
    finally:
        os.close(fd)
    assert [(start - low, end - low) for start, end, _ in found] == [
        (at * PAGE, (at + 1) * PAGE) for at in range(pages)
    ]
    assert [categories & pagemap.PRESENT for _, _, categories in found] == [
        0 if at % 2 else pagemap.PRESENT for at in range(pages)
    ]


@pytest.fixture
def own_pages() -> Iterator[mmap.mmap]:
    """80 MiB of memory of our own, in pages of 4 KiB."""
    memory = mmap.mmap(-1, 80 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    yield memory


def test_smaps_is_not_made_where_no_page_is_missing(own_pages: mmap.mmap, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the lock of the address space, the longer the more is resident."""
    need(pagemap_scans(), "no PAGEMAP_SCAN (Linux 6.7)")
    for at in range(0, len(own_pages), PAGE):
        own_pages[at] = 1
    asked: list[int] = []
    monkeypatch.setattr(Flags, "filled_by_others", lambda self, low, high: bool(asked.append(low)))
    low = native.address_of(memoryview(own_pages))
    with space_of(os.getpid()) as space:
        runs = list(space.runs(low, low + len(own_pages)))
        assert {run.state for run in runs} == {State.DATA}
        assert (runs[0].start, runs[-1].end) == (low, low + len(own_pages))
        assert not asked
        own_pages.madvise(mmap.MADV_DONTNEED, 2 << 20, PAGE)
        assert {run.state for run in space.runs(low, low + len(own_pages))} == {State.DATA}
        assert asked


def test_smaps_is_made_for_those_who_read_much(own_pages: mmap.mmap, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a small read there is /proc/PID/mem, which gives the same bytes."""
    made: list[int] = []
    read = Flags._read

    def noted(flags: Flags, high: int) -> None:
        made.append(high)
        read(flags, high)

    monkeypatch.setattr(Flags, "_read", noted)
    own_pages[:] = b"x" * len(own_pages)
    low = native.address_of(memoryview(own_pages))
    with space_of(os.getpid()) as space:
        assert live.read(space, low, 1 << 20) == b"x" * (1 << 20)
        assert not made
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
        for _ in range(1 + resident // len(own_pages) // 8):
            assert live.read(space, low, len(own_pages)) == own_pages[:]
        assert made


def test_the_first_of_a_large_mapping_is_known_soon(own_pages: mmap.mmap, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever copies it begins while the kernel has not walked over all of it."""
    need(pagemap_scans(), "no PAGEMAP_SCAN (Linux 6.7)")
    looked: list[int] = []
    scan = pagemap.scan

    def noted(fd: int, low: int, high: int) -> Iterator[pagemap.Pages]:
        looked.append(high - low)
        return scan(fd, low, high)

    monkeypatch.setattr(pagemap, "scan", noted)
    first, touched, whole = 16 << 20, 24 << 20, len(own_pages)
    own_pages[:touched] = b"x" * touched
    low = native.address_of(memoryview(own_pages))
    with space_of(os.getpid()) as space:
        runs = space.runs(low, low + whole)
        assert next(runs) == (low, low + first, State.DATA, low)
        assert looked == [first]
        rest = [(run.start - low, run.end - low, run.state) for run in runs]
    assert rest == [(first, touched, State.DATA), (touched, whole, State.ZERO)]
    assert sum(looked) == whole


@pytest.mark.parametrize("pinned", [True, False])
def test_what_is_mapped_over_between_two_looks(own_pages: mmap.mmap, tmp_path: Path, pinned: bool) -> None:
    """Whoever copies a large mapping takes a while from look to look: what comes there is not what was there."""
    need(pagemap_scans(), "no PAGEMAP_SCAN (Linux 6.7)")
    first, whole = 16 << 20, len(own_pages)
    own_pages[:] = b"x" * whole
    low = native.address_of(memoryview(own_pages))
    file = tmp_path / "file"
    file.write_bytes(b"y" * PAGE)
    calls = ctypes.CDLL(None, use_errno=True)
    calls.mmap.restype = ctypes.c_void_p
    calls.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    with space_of(os.getpid()) as space, file.open("rb") as opened:
        seen: Space = space.pinned(space.areas().within(low, low + whole)) if pinned else space
        runs = seen.runs(low, low + whole)
        assert next(runs) == (low, low + first, State.DATA, low)
        flags = mmap.MAP_PRIVATE | 0x10  # MAP_FIXED
        at = calls.mmap(low + first, whole - first, mmap.PROT_READ, flags, opened.fileno(), 0)
        assert at == low + first
        rest = [(run.start - low, run.end - low, run.state) for run in runs]
        if pinned:
            assert rest == [(first, whole, State.ABSENT)]
        else:
            assert rest == [(first, first + PAGE, State.DATA), (first + PAGE, whole, State.ABSENT)]


def test_zeros_between_pages_are_no_memory_of_ours(own_pages: mmap.mmap) -> None:
    for at in range(0, len(own_pages), 2 * PAGE):
        own_pages[at] = 1
    low = (native.address_of(memoryview(own_pages)) + WINDOW - 1) & -WINDOW
    buffer = memoryview(bytearray(b"\xaa" * WINDOW))
    with space_of(os.getpid()) as space:
        space.readinto(low, buffer)
        tracemalloc.start()
        try:
            assert space.readinto(low, buffer) == WINDOW
            assert tracemalloc.get_traced_memory()[1] < WINDOW // 4
        finally:
            tracemalloc.stop()
    assert buffer == (b"\1".ljust(PAGE, b"\0") + bytes(PAGE)) * (WINDOW // PAGE // 2)


def test_many_descriptors_are_not_kept(live_programs: Path, tmp_path: Path) -> None:
    """300 spaces: no more descriptors than the limit, and all of them work."""
    before = len(os.listdir("/proc/self/fd"))
    directory = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
    spaces = [LiveSpace(directory) for _ in range(300)]
    area = next(area for area in spaces[0].areas() if area.path == "[heap]" or area.is_anonymous)
    for _ in range(2):
        for space in spaces:
            assert len(live.read(space, area.start, 4096)) == 4096
    assert len(os.listdir("/proc/self/fd")) - before <= 200
    for space in spaces:
        space.close()
    os.close(directory)
    assert len(os.listdir("/proc/self/fd")) <= before  # of what others had looked at some may have been closed, too


def test_a_program_of_32_bits(tmp_path: Path) -> None:
    """Its vdso is not ours: what it did not touch is absent."""
    source = tmp_path / "small.c"
    source.write_text(
        '#include <stdio.h>\n#include <unistd.h>\nint main() { puts("ready"); fflush(stdout); pause(); }\n'
    )
    built = subprocess.run(
        ["cc", *width(32), "-o", tmp_path / "small", source], capture_output=True, timeout=60, check=False
    )
    need(built.returncode == 0, "cc -m32 does not work (sh tests/install-tools.sh)")
    with running(tmp_path / "small") as process, space_of(process.pid) as space:
        before = footprint(process.pid, tmp_path)
        assert live.everything(space) > 1 << 20
        assert not changes(before, footprint(process.pid, tmp_path))
        assert all(area.end <= 1 << 32 for area in space.areas() if area.path != "[vsyscall]")


# -- swap --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def swap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Some swap space: a zram device of our own, or a file."""
    need(os.geteuid() == 0, "only root can turn swap on")
    need_tools("mkswap", "swapon", "swapoff")
    hot_add = Path("/sys/class/zram-control/hot_add")
    number = hot_add.read_text().strip() if hot_add.exists() else None
    if number:
        place = Path(f"/dev/zram{number}")
        Path(f"/sys/block/zram{number}/disksize").write_text("64M")
        if not place.exists():
            major, minor = Path(f"/sys/block/zram{number}/dev").read_text().split(":")
            os.mknod(place, 0o600 | 0o060000, os.makedev(int(major), int(minor)))
    else:
        place = tmp_path_factory.mktemp("swap") / "swapfile"
        place.write_bytes(bytes(64 << 20))
        place.chmod(0o600)
    subprocess.run(["mkswap", place], check=True, capture_output=True, timeout=60)
    done = subprocess.run(["swapon", place], capture_output=True, timeout=60, check=False)
    try:
        need(done.returncode == 0, f"no swap can be turned on here: {done.stderr.decode().strip()}")
        yield
    finally:
        subprocess.run(["swapoff", place], capture_output=True, timeout=120, check=False)
        if number:
            Path("/sys/class/zram-control/hot_remove").write_text(number)
            place.unlink(missing_ok=True)


@pytest.mark.parametrize("way", WAYS)
def test_swapped_pages_stay_where_they_are(swap: None, live_programs: Path, tmp_path: Path, way: str) -> None:
    """noswapin: absent, and not brought back; of private and of shared memory."""
    with running(live_programs / "pages", tmp_path, "swap") as process, space_of(process.pid, swapin=False) as space:
        space._scans, space._queries = WAYS[way]
        rows = process.rows
        before = footprint(process.pid, tmp_path)
        assert before.counters["VmSwap"] >= 1024
        live.everything(space, vast=space._scans)
        seen = look(space, rows)
        for name in ("swapped", "shared_swapped"):
            assert seen[name] == expected(rows[name], "absent")
        assert seen["shared_written"] == expected(rows["shared_written"])
        assert seen["shared_hole"] == expected(rows["shared_hole"])
        after = footprint(process.pid, tmp_path)
        assert after.counters == before.counters
        assert not changes(before, after)


def test_swapped_pages_come_back_and_nothing_else(swap: None, live_programs: Path, tmp_path: Path) -> None:
    with running(live_programs / "pages", tmp_path, "swap") as process, space_of(process.pid) as space:
        rows = process.rows
        before = live.counters(process.pid)
        live.everything(space)
        seen = look(space, rows)
        for name in ("swapped", "shared_swapped"):
            assert seen[name] == expected(rows[name])
        after = live.counters(process.pid)
    size = rows["swapped"].size // 1024
    assert after["RssAnon"] - before["RssAnon"] == before["VmSwap"] - after["VmSwap"] == size
    assert {k: after[k] for k in ("RssFile", "RssShmem", "VmPTE")} == {
        k: before[k] for k in ("RssFile", "RssShmem", "VmPTE")
    }


# -- who may look ------------------------------------------------------------------------------------------------------

ONLY_BY_MAP_FILES = {  # what has no path: absent for whom map_files is closed
    "file_deleted", "memfd", "memfd_hole", "shared_written_by_other", "shared_hole", "dev_zero_private",
}  # fmt: skip


def test_as_an_ordinary_user(live_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Files by their paths; what has none is absent; nothing is touched."""
    need(os.geteuid() == 0, "needs root to become another user")
    home = Path(tmp_path_factory.mktemp("user"))
    for parent in (home, *home.parents):
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:  # pytest's own are root's alone
            os.chmod(parent, 0o711)
    shutil.copytree(REPO / "memfs", home / "lib" / "memfs")
    shutil.copy(REPO / "tests" / "live.py", home / "lib")
    shutil.copy(live_programs / "pages", home)
    files = home / "files"
    files.mkdir()
    os.chown(files, USER, USER)
    python = interpreter(home)
    need(python, "no interpreter that an ordinary user can run")
    environment = {"PYTHONPATH": str(home / "lib"), "PATH": "/usr/bin:/bin"}
    with running(home / "pages", files, user=USER) as process:
        before = footprint(process.pid, files)
        looked = subprocess.run(
            [str(python), home / "lib" / "live.py", str(process.pid)],
            input="\n".join(process.lines).encode(), capture_output=True, timeout=120, check=False,
            user=USER, group=USER, extra_groups=[], cwd="/", env=environment,
        )  # fmt: skip
        assert looked.returncode == 0, looked.stderr.decode()
        assert not changes(before, footprint(process.pid, files))
    seen = json.loads(looked.stdout)
    rows = process.rows
    for name, row in rows.items():
        if name in ONLY_BY_MAP_FILES and seen[name] != expected(row):
            assert seen[name]["tally"][2] > 0, name
            assert seen[name]["got"] < row.size, name
        else:
            assert seen[name] == expected(row), name
    assert seen["file_private"] == expected(rows["file_private"])
    assert seen["shared_hole"] == expected(rows["shared_hole"], "absent")


def test_another_users_process(target: Live) -> None:
    """EACCES, with what to do."""
    need(os.geteuid() == 0, "needs root to become another user")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
        with space_of(target.pid) as space:
            try:
                space.readinto(target.rows["written"].address, memoryview(bytearray(10)))
            except MemfsError as error:
                os.write(writer, f"{error.errno} {error}".encode())
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 4096).decode()
    os.close(reader)
    os.waitpid(child, 0)
    assert said.startswith(f"{errno.EACCES} not allowed")
    assert "root" in said


def test_a_process_that_is_gone(live_programs: Path, tmp_path: Path) -> None:
    with running(live_programs / "pages", tmp_path) as process:
        row = process.rows["written"]
        with space_of(process.pid) as space, space_of(process.pid) as untouched:
            pinned = space.pinned(space.areas())
            assert live.read(space, row.address, 16) == row.bytes[:16]
            os.kill(process.pid, 9)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            for view in (space, pinned, untouched):
                with pytest.raises(MemfsError) as error:
                    view.readinto(row.address, memoryview(bytearray(16)))
                assert error.value.errno == errno.ESRCH


# -- namespaces --------------------------------------------------------------------------------------------------------


def test_a_process_with_files_that_we_do_not_see(live_programs: Path, tmp_path: Path) -> None:
    """Of another mount and pid namespace: its files are found through map_files; a path of its view is not ours."""
    need(os.geteuid() == 0, "needs root to make namespaces")
    need_tools("unshare")
    script = f"mount -t tmpfs none {tmp_path} && exec {live_programs}/pages {tmp_path} plain"
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script]
    with running(*command) as outer:
        assert not list(tmp_path.iterdir())
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        assert len(children) == 1
        pid = int(children[0])
        live.comes_to_rest(pid)
        before = footprint(pid, tmp_path)
        with space_of(pid) as space:
            live.everything(space)
            assert look(space, outer.rows) == {name: expected(row) for name, row in outer.rows.items()}
        assert not changes(before, footprint(pid, tmp_path))


def test_a_reader_in_another_pid_namespace(target: Live) -> None:
    """Numbers of a /proc of another namespace mean other processes here: nothing is read by them."""
    need_tools("unshare")
    rows = {name: row for name, row in target.rows.items() if not name.startswith(("hugetlb", "below"))}
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    looked = subprocess.run(
        ["unshare", "--pid", "--fork", "--kill-child", sys.executable, REPO / "tests" / "live.py", str(target.pid)],
        input="\n".join(target.lines).encode(), capture_output=True, timeout=120, check=False, env=environment,
    )  # fmt: skip
    assert looked.returncode == 0, looked.stderr.decode()
    seen = json.loads(looked.stdout)
    assert {name: seen[name] for name in rows} == {name: expected(row) for name, row in rows.items()}
