"""A good citizen among mounts: mount(8), fstab, systemd, service managers, logs, who may look and who holds a mount."""

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Crash
from makecore import Header, auxv_64, core, file_note_64, note
from mounting import ENV, MEMFS, Done, daemons, eventually, memfs, mount_lines, mounted, nothing_left, one_line, through
from needs import REPO, need, need_tools, run

from memfs.fuse.transport import LACKS, TRANSPORTS, Transport
from memfs.tree import options

USER = 65534


@pytest.fixture(scope="session")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter in a venv where memfs is installed, and nothing else is: every user can run it."""
    base = next((p for p in ("/usr/bin/python3", sys.executable) if Path(p).exists() and usable(p)), None)
    need(base, "no Python 3.11 that an ordinary user can run")
    home = Path("/tmp") / f"memfs-venv-{os.getpid()}"
    done = run(base, "-m", "venv", "--without-pip", home, timeout=120)
    if done.returncode:  # the system's Python without its venv: a venv is a link and a line
        (home / "bin").mkdir(parents=True, exist_ok=True)
        (home / "bin" / "python").symlink_to(os.path.realpath(str(base)))
        (home / "pyvenv.cfg").write_text(f"home = {Path(os.path.realpath(str(base))).parent}\n")
    python = home / "bin" / "python"
    places = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.decode().strip()
    Path(places).mkdir(parents=True, exist_ok=True)
    run("cp", "-r", REPO / "memfs", places)
    run("cp", REPO / "mount-helpers" / "mount.memfs", Path(places) / "memfs" / "cli")
    assert run(python, "-I", "-m", "memfs", "--version", cwd="/").returncode == 0
    yield python
    run("rm", "-rf", home)


def usable(python: str) -> bool:
    who = {"user": USER} if os.geteuid() == 0 else {}
    with contextlib.suppress(PermissionError):
        return run(python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))", **who).returncode == 0
    return False


# -- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word", [*options.IN_FORCE, *options.DROPPED, "x-systemd.automount", "X-mount.mkdir=0755", "comment=a b"]
)
def test_words_of_mount_and_fstab(word: str) -> None:
    assert options.parse(word) == options.Settings()
    assert options.parse(f"{word},uid=5,{word}").uid == 5


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


# -- transports ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", TRANSPORTS, ids=lambda row: row.name)
def test_what_a_transport_lacks_it_lacks(row: Transport, crash_core: Crash, point: Path) -> None:
    """The table tells the truth, in both directions."""
    lacks = row.lacks
    log = point.with_suffix(".log")
    with mounted(crash_core.core, point, "-o", f"fuse={row.name},log={log}"):
        absent = next(p for p in (point / "segments").iterdir() if p.stat().st_blocks * 512 < p.stat().st_size)
        with absent.open("rb") as file:
            hole = os.lseek(file.fileno(), 0, os.SEEK_HOLE)
        assert (hole == absent.stat().st_size) == ("seek" in lacks)
        first = counted(point, log)
        os.listdir(point / "segments")
        second = counted(point, log)
        os.listdir(point / "segments")
        third = counted(point, log)
        assert (listed(third) > listed(second)) == ("cached_names" in lacks)
        for path in (point / "threads").iterdir():
            path.stat()
        assert sum(second.values()) > sum(first.values())
    assert lacks == tuple(word for word in LACKS if word in lacks)


def listed(counts: dict[str, int]) -> int:
    """How many requests asked for names."""
    return sum(count for name, count in counts.items() if name.lower().startswith("readdir"))


def counted(point: Path, log: Path) -> dict[str, int]:
    """The requests so far, by SIGUSR1."""
    before = log.read_text().count("\n") if log.exists() else 0
    (daemon,) = daemons(point)
    os.kill(daemon, signal.SIGUSR1)
    eventually(lambda: log.read_text().count("\n") > before, "a line of statistics")
    line = log.read_text().splitlines()[-1]
    found = re.search(rf" memfs\[{daemon}\]: {re.escape(str(point))}: (\d+) requests \((.*)\), .*files open", line)
    assert found, line
    return {name: int(count) for name, count in re.findall(r"(\w+) (\d+)", found[2])}


@pytest.mark.parametrize("name", ["mfusepy", "fusepy", "libfuse"])
def test_a_transport_that_is_not_installed(secret_core: Path, point: Path, venv: Path, name: str) -> None:
    done = run(venv, "-I", "-m", "memfs", "mount", "-o", f"fuse={name}", secret_core, point)
    one_line(done, "is not installed", "pip install 'memfs-fuse[")
    assert not mount_lines(point)


def test_a_library_that_is_not_there(secret_core: Path, point: Path) -> None:
    env = {**ENV, "FUSE_LIBRARY_PATH": "/nonexistent/libfuse.so"}
    line = one_line(memfs("mount", "-o", "fuse=mfusepy", secret_core, point, env=env), "/nonexistent/libfuse.so")
    assert "fuse=" in line


def test_mfusepy_over_libfuse_2(secret_core: Path, point: Path) -> None:
    env = {**ENV, "FUSE_LIBRARY_PATH": "libfuse.so.2"}
    need(b"libfuse.so.2" in run("ldconfig", "-p").stdout, "no libfuse 2")
    with nothing_left(point):
        assert memfs("mount", "-o", "fuse=mfusepy", secret_core, point, env=env).returncode == 0
        assert b"libfuse.so.2" in Path(f"/proc/{daemons(point)[0]}/maps").read_bytes()
        assert b"swordfish" in (point / "regions/heap").read_bytes()
        assert memfs("umount", point).returncode == 0
        eventually(lambda: not daemons(point), "the daemon ends")


def test_libfuse_says_why_it_could_not_mount(secret_core: Path, point: Path) -> None:
    """What libfuse prints becomes the one line."""
    need(os.geteuid() == 0, "needs root to hide a device")
    need_tools("unshare")
    for name in ("mfusepy", "fusepy"):
        command = shlex.join([*MEMFS, "mount", "-o", f"fuse={name}", str(secret_core), str(point)])
        done = run("unshare", "-m", "sh", "-c", f"mount -t tmpfs none /dev && {command}", env=ENV)
        one_line(done, "could not mount", "device not found")
        assert not mount_lines(point)


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
        words = ["mount", *(["-f"] if foreground else []), str(secret_core), str(point)]
        server = subprocess.Popen([*MEMFS, *map(str, through(tuple(words)))], env=env)
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


def test_syslog_once_daemonized(secret_core: Path, point: Path) -> None:
    """In a mount namespace whose /dev has a log socket of ours."""
    need(os.geteuid() == 0, "needs root for a /dev of its own")
    need_tools("unshare")
    code = """
        import os, signal, socket, subprocess, sys
        os.mkdir("/tmp/memfs-dev") if not os.path.isdir("/tmp/memfs-dev") else None
        subprocess.run("mount -t tmpfs none /tmp/memfs-dev && cp -a /dev/fuse /dev/null /dev/urandom /tmp/memfs-dev"
                       " && mount --move /tmp/memfs-dev /dev", shell=True, check=True)
        log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        log.bind("/dev/log")
        log.settimeout(20)
        memfs, point = sys.argv[3:], sys.argv[2]
        subprocess.run([*memfs, "mount", sys.argv[1], point], check=True)
        for pid in filter(str.isdigit, os.listdir("/proc")):
            words = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\\0")
            if b"mount" in words and point.encode() in words:
                os.kill(int(pid), signal.SIGUSR1)
        print(log.recv(4096).decode())
        subprocess.run([*memfs, "umount", point], check=True)
    """
    with nothing_left(point):
        words = [sys.executable, "-c", textwrap.dedent(code), secret_core, point, *MEMFS]
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


def test_fifty_in_a_row(secret_core: Path, point: Path) -> None:
    def connections() -> int:
        with contextlib.suppress(OSError):
            return len(os.listdir("/sys/fs/fuse/connections"))
        return 0

    mounts, connected = Path("/proc/self/mountinfo").read_text().count("\n"), connections()
    fds = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        assert memfs("mount", secret_core, point).returncode == 0
        assert b"swordfish" in (point / "regions/heap").read_bytes()
        assert memfs("umount", point).returncode == 0
    eventually(lambda: not daemons(point), "the daemons end")
    assert not mount_lines(point)
    assert len(os.listdir("/proc/self/fd")) == fds
    # Other tests mount, too, at the same time; fifty would show.
    assert Path("/proc/self/mountinfo").read_text().count("\n") < mounts + 20
    assert connections() < connected + 20


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
    core_path = shlex.quote(str(secret_core))
    script = f"{shlex.join(MEMFS)} mount {core_path} {point} && cat {point}/comm && {shlex.join(MEMFS)} umount {point}"
    with nothing_left(point):
        done = run("unshare", how, "sh", "-c", script, env={**ENV, "PATH": "/usr/bin:/bin"})
        if done.returncode:
            one_line(done, "memfs ls, cat and cp need no mount")
        else:
            assert done.stdout == b"secret\n"
        eventually(lambda: not daemons(point), "the daemon ends")
    cat = run("unshare", how, *MEMFS, "cat", secret_core, "comm", env=ENV)
    assert (cat.returncode, cat.stdout) == (0, b"secret\n")


# -- mount(8), fstab, systemd --------------------------------------------------------------------------------------


class Machine:
    """A mount namespace with a helper in /sbin and a line in /etc/fstab, for one script at a time."""

    def __init__(self, home: Path, venv: Path) -> None:
        self.home, self.fstab, self.sbin = home, home / "fstab", home / "sbin"
        need(os.geteuid() == 0, "needs root for a mount namespace")
        need_tools("unshare", "mount", "umount", "findmnt", "setpriv")
        real = os.path.realpath("/sbin")
        assert run("cp", "-a", real, self.sbin).returncode == 0
        done = run(venv, "-I", "-m", "memfs", "install-helper", "--prefix", home)
        assert (done.returncode, done.stderr) == (0, b""), done
        assert done.stdout.decode() == "".join(
            f"installed {home}/sbin/{n}\n" for n in ("mount.memfs", "mount.fuse.memfs")
        )
        self._prelude = f"mount --bind {self.sbin} {real} && mount --bind {self.fstab} /etc/fstab || exit 99\n"

    def run(self, script: str, line: str = "") -> Done:
        self.fstab.write_text(line + "\n")
        if not Path("/etc/fstab").exists():
            Path("/etc/fstab").touch()
        return run("unshare", "-m", "--propagation", "private", "sh", "-c", self._prelude + script, timeout=120)


@pytest.fixture
def machine(venv: Path) -> Iterator[Machine]:
    home = Path("/tmp") / f"memfs-machine-{os.getpid()}"
    run("rm", "-rf", home)
    home.mkdir()
    home.chmod(0o755)
    yield Machine(home, venv)
    run("rm", "-rf", home)


SHOW = "findmnt -rno SOURCE,FSTYPE,OPTIONS {m}; grep -c ' {m} fuse.memfs ro,' /proc/mounts"


@pytest.mark.parametrize("kind", ["memfs", "fuse.memfs"])
def test_mount_8(machine: Machine, secret_core: Path, point: Path, kind: str) -> None:
    with nothing_left(point):
        script = f"""
            mount -t {kind} {secret_core} {point} -o ro,umask=0022,noatime,fsname=named || exit 1
            {SHOW.format(m=point)}
            cat {point}/comm; stat -c %a {point}/comm
            umount {point} || exit 2
            mount -v -n -s -t {kind} {secret_core} {point} || exit 3
            umount {point}
            findmnt {point} && exit 4
            mount -f -t {kind} {secret_core} {point} || exit 5
            findmnt {point} && exit 6
            exit 0
        """
        done = machine.run(script)
        assert (done.returncode, done.stderr) == (0, b""), done
        shown, count, comm, mode, *verbose = done.stdout.decode().splitlines()
        source, fstype, words = shown.split()
        assert (source, fstype, count, comm, mode) == ("named", "fuse.memfs", "1", "secret", "444")
        assert {"ro", "nosuid", "nodev", "noexec"} <= set(words.split(","))
        assert any(line.startswith(f"memfs: {secret_core}: ELF64 core, x86_64, on {point}") for line in verbose)
        eventually(lambda: not daemons(point), "the daemon ends")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("/nonexistent", "No such file"),
        ("/bin/true", "not a core"),
        ("-o uid=x {core}", "uid=x"),
        ("-o nosuch {core}", "unknown"),
    ],
)
def test_mount_8_fails_with_32(machine: Machine, secret_core: Path, point: Path, what: str, said: str) -> None:
    done = machine.run(f"mount -t memfs {what.format(core=secret_core)} {point}")
    one_line(done, said, status=32)
    assert not mount_lines(point)


def test_fstab(machine: Machine, secret_core: Path, point: Path) -> None:
    line = f"{secret_core} {point} memfs ro,noauto,nofail,_netdev,x-systemd.automount,x-foo=bar 0 0"
    with nothing_left(point):
        done = machine.run(
            f"mount -a; findmnt {point} && exit 9; mount {point} && {SHOW.format(m=point)}; umount {point}", line
        )
        assert (done.returncode, done.stderr) == (0, b""), done
        assert done.stdout.decode().splitlines()[0].startswith(f"{secret_core} fuse.memfs ro,")
        eventually(lambda: not daemons(point), "the daemon ends")


@pytest.mark.xdist_group("user")
def test_fstab_for_an_ordinary_user(machine: Machine, secret_core: Path, venv: Path) -> None:
    """The word `user`: mount(8) becomes the user, fusermount3 mounts, and umount(8) by that user ends it."""
    need_tools("fusermount3")
    point, copy = machine.home / "m", machine.home / "own.core"
    point.mkdir()
    copy.write_bytes(secret_core.read_bytes())
    copy.chmod(0o600)
    for path in (point, copy):
        os.chown(path, USER, USER)
    mode = os.stat("/dev/fuse").st_mode & 0o777
    os.chmod("/dev/fuse", 0o666)  # as udev makes it
    as_user = f"setpriv --reuid={USER} --regid={USER} --clear-groups"
    script = f"""
        {as_user} mount {point} || exit 1
        {SHOW.format(m=point)}
        {as_user} cat {point}/comm
        cat {point}/comm && exit 2
        {as_user} umount {point} || exit 3
        findmnt {point} && exit 4
        exit 0
    """
    try:
        with nothing_left(point):
            done = machine.run(script, f"{copy} {point} memfs ro,noauto,user 0 0")
            assert done.returncode == 0, done
            shown, count, comm = done.stdout.decode().splitlines()
            assert shown.split()[:2] == [str(copy), "fuse.memfs"]
            assert f"user_id={USER}" in shown
            assert (count, comm) == ("1", "secret")
            assert b"Permission denied" in done.stderr  # root, too, without allow_other
            eventually(lambda: not daemons(point), "the daemon ends")
    finally:
        os.chmod("/dev/fuse", mode)


def test_an_automount_unit(tmp_path: Path) -> None:
    """What systemd makes of the fstab line of the docs is accepted by systemd."""
    need_tools("systemd-analyze")
    generator = Path("/usr/lib/systemd/system-generators/systemd-fstab-generator")
    need(generator.exists(), "no systemd-fstab-generator")
    line = "/proc/kcore /mnt/k memfs ro,noauto,x-systemd.automount 0 0"
    assert line in (REPO / "docs" / "using.md").read_text()
    (tmp_path / "fstab").write_text(line + "\n")
    units = tmp_path / "units"
    units.mkdir()
    env = {**os.environ, "SYSTEMD_FSTAB": str(tmp_path / "fstab")}
    assert run(generator, units, units, units, env=env).returncode == 0
    mount = (units / "mnt-k.mount").read_text()
    assert "What=/proc/kcore" in mount
    assert "Type=memfs" in mount
    (words,) = re.findall(r"^Options=(.*)$", mount, re.M)
    assert options.parse(words) == options.Settings()
    done = run("systemd-analyze", "verify", units / "mnt-k.automount", units / "mnt-k.mount")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_service_unit(tmp_path: Path) -> None:
    """The unit that the docs show is accepted by systemd."""
    need_tools("systemd-analyze")
    text = (REPO / "docs" / "using.md").read_text()
    unit = re.search(r"^```ini\n(\[Unit\].*?)^```$", text, re.M | re.S)
    assert unit
    assert "Type=notify" in unit[1]
    (tmp_path / "memfs-core.service").write_text(unit[1].replace("/usr/local/bin/memfs", "/bin/true"))
    done = run("systemd-analyze", "verify", tmp_path / "memfs-core.service")
    assert (done.returncode, done.stderr) == (0, b""), done


def test_install_helper(tmp_path: Path, venv: Path) -> None:
    """From a venv, wherever it is; twice; another program's file is left alone; --remove."""
    command = (venv, "-I", "-m", "memfs", "install-helper", "--prefix", tmp_path)
    for _ in range(2):
        assert run(*command).returncode == 0
    helper = tmp_path / "sbin" / "mount.memfs"
    assert helper.read_text() == (tmp_path / "sbin" / "mount.fuse.memfs").read_text()
    assert f"{venv} -I -m memfs" in helper.read_text()
    assert helper.stat().st_mode & 0o777 == 0o755
    assert sorted(os.listdir(tmp_path / "sbin")) == ["mount.fuse.memfs", "mount.memfs"]
    assert run("sh", "-n", helper).returncode == 0
    done = run(helper, "/nonexistent", tmp_path, cwd=tmp_path, env={})
    one_line(done, "No such file", status=32)
    assert run(*command, "--remove").returncode == 0
    assert os.listdir(tmp_path / "sbin") == []
    helper.write_text("#!/bin/sh\n# somebody else's\n")
    one_line(run(*command), "another program's", str(helper))
    assert helper.read_text().endswith("else's\n")
    assert os.listdir(tmp_path / "sbin") == ["mount.memfs"]


def test_install_helper_without_the_right(tmp_path: Path, venv: Path) -> None:
    who = {"user": USER} if os.geteuid() == 0 else {}
    done = run(venv, "-I", "-m", "memfs", "install-helper", "--prefix", "/", **who)
    if os.path.exists("/sbin/mount.memfs"):
        need(done.returncode, "the helper is installed here, for everybody to write")
    one_line(done, "Permission denied", "as root: ")


def test_wrong_calls_of_the_helper(tmp_path: Path) -> None:
    helper = REPO / "mount-helpers" / "mount.memfs"
    for words in ([], ["source"], ["source", str(tmp_path), "-Q"]):
        assert run(helper, *words).returncode == 1
