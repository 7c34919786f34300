"""symbols/, kallsyms and at/SYMBOL of saved kernels; maps that belong to them, and maps that do not."""

import errno
import json
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from kernels import KERNELS, kallsyms, rebuilt, saved
from mounting import mounted, watchdog
from needs import need_tools, run

import memfs
from memfs.api import OpenImage
from memfs.errors import AbsentMemory, MemfsError
from memfs.facts.naming import to_bytes
from memfs.facts.symbols import listing, of_image, sources
from memfs.image import Image
from memfs.tree import at
from memfs.tree.node import Dir, File
from memfs.tree.rows import Context
from memfs.tree.symbols import ModuleDir

MEMFS = (sys.executable, "-m", "memfs")
BANNER = b"Linux version "


def core_lines(kernel: str) -> list[bytes]:
    """The lines of the kernel itself, whose symbols are in its memory."""
    return [line for line in kallsyms(kernel).splitlines(keepends=True) if b"\t" not in line]


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def image(kernel: str, directory: Path) -> Iterator[OpenImage]:
    with memfs.open(rebuilt(kernel, directory)) as opened:
        yield opened


@pytest.fixture
def amd64(directory: Path) -> Iterator[OpenImage]:
    with memfs.open(rebuilt("amd64-6.1", directory)) as opened:
        yield opened


def read(image: OpenImage, path: str) -> bytes:
    """A file up to its end or to the first byte that is not there."""
    node = image.node(path)
    assert isinstance(node, File)
    reader = node.open()
    buffer = memoryview(bytearray(reader.size))
    return bytes(buffer[: reader.readinto(0, buffer)])


# -- the tree ----------------------------------------------------------------------------------------------------------


def test_kallsyms_line_by_line(image: OpenImage, kernel: str) -> None:
    assert image.cat("kallsyms") == b"".join(core_lines(kernel))
    assert json.loads(image.cat("info.json"))["symbols"] == sources.IN_MEMORY


def test_every_symbol_is_listed_by_address(image: OpenImage, kernel: str) -> None:
    lines = [line.split() for line in core_lines(kernel)]
    lines.sort(key=lambda words: int(words[0], 16))
    directory = image.node("symbols/vmlinux")
    assert isinstance(directory, Dir)
    names = list(directory.names())
    assert len(set(names)) == len(names) == len(lines)
    count: Counter[bytes] = Counter()
    table = json.loads(image.cat("symbols/vmlinux.json"))
    sizes = directory.sizes()
    assert sizes
    for index, ((address, type_, raw), name, record) in enumerate(zip(lines, names, table, strict=True)):
        count[raw] += 1
        want = (raw if raw[:1] != b"." else b"%2E" + raw[1:]).decode()
        want = want.replace("\x02", "%02")
        assert name == (want if count[raw] == 1 else f"{want}~{count[raw]}")
        assert record["name"] == name
        assert (int(record["address"], 16), record["type"]) == (int(address, 16), type_.decode())
        assert record["size"] == sizes.sizes[index] >= sizes.data[index]
        if index % 997 == 0:
            node = image.node(f"symbols/vmlinux/{name}")
            info = node.stat()
            assert (info.size, info.data) == (sizes.sizes[index], sizes.data[index])
            assert node.xattrs()["user.memfs.type"] == type_.decode()
            assert node.xattrs()["user.memfs.address"] == record["address"]
            assert directory.find(name) == index


def test_from_python(amd64: OpenImage) -> None:
    symbols = amd64.symbols
    address = symbols.value(b"linux_banner")
    assert address
    assert amd64.read(address, len(BANNER)) == BANNER
    place = symbols.at(address + 3)
    assert place
    assert (symbols.name(place.symbol), place.offset) == (b"linux_banner", 3)


def test_looking_one_symbol_up_lists_nothing(amd64: OpenImage) -> None:
    directory = amd64.node("symbols/vmlinux")
    assert read(amd64, "symbols/vmlinux/linux_banner").startswith(BANNER)
    assert not {"_names", "_index", "_sizes"} & set(vars(directory))


def test_bytes_are_those_that_drgn_read(directory: Path) -> None:
    """What stands still: drgn read the live kernel moments later."""
    for kernel in ("amd64-5.10", "amd64-6.1"):
        found = 0
        with memfs.open(rebuilt(kernel, directory)) as image:
            for line in saved(kernel, "drgn.txt.xz").splitlines():
                match = re.fullmatch(rb"(\w+) 0x(\w+) size \d+ ([0-9a-f]{32})", line)
                if match and match[1] in (b"linux_banner", b"init_uts_ns", b"_stext", b"vmalloc_base", b"phys_base"):
                    data = read(image, f"symbols/vmlinux/{match[1].decode()}")[:16]
                    assert data == bytes.fromhex(match[3].decode())[: len(data)]
                    found += len(data) > 0
        assert found >= 3


def test_per_cpu_and_absolute_are_marked_and_not_read(amd64: OpenImage) -> None:
    records = {record["name"]: record for record in json.loads(amd64.cat("symbols/vmlinux.json"))}
    assert records["current_task"]["section"] == "percpu"
    assert records["_stext"]["section"] == ".text"
    for name in ("current_task", "fixed_percpu_data"):
        node = amd64.node(f"symbols/vmlinux/{name}")
        assert isinstance(node, File)
        assert node.xattrs()["user.memfs.section"] == "percpu"
        with pytest.raises(AbsentMemory) as caught:
            node.open().readinto(0, memoryview(bytearray(8)))
        assert caught.value.errno == errno.ENODATA
        with pytest.raises(MemfsError, match="no such file"):
            amd64.node(f"at/{name}")


def test_at(amd64: OpenImage) -> None:
    banner = read(amd64, "symbols/vmlinux/linux_banner")
    address = int(amd64.node("symbols/vmlinux/linux_banner").xattrs()["user.memfs.address"], 16)
    assert amd64.cat("at/linux_banner:5") == b"Linux"
    assert amd64.cat("at/linux_banner+6:7") == b"version"
    assert amd64.cat("at/linux_banner+0x6:0x7") == b"version"
    assert amd64.cat("at/vmlinux!linux_banner:5") == b"Linux"
    assert read(amd64, "at/linux_banner") == banner
    assert read(amd64, "at/linux_banner+6") == banner[6:]
    assert amd64.node("at/linux_banner+6").xattrs()["user.memfs.address"] == hex(address + 6)
    second = amd64.node("symbols/vmlinux/jhash~2").xattrs()["user.memfs.address"]
    parsed = at.parse(amd64.image, "jhash~2")  # not stored in the sample
    assert parsed
    assert hex(parsed.start) == second
    for name in ("none_such", "linux_banner+", "linux_banner:", "jhash~0", "jhash~999", "none!linux_banner", "+1:2"):
        with pytest.raises(MemfsError):
            amd64.node(f"at/{name}")


@pytest.mark.parametrize("layout", ["compact", "exact"])
def test_a_mount(layout: str, point: Path) -> None:
    need_tools("getfattr")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if layout == "exact" else None) as place:
        path = rebuilt("amd64-6.1", Path(place), layout)  # no ext4 holds 128 TiB
        with mounted(path, point), watchdog(point):
            with (point / "symbols/vmlinux/linux_banner").open("rb", buffering=0) as file:
                assert file.read(80).startswith(BANNER)
            assert (point / "at/linux_banner:5").read_bytes() == b"Linux"
            assert (point / "kallsyms").read_bytes() == b"".join(core_lines("amd64-6.1"))
            assert os.listdir(point / "symbols") == ["vmlinux", "vmlinux.json"]
            with memfs.open(path) as image:
                want = image.node("symbols/vmlinux")
                assert isinstance(want, Dir)
                sizes = want.sizes()
                assert sizes
                with os.scandir(point / "symbols/vmlinux") as listing:
                    found = [(entry.name, entry.stat().st_size, entry.stat().st_blocks) for entry in listing]
                blocks = [-(-data // 512) for data in sizes.data]
                assert found == list(zip(want.names(), sizes.sizes, blocks, strict=True))
            printed = run("getfattr", "-n", "user.memfs.type", point / "symbols/vmlinux/linux_banner").stdout
            assert b'user.memfs.type="D"' in printed
            with pytest.raises(OSError, match=r".") as caught:
                (point / "symbols/vmlinux/current_task").read_bytes()
            assert caught.value.errno == errno.ENODATA


# -- maps ----------------------------------------------------------------------------------------------------------


def system_map(kernel: str, offset: int) -> bytes:
    """The System.map of a kernel that KASLR moved by `offset`: as nm -n prints it, where it was linked."""
    out = []
    for line in core_lines(kernel):
        address, rest = int(line.split()[0], 16), line.split(b" ", 1)[1]
        out.append((address - offset if address > 1 << 30 else address, rest))
    return b"".join(b"%016x %s" % pair for pair in sorted(out))


def info(path: Path, symbols: Path) -> dict[str, object]:
    done = run(*MEMFS, "cat", "--symbols", symbols, path, "info.json")
    assert done.returncode == 0, done
    found: dict[str, object] = json.loads(done.stdout)
    return found


def offset_of(image: OpenImage) -> int:
    return int(json.loads(image.cat("info.json"))["kaslr_offset"], 16)


@pytest.mark.parametrize("kernel", ["amd64-5.10", "amd64-6.1"])
def test_a_map_of_this_kernel_is_moved_to_where_it_ran(kernel: str, directory: Path, tmp_path: Path) -> None:
    path = rebuilt(kernel, directory)
    with memfs.open(path) as image:
        offset = offset_of(image)
        want = of_image.found(image.image).sure()
    for name, text in (("System.map", system_map(kernel, offset)), ("kallsyms", kallsyms(kernel))):
        (tmp_path / name).write_bytes(text)
        with memfs.open(path, symbols=str(tmp_path / name)) as image:
            found = of_image.found(image.image)
            assert found.origin == str(tmp_path / name)
            assert json.loads(image.cat("info.json"))["symbols"] == found.origin
            symbols = found.sure()
            for wanted in (b"_stext", b"linux_banner", b"init_task", b"current_task"):
                assert symbols.value(wanted) == want.value(wanted)
            assert read(image, "symbols/vmlinux/linux_banner").startswith(BANNER)


def test_modules_of_a_saved_list(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "kallsyms").write_bytes(kallsyms("amd64-6.1"))
    with memfs.open(rebuilt("amd64-6.1", directory), symbols=str(tmp_path / "kallsyms")) as image:
        assert image.cat("kallsyms") == kallsyms("amd64-6.1")
        names = list(image.tree.lookup("symbols").names())
        module = names[2]
        lines = [line for line in kallsyms("amd64-6.1").splitlines() if line.endswith(f"\t[{module}]".encode())]
        assert len(json.loads(image.cat(f"symbols/{module}.json"))) == len(lines) > 0


HOSTILE = (
    *(b"..", b".", b"a/b", b"%2F", b"100%", b"\x02x", b"\xff\xfe", b"g\xc3\xbcn", b"x" * 300, b"x" * 300),
    *(b"twice~2", b"twice", b"twice", b".LC0", b"\xc2\xa0n", b"\xc2\x85"),
)
FILES = (
    "%2E.",
    "%2E",
    "a%2Fb",
    "%252F",
    "100%25",
    "%02x",
    "\udcff\udcfe",
    "gün",
    "twice~2",
    "twice",
    "twice~3",
    "%2ELC0",
)


def test_names_that_lead_out_and_names_that_are_no_text() -> None:
    """Every name is found, whether it is the first that is asked for or not, and none leads out."""
    text = b"".join(b"%016x t %s\n" % (0xFFFFFFFF81000000 + 16 * i, name) for i, name in enumerate(HOSTILE))
    symbols = listing.parse(text)
    context = Context(cast(Image, None))  # names need no image
    names = list(ModuleDir(context, symbols, 0).names())
    assert len(set(names)) == len(names) == len(HOSTILE)
    assert set(FILES) <= set(names)
    for index, name in enumerate(names):
        assert 0 < len(to_bytes(name)) <= 255
        assert "/" not in name
        assert name not in (".", "..")
        assert ModuleDir(context, symbols, 0).find(name) == index
    for name in ("a/b", "..", ".", "%2F", ".LC0", "x" * 300):
        assert ModuleDir(context, symbols, 0).find(name) is None


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("another kernel", "is not the map of this kernel"),
        ("moved by a page", "this kernel moved by"),
        ("one symbol elsewhere", "in this kernel"),
        ("stub", "this System.map is a stub"),
        ("hidden", "all addresses of these symbols are zero"),
        ("no kernel", "neither linux_banner nor VMCOREINFO"),
        ("nothing", "No such file"),
    ],
)
def test_a_wrong_map_is_refused(what: str, why: str, directory: Path, tmp_path: Path) -> None:
    path, wrong = rebuilt("amd64-6.1", directory), tmp_path / "map"
    with memfs.open(path) as image:
        offset = offset_of(image)
    texts = {
        "another kernel": lambda: kallsyms("amd64-5.10"),
        "moved by a page": lambda: system_map("amd64-6.1", offset + 4096),
        "one symbol elsewhere": lambda: system_map("amd64-6.1", offset).replace(b" init_uts_ns\n", b" other\n").replace(
            b" jiffies\n", b" init_uts_ns\n"
        ),
        "stub": lambda: b"ffffffffffffffff B The real System.map is in the linux-image-6.1.0-56-dbg package\n",
        "hidden": lambda: b"".join(b"0" * 16 + line[16:] for line in core_lines("amd64-6.1")),
        "no kernel": lambda: b"ffffffff81000000 T something\n",
    }  # fmt: skip
    if what in texts:
        wrong.write_bytes(texts[what]())
        assert info(path, wrong)["symbols"] is None
        assert any(why in str(warning) for warning in info(path, wrong)["warnings"])
    done = run(*MEMFS, "cat", "--symbols", wrong, path, "symbols/vmlinux/linux_banner")
    assert (done.returncode, done.stdout) == (1, b"")
    assert why.encode() in done.stderr, done.stderr


def test_the_search_path_of_klogd() -> None:
    known = {"OSRELEASE": "6.1.0-56-cloud-amd64", "BUILD-ID": "0123456789abcdef"}
    paths = sources.search_path(known)
    assert paths[:2] == ["/boot/System.map-6.1.0-56-cloud-amd64", "/boot/System.map"]
    assert "/usr/lib/debug/.build-id/01/23456789abcdef.debug" in paths
    hostile = sources.search_path({"OSRELEASE": "../../etc/shadow", "BUILD-ID": "../../x"})
    assert hostile == ["/boot/System.map", "/System.map", "/usr/src/linux/System.map"]


def test_symbolize_with_an_image(directory: Path) -> None:
    """0xffffffffa7201234 is sme_prepare_pgd: drgn said so in that kernel."""
    assert b"0xffffffffa7201234 sme_prepare_pgd 0xd4" in saved("amd64-6.1", "drgn.txt.xz")
    path = rebuilt("amd64-6.1", directory)
    text = directory / "text"
    text.write_bytes(b"RIP: 0010:[<ffffffffa7201234>]\n")
    done = run(*MEMFS, "symbolize", path, text)
    assert done.returncode == 0, done
    assert re.fullmatch(rb"RIP: 0010:\[<ffffffffa7201234>\] sme_prepare_pgd\+0xd4/0x[0-9a-f]+\n", done.stdout)
