"""The command line without a mount: the same paths, bytes and errors as a mount."""

import errno
import io
import itertools
import json
import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from makecore import Header, auxv_64, core, file_note_64, note, prpsinfo_64, prstatus
from needs import REPO, run

import memfs
from memfs.cli import cp
from memfs.tree.process import PROCESS

ENV = {**os.environ, "PYTHONPATH": str(REPO), "TZ": "UTC"}


def cli(*words: object, timeout: float = 60) -> "subprocess.CompletedProcess[bytes]":
    return run(sys.executable, "-m", "memfs", *words, env=ENV, timeout=timeout)


def good(*words: object) -> bytes:
    done = cli(*words)
    assert (done.returncode, done.stderr) == (0, b""), done
    return done.stdout


@pytest.fixture
def holed(tmp_path: Path) -> Path:
    """10 bytes of data at 0x1000, of 20; then a megabyte with a hole in it; and a page far away."""
    path = tmp_path / "holed.core"
    big = Header(1, 6, 0x10000, b"a" * 4096 + bytes(1 << 20) + b"z" * 4096)
    data = core([Header(1, 4, 0x1000, b"0123456789", 20), big, Header(1, 6, 0x500000, b"far")])
    with path.open("wb") as file:
        for start in range(0, len(data), 4096):
            page = data[start : start + 4096]
            if any(page):
                file.seek(start)
                file.write(page)
        file.truncate(len(data))
    return path


def test_help_and_version() -> None:
    assert good("--version").decode() == f"memfs {memfs.__version__}\n"
    text = good("--help").decode()
    for command in ("mount", "umount", "info", "ls", "cat", "cp", "tree"):
        assert f"\n  {command} " in text
        assert b"usage: memfs " + command.encode() in good(command, "--help")


@pytest.mark.parametrize(
    "words",
    [[], ["frobnicate"], ["cat"], ["cat", "x"], ["ls", "-z", "x"], ["cat", "--offset", "x", "a", "b"], ["--frob"]],
)
def test_wrong_usage(words: list[str]) -> None:
    done = cli(*words)
    assert done.returncode == 2
    assert done.stdout == b""
    assert b"Traceback" not in done.stderr


def test_tree_has_every_row() -> None:
    text = good("tree").decode()
    for row in PROCESS:
        assert row.path in text
        assert row.help in text


def test_info(secret_core: Path) -> None:
    text = good("info", secret_core)
    assert text == good("cat", secret_core, "info")
    assert json.loads(good("info", "--json", secret_core))["signal"] == "SIGSEGV (11), SEGV_MAPERR at 0x10"


def test_a_slash_behind_a_link(secret_core: Path) -> None:
    """As a shell completes it: threads/current/ is what the link leads to."""
    for path in ("threads/current", "threads/current/"):
        assert b"registers.json" in good("ls", secret_core, path).splitlines()


def test_ls(secret_core: Path) -> None:
    top = good("ls", secret_core).decode().split()
    assert top[:2] == ["info", "info.json"]
    assert "at" not in top
    assert b"heap" in good("ls", secret_core, "regions").splitlines()
    assert good("ls", secret_core, "regions/heap") == b"regions/heap\n"
    assert b"registers.json" in good("ls", secret_core, "threads/current")
    line = good("ls", "-l", secret_core, "exe").decode()
    assert line.startswith("lrwxrwxrwx")
    assert "-> /tmp/" in line
    sizes = {
        row.split()[-1]: int(row.split()[1]) for row in good("ls", "-l", secret_core, "regions").decode().splitlines()
    }
    assert sizes["heap"] == len(good("cat", secret_core, "regions/heap"))
    (one,) = json.loads(good("ls", "--json", secret_core, "regions/heap"))
    assert one.pop("data") <= sizes["heap"], "less where the file that git made is sparse"
    assert one == {"name": "regions/heap", "kind": "file", "size": sizes["heap"]}
    long = good("ls", "-l", "-R", secret_core, "threads").decode()
    assert re.match(r"threads:\n(?:dr-xr-xr-x .*\n)+lrwxrwxrwx .* current -> \d+\n\nthreads/\d+:\n-r--r--r-- ", long)
    everything = good("ls", "-R", secret_core).decode()
    assert "\nthreads/" in everything
    assert "\nregions:\n" in everything
    records = json.loads(good("ls", "-R", "--json", secret_core))
    assert {"name", "kind", "size", "data"} <= set(records[0])
    assert any(r["name"] == "threads/current" and r["kind"] == "link" for r in records)


def test_cat(secret_core: Path) -> None:
    heap = memfs.open(str(secret_core)).cat("regions/heap")
    assert good("cat", secret_core, "regions/heap") == heap
    assert good("cat", secret_core, "comm", "./regions/../comm", "/comm") == b"secret\n" * 3
    assert good("cat", "--offset", "0x2a0", "--length", "5", secret_core, "regions/heap") == b"alice"
    assert good("cat", "--offset", len(heap) - 3, secret_core, "regions/heap") == heap[-3:]
    assert good("cat", "--offset", len(heap) + 9, secret_core, "regions/heap") == b""
    assert good("cat", "--length", 0, secret_core, "regions/heap") == b""


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nothing", "no such file or directory"),
        ("regions/nothing", "no such file or directory"),
        ("regions", "this is a directory"),
        ("info/x", "not a directory"),
        ("exe", "leads out of the image"),
        ("at/0x10", "no such file or directory"),
        ("at/main", "no such file or directory"),
        ("threads/current/../../../..", "this is a directory"),
    ],
)
def test_paths_that_cannot_be_read(secret_core: Path, path: str, words: str) -> None:
    done = cli("cat", secret_core, path, "comm")
    assert done.returncode == 1
    assert done.stdout == b"secret\n", "the other files are printed all the same"
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"memfs: {secret_core}: ")
    assert words in line


def test_absent_bytes(holed: Path) -> None:
    done = cli("cat", holed, "at/0x1000:20")
    assert (done.returncode, done.stdout) == (1, b"0123456789")
    assert b"no bytes at 0x100a" in done.stderr
    assert good("cat", "-o", "absent=zero", holed, "at/0x1000:20") == b"0123456789" + bytes(10)
    done = cli("cat", "-o", "absent=zero", holed, "at/0x1000:0x21")
    assert (done.returncode, done.stdout) == (1, b"0123456789" + bytes(10)), "a gap is never filled"
    assert b"nothing is mapped there" in done.stderr


def test_cp_leaves_holes(holed: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    region = next(line for line in good("ls", holed, "regions").decode().split() if "10000" in line)
    assert good("cp", holed, f"regions/{region}", target) == b""
    assert target.read_bytes() == good("cat", holed, f"regions/{region}")
    assert target.stat().st_blocks * 512 < 1 << 19
    done = cli("cp", holed, "at/0x1000:20", target)
    assert done.returncode == 0
    assert b"10 bytes are not in the image" in done.stderr
    assert target.read_bytes() == b"0123456789" + bytes(10)


def data_of(path: Path) -> list[tuple[int, int]]:
    """[start, end) of what SEEK_DATA calls data."""
    out: list[tuple[int, int]] = []
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while (out[-1][1] if out else 0) < size:
            try:
                start = os.lseek(file.fileno(), out[-1][1] if out else 0, os.SEEK_DATA)
            except OSError as error:
                assert error.errno == errno.ENXIO
                break
            out.append((start, os.lseek(file.fileno(), start, os.SEEK_HOLE)))
    return out


def test_holes_are_holes(tmp_path: Path) -> None:
    """Absent memory between data is a hole of the copy, to the page; a segment's copy is as sparse as a region's."""
    page = 4096
    parts = [Header(1, 6, 0x10000, b"a" * page, 8 * page), Header(1, 6, 0x18000, b"z" * (2 * page))]
    path = tmp_path / "parts.core"
    path.write_bytes(core(parts))
    want = {
        "at/0x10000-0x1a000": [(0, page), (8 * page, 10 * page)],
        "segments/000-0000000000010000-rw-": [(0, page)],
        "mem": [(0x10000, 0x11000), (0x18000, 0x1A000)],
    }
    for name, data in want.items():
        cli("cp", path, name, tmp_path / "copy")
        assert data_of(tmp_path / "copy") == data, name


def test_cp_into_a_directory_and_recursively(secret_core: Path, tmp_path: Path) -> None:
    good("cp", secret_core, "regions/heap", tmp_path)
    assert b"swordfish" in (tmp_path / "heap").read_bytes()
    done = cli("cp", "-r", secret_core, "/", tmp_path / "all")
    assert done.returncode == 0, done.stderr
    assert b"mem was left out" in done.stderr
    assert (tmp_path / "all/comm").read_bytes() == b"secret\n"
    assert os.readlink(tmp_path / "all/threads/current") in os.listdir(tmp_path / "all/threads")
    assert not (tmp_path / "all/mem").exists()
    assert (tmp_path / "all/regions.json").read_bytes() == good("cat", secret_core, "regions.json")
    done = cli("cp", secret_core, "regions", tmp_path / "x")
    assert done.returncode == 1
    assert b"copy it with -r" in done.stderr


def test_cp_of_mem(holed: Path, tmp_path: Path) -> None:
    cli("cp", holed, "mem", tmp_path / "mem")
    with (tmp_path / "mem").open("rb") as file:
        assert os.fstat(file.fileno()).st_size == 0x500003
        assert os.pread(file.fileno(), 3, 0x500000) == b"far"
        assert os.pread(file.fileno(), 10, 0x1000) == b"0123456789"
        assert os.lseek(file.fileno(), 0x200000, os.SEEK_DATA) == 0x500000


def test_cp_does_not_follow_links_in_the_way(secret_core: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    done = cli("cp", secret_core, "comm", tmp_path / "link")
    assert done.returncode == 1
    assert (tmp_path / "victim").read_text() == "kept"


def test_cp_where_there_is_no_directory(secret_core: Path, tmp_path: Path) -> None:
    done = cli("cp", secret_core, "comm", tmp_path / "no" / "where")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of ours: a second for each piece of 1 MiB of 4."""
    clock = itertools.count()
    terminal = Terminal()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = cp._Progress("heap", 4 << 20)
    for _ in range(4):
        progress.add(1 << 20)
    progress.end()
    shown = [line.strip() for line in terminal.getvalue().split("\r")]
    assert shown == ["", *(f"heap: {n}.0 MiB of 4.0 MiB, 1.0 MiB/s, {4 - n} s left" for n in (1, 2, 3, 4)), "", ""]


def test_no_progress_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    monkeypatch.setattr(time, "monotonic", itertools.count().__next__)
    progress = cp._Progress("heap", 10)
    progress.add(5)
    progress.end()
    assert pipe.getvalue() == ""


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = cli("info", "--debug", tmp_path / "missing")
    assert done.returncode != 0
    assert b"Traceback" in done.stderr


def test_a_reader_that_goes_away(secret_core: Path) -> None:
    done = run("sh", "-c", f"{sys.executable} -m memfs ls -R {secret_core} | head -1", env=ENV)
    assert (done.stdout, done.stderr) == (b".:\n", b"")


def test_bytes_that_are_no_utf8_come_out_as_they_are(tmp_path: Path) -> None:
    files = file_note_64((0x1000, 0x2000, 0, b"/lib/\xff\xfe.so"))
    path = tmp_path / "odd.core"
    path.write_bytes(
        core([Header(1, 5, 0x1000, b"x", 4096)], note(b"CORE", 3, prpsinfo_64(1)) + note(b"CORE", 0x46494C45, files))
    )
    assert good("ls", path, "regions") == b"\xff\xfe.so.text\n"
    assert b"/lib/\xff\xfe.so" in good("cat", path, "maps")
    assert "\\udcff\\udcfe.so.text" in good("cat", path, "regions.json").decode("ascii")


def test_modes_of_a_copy(secret_core: Path, tmp_path: Path) -> None:
    done = run("sh", "-c", f"umask 027; {sys.executable} -m memfs cp {secret_core} comm {tmp_path}/c", env=ENV)
    assert done.returncode == 0, done
    assert stat.filemode((tmp_path / "c").stat().st_mode) == "-rw-r-----"


def test_a_link_of_an_attacker_stays_on_its_line(tmp_path: Path) -> None:
    notes = note(b"CORE", 1, prstatus(5)) + note(b"CORE", 6, auxv_64(AT_ENTRY=0x1000))
    notes += note(b"CORE", 0x46494C45, file_note_64((0x1000, 0x2000, 0, b"/bin/\x1b[2J\nroot\xff")))
    path = tmp_path / "odd.core"
    path.write_bytes(core([Header(1, 5, 0x1000, b"x", 4096)], notes))
    assert good("ls", "-l", path, "exe").endswith(b"exe -> /bin/\\x1b[2J\\x0aroot\xff\n")


def test_cp_never_destroys_the_image(secret_core: Path, tmp_path: Path) -> None:
    core_file = tmp_path / "own.core"
    core_file.write_bytes(secret_core.read_bytes())
    (tmp_path / "hard").hardlink_to(core_file)
    for destination in (core_file, tmp_path / "hard"):
        done = cli("cp", core_file, "regions/heap", destination)
        assert done.returncode == 1
        assert b"the image itself" in done.stderr
    assert core_file.read_bytes() == secret_core.read_bytes()


def test_cp_to_a_fifo_does_not_hang(secret_core: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    done = cli("cp", secret_core, "comm", tmp_path / "fifo", timeout=20)
    assert done.returncode == 1
    assert b"memfs cat" in done.stderr


@pytest.mark.parametrize("words", ["cat {} comm", "info {}", "ls -R {}", "tree", "cat {} regions/heap"])
@pytest.mark.parametrize("closing", [">&-", "<&- >&-", "> /dev/full"])
def test_output_that_goes_nowhere(secret_core: Path, words: str, closing: str) -> None:
    command = f"{sys.executable} -m memfs {words.format(secret_core)} {closing}"
    done = run("sh", "-c", command, env=ENV)
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("memfs: standard output: ")


def test_closed_standard_files_stay_closed(secret_core: Path, tmp_path: Path) -> None:
    before = secret_core.read_bytes()
    done = run("sh", "-c", f"{sys.executable} -m memfs cp {secret_core} comm {tmp_path}/c <&- >&- 2>&-", env=ENV)
    assert done.returncode == 0
    assert (tmp_path / "c").read_bytes() == b"secret\n"
    assert secret_core.read_bytes() == before
