"""A good citizen among mounts: options, service managers, logs, who holds a mount, what is left of one, links."""

import errno
import os
import re
import resource
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from makecore import Header, auxv_64, core, file_note_64, note
from mounting import (
    ENV,
    MEMFS,
    counted,
    daemons,
    eventually,
    memfs,
    mount_command,
    mount_lines,
    mounted,
    nothing_left,
    one_line,
    through,
)
from needs import need, need_tools, run

from memfs.fuse.transport import TRANSPORTS
from memfs.tree import options

# -- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word", [*options.IN_FORCE, *options.DROPPED, "x-systemd.automount", "X-mount.mkdir=0755", "comment=a b"]
)
def test_words_of_mount_and_fstab(word: str) -> None:
    assert options.parse(word) == options.Settings()
    assert options.parse(f"{word},uid=5,{word}").uid == 5


@pytest.mark.kernel_only("nothing is mounted")
@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("alow_other", "allow_other"),
        ("nosiud", "nosuid"),
        ("umsk=022", "umask"),
        ("no-atime", "noatime"),
        ("fus", "fuse"),
    ],
)
def test_an_unknown_word_names_the_nearest(secret_core: Path, point: Path, word: str, near: str) -> None:
    one_line(memfs("mount", "-o", f"ro,{word}", secret_core, point), f"did you mean {near}?")
    assert not mount_lines(point)


def test_sloppy_drops_what_nobody_knows(secret_core: Path, point: Path) -> None:
    """By -s, as mount(8) has it: unknown words are dropped, known ones hold, and a wrong value is an error."""
    words = "-o", "ro,nosuch,size=5,alow_other,umask=0022"
    one_line(memfs("mount", *words, secret_core, point), "-o nosuch", "unknown option")
    with mounted(secret_core, point, "-s", *words):
        assert (point / "comm").stat().st_mode & 0o777 == 0o444
        assert "allow_other" not in findmnt(point)[2].split(",")
    one_line(memfs("mount", "-s", "-o", "nosuch,umask=9", secret_core, point), "umask=9")
    one_line(memfs("mount", "-s", "-o", "nosuch,umask", secret_core, point), "write umask=OCTAL")
    assert not mount_lines(point)


def test_commas_and_backslashes_in_values(secret_core: Path, point: Path) -> None:
    for name in ("a,b", "a\\b", "a\\,b", "\\", ",", "tail\\"):
        with mounted(secret_core, point, "-o", f"ro,fsname={options.escape(name)},umask=0027"):
            assert findmnt(point)[0] == name.replace("\\", "\\x5c")
            assert (point / "comm").stat().st_mode & 0o777 == 0o440


def test_options_are_the_same_table_everywhere(secret_core: Path) -> None:
    said = memfs("mount", "--help").stdout.decode()
    for option in options.OPTIONS:
        assert option.help in said
        assert re.search(rf"^  {option.name}\b", said, re.M)
    assert {row.name for row in TRANSPORTS} == set(next(o for o in options.OPTIONS if o.name == "fuse").choices)


def findmnt(point: Path) -> list[str]:
    """Source, type and options, as findmnt(8) prints them."""
    need_tools("findmnt")
    done = run("findmnt", "-rno", "SOURCE,FSTYPE,OPTIONS", point)
    return done.stdout.decode().split() if done.returncode == 0 else []


# -- service managers, logs ----------------------------------------------------------------------------------------


@pytest.fixture(params=["path", "abstract"])
def notified(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A service manager's socket, and the environment that names it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(20)
        name = f"/tmp/memfs-notify-{os.getpid()}"
        manager.bind(name if request.param == "path" else "\0" + name)
        yield manager, {**ENV, "NOTIFY_SOCKET": name if request.param == "path" else "@" + name}
    if request.param == "path":
        os.unlink(name)


@pytest.mark.parametrize("foreground", [True, False])
def test_a_service_manager_is_told(
    notified: tuple[socket.socket, dict[str, str]], secret_core: Path, point: Path, foreground: bool
) -> None:
    manager, env = notified
    with nothing_left(point):
        words = [*(["-f"] if foreground else []), secret_core, point]
        server = subprocess.Popen(mount_command(*words), env=env)
        ready = manager.recv(4096).decode().split("\n")
        assert "READY=1" in ready
        assert (point / "comm").read_bytes() == b"secret\n"  # ready is ready
        (daemon,) = set(daemons(point)) - ({server.pid} if not foreground else set())
        assert f"MAINPID={daemon}" in ready
        assert f"STATUS={secret_core} on {point}" in ready
        os.kill(daemon, signal.SIGTERM)
        assert manager.recv(4096) == b"STOPPING=1"
        assert server.wait(20) == 0
        eventually(lambda: not daemons(point), "the daemon ends")


def test_statistics_and_failures_go_to_the_log(secret_core: Path, point: Path, tmp_path: Path) -> None:
    copy, log = tmp_path / "copy.core", tmp_path / "memfs.log"
    copy.write_bytes(secret_core.read_bytes())
    with mounted(copy, point, "-o", f"log={log}"):
        assert b"swordfish" in (point / "regions/heap").read_bytes()
        before = counted(point, log)
        assert sum(before.values()) > 3
        os.truncate(copy, 4096)
        for _ in range(50):
            with pytest.raises(OSError, match="Input/output error"):
                (point / "segments").joinpath(sorted(os.listdir(point / "segments"))[-1]).read_bytes()
    lines = log.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ memfs\[\d+\]: \S", line) for line in lines)
    assert len(lines) > 1
    assert oct(log.stat().st_mode & 0o777) == "0o600"


def test_a_log_does_not_fill_the_disk() -> None:
    code = "from memfs.fuse.log import Log\nlog = Log(None)\nfor i in range(5000): log(f'line {i}')\n"
    done = run(sys.executable, "-c", code, env=ENV)
    assert 20 <= len(done.stderr.splitlines()) <= 100
    assert done.stderr.startswith(b"memfs: line 0\nmemfs: line 1\n")


def test_a_log_that_cannot_be_written(secret_core: Path, point: Path) -> None:
    one_line(memfs("mount", "-o", "log=/nonexistent/log", secret_core, point), "/nonexistent/log", "log=FILE")
    assert not mount_lines(point)


def test_a_line_that_cannot_be_logged(point: Path, tmp_path: Path) -> None:
    """Without a descriptor to spare the first line of a daemon is lost: neither its cause nor the mount is."""
    path = tmp_path / "cut.core"
    path.write_bytes(core([Header(address=0x10000, data=b"x" * 100_000)]))
    with mounted(path, point):
        (daemon,) = daemons(point)
        (name,) = os.listdir(point / "segments")
        opened = os.open(point / "segments" / name, os.O_RDONLY)
        os.truncate(path, 5000)
        resource.prlimit(daemon, resource.RLIMIT_NOFILE, (3, 3))
        for _ in range(2):
            with pytest.raises(OSError) as caught:
                os.pread(opened, 100, 50_000)
            assert caught.value.errno == errno.EIO
        os.close(opened)
        assert daemons(point) == [daemon]


def test_syslog_once_daemonized(secret_core: Path, point: Path) -> None:
    """In a mount namespace whose /dev has a log socket of ours."""
    need(os.geteuid() == 0, "needs root for a /dev of its own")
    need_tools("unshare")
    code = """
        import os, signal, socket, subprocess, sys
        dev = sys.argv[2] + ".dev"
        os.mkdir(dev)
        subprocess.run(["sh", "-c", 'mount -t tmpfs none "$0" && cp -a /dev/fuse /dev/null /dev/urandom "$0"'
                        ' && mount --move "$0" /dev', dev], check=True)
        log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        log.bind("/dev/log")
        log.settimeout(20)
        memfs, point = sys.argv[4:], sys.argv[2]
        subprocess.run([*memfs, *sys.argv[3].split(), sys.argv[1], point], check=True)
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                words = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\\0")
            except OSError:  # it ended meanwhile
                continue
            if int(pid) != os.getpid() and b"mount" in words and point.encode() in words:
                os.kill(int(pid), signal.SIGUSR1)
        print(log.recv(4096).decode())
        subprocess.run([*memfs, "umount", point], check=True)
    """
    with nothing_left(point):
        mount = " ".join(map(str, through(("mount",))))
        words = [sys.executable, "-c", textwrap.dedent(code), secret_core, point, mount, *MEMFS]
        done = run("unshare", "-m", "--propagation", "private", *words, env=ENV)
        assert done.returncode == 0, done.stderr.decode()
        assert re.search(rb"memfs\[\d+\]: .*: \d+ requests \(", done.stdout), done.stdout
        eventually(lambda: not daemons(point), "the daemon ends")


# -- who holds a mount, what is left of one ------------------------------------------------------------------------


def test_a_busy_umount_says_who_is_there(secret_core: Path, point: Path) -> None:
    with mounted(secret_core, point):
        held = {
            "comm": subprocess.Popen(["sleep", "60"], stdin=(point / "comm").open("rb")),
            "its directory": subprocess.Popen(["sleep", "61"], cwd=point / "regions"),
        }
        try:
            line = one_line(memfs("umount", point), "in use by", f"memfs umount -l {point}")
            for what, process in held.items():
                assert f"sleep ({process.pid}, {what})" in line
        finally:
            for process in held.values():
                process.kill()
                process.wait()
        code = """if True:
            import mmap, os, sys, time
            with open(sys.argv[1], "rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
            os.closerange(3, 64)  # Python keeps a descriptor of what it has mapped
            print(flush=True)
            time.sleep(60)
        """
        with subprocess.Popen([sys.executable, "-c", code, point / "comm"], stdout=subprocess.PIPE) as mapping:
            assert mapping.stdout and mapping.stdout.readline()
            assert f"({mapping.pid}, comm mapped)" in one_line(memfs("umount", point), "in use by")
            mapping.kill()


def test_nested_mounts(secret_core: Path, point: Path) -> None:
    """A mount on a directory of a mount: the outer one says what is in the way, and -l takes both."""
    inner = point / "threads"
    with nothing_left(inner), nothing_left(point):
        assert memfs("mount", secret_core, point).returncode == 0
        assert memfs("mount", secret_core, inner).returncode == 0
        assert (inner / "comm").read_bytes() == (point / "comm").read_bytes() == b"secret\n"
        one_line(memfs("umount", point), f"the mount {inner}")
        assert memfs("umount", inner).returncode == 0
        assert "comm" not in os.listdir(inner)
        assert memfs("mount", secret_core, inner).returncode == 0
        assert memfs("umount", "-l", point).returncode == 0
        eventually(lambda: not mount_lines(inner) and not mount_lines(point), "both are gone")
        eventually(lambda: not daemons(inner) and not daemons(point), "both daemons end")


def test_a_core_in_a_mount_is_a_source(secret_core: Path, point: Path, tmp_path: Path) -> None:
    """A core whose memory holds a core: mounts of files of mounts."""
    outer = tmp_path / "outer.core"
    outer.write_bytes(core([Header(address=0x10000, data=secret_core.read_bytes())]))
    second = tmp_path / "second"
    with mounted(outer, point), mounted(point / "segments/000-0000000000010000-rw-", second):
        assert b"swordfish" in (second / "regions/heap").read_bytes()
        one_line(memfs("umount", point), "in use by", f"({daemons(second)[0]}, segments/000")


FIFTY = """
import os, shlex, subprocess, sys
mount, umount, point = shlex.split(sys.argv[1]), shlex.split(sys.argv[2]), sys.argv[3]

def ours(pid, what, own=os.readlink("/proc/self/ns/mnt")):
    # a process of this namespace: what it is, or what it has open
    try:
        if os.readlink(f"/proc/{pid}/ns/mnt") != own:
            return []
        return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")] if what else [pid]
    except OSError:
        return []

def look(what):
    return sorted(found for pid in os.listdir("/proc") if pid.isdigit() for found in ours(pid, what))

def now():
    mounts = open("/proc/self/mountinfo").read()
    return mounts, look(False), [link for link in look(True) if link == "/dev/fuse" or link.startswith("pipe:")]

before = now()
for _ in range(50):
    subprocess.run(mount, check=True)
    assert now() != before
    with open(f"{point}/regions/heap", "rb") as heap:
        assert b"swordfish" in heap.read()
    subprocess.run(umount, check=True)
for _ in range(200):  # the last server is on its way out
    if now() == before:
        sys.exit(0)
    subprocess.run(["sleep", "0.05"])
sys.exit(f"{before} became {now()}")
"""


def test_fifty_in_a_row_leave_nothing(secret_core: Path, point: Path) -> None:
    """In a mount namespace of its own, where nobody else mounts: the same mounts, processes, pipes and connections as
    before."""
    need(os.geteuid() == 0, "needs root for a mount namespace")
    need_tools("unshare")
    mount = shlex.join(mount_command(secret_core, point))
    umount = shlex.join(map(str, (*MEMFS, "umount", point)))
    fds = len(os.listdir("/proc/self/fd"))
    with nothing_left(point):
        words = (sys.executable, "-c", FIFTY, mount, umount, point)
        done = run("unshare", "-m", "--propagation", "private", *words, env=ENV, timeout=80)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), done
    assert len(os.listdir("/proc/self/fd")) == fds


def test_a_killed_server_is_named_with_the_command(secret_core: Path, point: Path) -> None:
    with nothing_left(point):
        assert memfs("mount", secret_core, point).returncode == 0
        (daemon,) = daemons(point)
        os.kill(daemon, signal.SIGKILL)
        eventually(lambda: not daemons(point), "it is dead")
        line = one_line(memfs("mount", secret_core, point), str(secret_core), "dead", "remove it: ")
        done = run("sh", "-c", line.rpartition("remove it: ")[2].replace("memfs", shlex.join(MEMFS), 1), env=ENV)
        assert done.returncode == 0, done.stderr
        assert not mount_lines(point)
        assert memfs("mount", secret_core, point).returncode == 0
        assert memfs("umount", point).returncode == 0
        eventually(lambda: not daemons(point), "the daemon ends")


# -- who may look --------------------------------------------------------------------------------------------------


def test_links_out_of_an_image_are_never_followed(point: Path, tmp_path: Path) -> None:
    """exe leads where the image says: a FIFO would hang whoever opened it."""
    fifo, path = tmp_path / "fifo", tmp_path / "evil.core"
    os.mkfifo(fifo)
    path.write_bytes(core([Header(address=0x10000, data=b"x" * 4096)], notes=evil_notes(fifo)))
    with mounted(path, point):
        assert os.readlink(point / "exe") == str(fifo)
        for command in ("ls -lR .", "find . -ls", "cat info info.json regions.json maps", "stat exe", "du -a ."):
            assert run("sh", "-c", command, cwd=point, timeout=20).returncode == 0
        (daemon,) = daemons(point)
        assert not any(str(fifo) in os.readlink(fd) for fd in Path(f"/proc/{daemon}/fd").iterdir())
    assert memfs("cat", path, "exe", timeout=20).returncode == 1
    assert memfs("ls", "-lR", path, timeout=20).returncode == 0


def evil_notes(target: Path) -> bytes:
    files = note(b"CORE", 0x46494C45, file_note_64((0x10000, 0x11000, 0, os.fsencode(target))))
    return note(b"CORE", 6, auxv_64(AT_ENTRY=0x10000)) + files


@pytest.mark.parametrize("how", ["-Ur", "-Urm"])
def test_in_a_user_namespace(secret_core: Path, point: Path, how: str) -> None:
    """Root of a user namespace may mount in a mount namespace of its own, if /dev/fuse lets it; else one line."""
    need_tools("unshare")
    need(run("unshare", "-Ur", "true").returncode == 0, "no user namespaces")
    mount = shlex.join(mount_command(secret_core, point))
    script = f"{mount} && cat {point}/comm && {shlex.join(MEMFS)} umount {point}"
    with nothing_left(point):
        done = run("unshare", how, "sh", "-c", script, env={**ENV, "PATH": "/usr/bin:/bin"})
        if done.returncode:
            one_line(done, "memfs ls, cat and cp need no mount")
        else:
            assert done.stdout == b"secret\n"
        eventually(lambda: not daemons(point), "the daemon ends")
    cat = run("unshare", how, *MEMFS, "cat", secret_core, "comm", env=ENV)
    assert (cat.returncode, cat.stdout) == (0, b"secret\n")
