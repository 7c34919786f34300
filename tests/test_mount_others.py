"""What is alive, looked at by other users and out of other namespaces, over every transport."""

import contextlib
import errno
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from living import SECRET, own_part, pids, running
from mounting import LET_GO, eventually, mounted, seeks
from needs import need, need_tools, run
from treecheck import read_path, whole

# -- other users ---------------------------------------------------------------------------------------------------

USER, OTHER = 65533, 65532

LOOK = """
import errno, json, os, sys
base, said = sys.argv[1], {}
def attempt(name, look):
    try:
        look()
        said[name] = "ok"
    except OSError as error:
        said[name] = errno.errorcode[error.errno]
attempt("list", lambda: os.listdir(base))
attempt("stat", lambda: os.stat(base + "/regions/heap"))
attempt("xattr", lambda: os.getxattr(base + "/regions/heap", "user.memfs.address"))
attempt("exe", lambda: os.readlink(base + "/exe"))
attempt("at", lambda: os.stat(base + "/at/0x1000"))
for name in ("maps", "environ", "cmdline", "regions/heap", "mem", "info", "threads.json"):
    attempt(name, lambda: open(base + "/" + name, "rb").read(16))
print(json.dumps(said))
"""


def look_as(uid: int, base: Path) -> dict[str, str]:
    """What a user may do with a process of a mount."""
    python = shutil.which("python3", path="/usr/bin:/bin")
    need(python, "no /usr/bin/python3, which every user may run")
    done = run(python, "-c", LOOK, base, user=uid, group=uid, extra_groups=[], cwd="/")
    assert done.returncode == 0, done.stderr
    said: dict[str, str] = json.loads(done.stdout)
    return said


@pytest.fixture
def open_to_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A mount of /proc that root made for everybody."""
    need(os.geteuid() == 0, "only root can be other users")
    with tempfile.TemporaryDirectory(prefix="live-") as name:
        os.chmod(name, 0o755)
        point = Path(name) / "m"
        with mounted("/proc", point, "-o", "allow_other,umask=022"):
            yield point


def test_other_users_see_what_the_kernel_lets_them(program: Path, open_to_all: Path) -> None:
    """Their own processes, and nothing of root's or of each other's, whatever the modes say."""
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    need(not scope.exists() or scope.read_text().strip() == "0", "yama lets nobody look")
    public = open_to_all.parent / "live"
    shutil.copyfile(program, public)
    public.chmod(0o755)
    with (
        running(public, user=USER, group=USER, extra_groups=[]) as theirs,
        running(program) as roots,
    ):
        theirs.settle()
        mine = look_as(USER, open_to_all / str(theirs.pid))
        assert mine.pop("mem") == "ENODATA"  # nothing is mapped at 0
        assert mine.pop("at") == "ENOENT"
        assert set(mine.values()) == {"ok"}, mine
        for uid, live in ((USER, roots), (OTHER, theirs), (OTHER, roots)):
            said = look_as(uid, open_to_all / str(live.pid))
            assert set(said.values()) == {"EACCES"}, (uid, said)
        theirs.tell("undumpable")
        assert set(look_as(USER, open_to_all / str(theirs.pid)).values()) == {"EACCES"}
        assert SECRET in whole(open_to_all / str(theirs.pid) / "regions" / "heap")


AGAIN = """
import errno, os, sys
base, offset = sys.argv[1], int(sys.argv[2], 16)
files = {name: os.open(base + "/" + name, os.O_RDONLY) for name in ("mem", "regions/heap", f"at/{offset:#x}:16")}
below = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
def attempt(name, look):
    try:
        look()
        print(name, "ok", flush=True)
    except OSError as error:
        print(name, errno.errorcode[error.errno], flush=True)
def all():
    for name, fd in files.items():
        attempt(name, lambda: os.pread(fd, 4, offset if name == "mem" else 0))
    attempt("seek", lambda: os.lseek(files["mem"], offset, os.SEEK_DATA))
    attempt("openat", lambda: os.close(os.open("mem", os.O_RDONLY, dir_fd=below)))
    attempt("stat", lambda: os.stat("regions/heap", dir_fd=below))
    print("end", flush=True)
all()
sys.stdin.readline()
all()
"""


def test_what_is_open_when_a_setuid_program_is_executed(program: Path, open_to_all: Path) -> None:
    """A user has files of an own process open, which then becomes root's: nothing of that may be seen through them."""
    python = shutil.which("python3", path="/usr/bin:/bin")
    need(python, "no /usr/bin/python3, which every user may run")
    public, setuid = open_to_all.parent / "live", open_to_all.parent / "setuid"
    for path, mode in ((public, 0o755), (setuid, 0o4755)):
        shutil.copyfile(program, path)
        path.chmod(mode)
    need(not os.statvfs(setuid).f_flag & os.ST_NOSUID, "the temporary directory is mounted nosuid")
    with running(public, user=USER, group=USER, extra_groups=[]) as live:
        live.settle()
        command = [str(python), "-c", AGAIN, str(open_to_all / str(live.pid)), live.words["secret"]]
        user = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, user=USER, group=USER, extra_groups=[]
        )
        try:
            assert user.stdout
            assert user.stdin
            before = dict(line.split() for line in iter(user.stdout.readline, "end\n"))
            assert before.pop("seek") == "ok" or not seeks()
            assert set(before.values()) == {"ok"}, before
            live.tell(f"exec {setuid}", answered=False)
            live.answer()
            live.answer(b"ready")
            assert os.stat(f"/proc/{live.pid}/mem").st_uid == 0
            user.stdin.write("again\n")
            user.stdin.flush()
            after = dict(line.split() for line in iter(user.stdout.readline, "end\n"))
        finally:
            user.kill()
            user.communicate(timeout=20)
    assert after.pop("seek") == "EACCES" or not seeks()
    assert set(after.values()) == {"EACCES"}, after


def test_hidden_processes_stay_hidden(tmp_path: Path) -> None:
    """The /proc of hidepid=2 shows root everything: through root's mount others do not see it either."""
    need(os.geteuid() == 0, "only root can be other users")
    with tempfile.TemporaryDirectory(prefix="live-") as name:
        os.chmod(name, 0o755)
        proc, point = Path(name) / "proc", Path(name) / "m"
        proc.mkdir()
        made = run("mount", "-t", "proc", "-o", "hidepid=2", "proc", proc)
        need(made.returncode == 0, "no proc can be mounted here")
        try:
            with mounted(proc, point, "-o", "allow_other,umask=022"):
                assert os.getpid() in pids(point)
                for look in (("ls", point), ("stat", point / str(os.getpid())), ("cat", point / "uptime")):
                    done = run(*look, user=USER, group=USER, extra_groups=[], cwd="/")
                    assert b"Permission denied" in done.stderr, look
                    assert not done.stdout, look
        finally:
            # whoever looks for what uses a mount opens this one, too, for a moment
            eventually(lambda: run("umount", proc).returncode == 0, "the unmount")


def test_without_allow_other_nobody_else_looks(program: Path, everything: Path) -> None:
    need(os.geteuid() == 0, "only root can be other users")
    done = run("ls", everything, user=USER, group=USER, extra_groups=[], cwd="/")
    assert b"Permission denied" in done.stderr


# -- namespaces ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def elsewhere(script: str, *words: object) -> Iterator["subprocess.Popen[bytes]"]:
    """A shell in pid and mount namespaces of its own, with its own /proc; it has said "ready"."""
    need(os.geteuid() == 0, "only root makes namespaces here")
    need_tools("unshare")
    command = [
        "unshare",
        "-m",
        "-p",
        "-f",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        LET_GO + script,
        "sh",
        *map(str, words),
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout
        assert process.stderr
        line = process.stdout.readline()
        need(line == b"ready\n", f"no namespaces can be made here: {line!r}")
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


def test_in_other_namespaces(program: Path, everything: Path, tmp_path: Path) -> None:
    """A process whose ids and files are other ones: its program is on a filesystem that it alone sees."""
    script = """
        set -e
        mount -t tmpfs none /mnt
        cp "$1" /mnt/hidden
        cd /mnt
        sleep 600 | /mnt/hidden > /mnt/said &
        while ! grep -q ready /mnt/said; do sleep 0.05; done
        echo ready
        wait
    """
    with elsewhere(script, program) as outer:
        found = [pid for pid in pids(Path("/proc")) if read_path(Path(f"/proc/{pid}/comm"))[0] == b"hidden\n"]
        assert len(found) == 1, outer
        here = everything / str(found[0])
        assert not Path("/mnt/hidden").exists()
        assert os.readlink(here / "exe") == "/mnt/hidden"
        heap = whole(here / "regions" / "heap")
        assert SECRET in heap
        text = whole(here / "regions" / "hidden.text")
        regions = {region["name"]: region for region in json.loads(whole(here / "regions.json"))}
        offset = int(regions["hidden.text"]["offset"], 16)
        assert text == program.read_bytes()[offset:][: len(text)].ljust(len(text), b"\0")
        assert own_part(whole(here / "status")) == own_part(Path(f"/proc/{found[0]}/status").read_bytes()) != b""
        assert json.loads(whole(here / "info.json"))["pid"] == found[0]


def test_the_proc_of_another_namespace(program: Path, point: Path, tmp_path: Path) -> None:
    """A /proc that shows the processes of a container alone, mounted from outside."""
    script = """
        sleep 600 | "$1" > "$2" &
        while ! grep -q ready "$2"; do sleep 0.05; done
        echo ready
        wait
    """
    with elsewhere(script, program, tmp_path / "said") as outer:
        shell_pid = int(run("pgrep", "-P", outer.pid).stdout.split()[0])
        proc = Path(f"/proc/{shell_pid}/root/proc")
        with mounted(proc, point):
            listed = pids(point)
            assert listed == pids(proc)
            assert 1 in listed
            assert whole(point / "1" / "comm") == b"sh\n"
            inside = next(pid for pid in listed if read_path(proc / str(pid) / "comm")[0] == b"live64\n")
            assert SECRET in whole(point / str(inside) / "regions" / "heap")
            assert json.loads(whole(point / str(inside) / "info.json"))["pid"] == inside
            with pytest.raises(OSError) as caught:
                os.readlink(point / "self")
            assert caught.value.errno == errno.ENOENT  # who reads is not in that namespace
