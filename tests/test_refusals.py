"""Why a process may not be looked into: the table, and real processes, users and namespaces."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from living import compiled, own_part, running
from mounting import LET_GO, MEMFS, one_line
from needs import REPO, need, need_tools, run

from memfs.backends.refusal import Situation, explain

USER, OTHER = 65533, 65532

# -- the table -----------------------------------------------------------------------------------------------------

ORDINARY = Situation(959, errno.EACCES, caller=1000, traces=False, owner=1000, files=1000, yama=None)
THEIRS = ORDINARY._replace(owner=1001, files=1001)
UNDUMPABLE = ORDINARY._replace(files=0)
ROOT = Situation(959, errno.EACCES, caller=0, traces=True, owner=1000, files=1000, yama=None)
UNCAPABLE = ROOT._replace(traces=False)

TABLE = [
    # what is so, words of why, words of what to do
    (THEIRS, "it belongs to user 1001", "as that user, or as root"),
    (THEIRS._replace(yama=0), "it belongs to user 1001", "as that user, or as root"),
    (THEIRS._replace(yama=1), "it belongs to user 1001", "as root"),
    (THEIRS._replace(owner=0, files=0), "it belongs to user 0", "as root"),
    (UNDUMPABLE, "it is not dumpable", "as root"),
    (UNDUMPABLE._replace(yama=1), "it is not dumpable", "as root"),
    (ORDINARY._replace(yama=1), "kernel.yama.ptrace_scope is 1: only its ancestors", "kernel.yama.ptrace_scope=0"),
    (ORDINARY._replace(yama=2), "kernel.yama.ptrace_scope is 2: only who has CAP_SYS_PTRACE", "as root"),
    (ORDINARY._replace(yama=3), "kernel.yama.ptrace_scope is 3: nobody", "cannot be undone"),
    (THEIRS._replace(yama=3), "kernel.yama.ptrace_scope is 3: nobody", "cannot be undone"),
    (ROOT._replace(yama=3), "kernel.yama.ptrace_scope is 3: nobody", "cannot be undone"),
    (ROOT, "in spite of CAP_SYS_PTRACE", "user namespace"),
    (UNCAPABLE, "root has no CAP_SYS_PTRACE", "--cap-add SYS_PTRACE"),
    (UNCAPABLE._replace(yama=1), "root has no CAP_SYS_PTRACE", "--cap-add SYS_PTRACE"),
    (ORDINARY, "the kernel refuses it", "user namespace"),
    (ORDINARY._replace(owner=None, files=None), "the kernel refuses it", "as root"),
]


@pytest.mark.parametrize(("about", "why", "hint"), TABLE, ids=[f"{i}" for i in range(len(TABLE))])
def test_reasons(about: Situation, why: str, hint: str) -> None:
    error = explain(about)
    assert error.what == "not allowed to look into process 959"
    assert why in error.why
    assert hint in error.hint
    assert error.errno == errno.EACCES


def test_every_situation_is_explained() -> None:
    """None is without a reason, and one line."""
    for caller in (0, 1000):
        for traces in (False, True):
            for owner in (None, 0, 1000, 1001):
                for files in (None, 0, 1000):
                    for yama in (None, 0, 1, 2, 3, 9):
                        error = explain(Situation(1, errno.EPERM, caller, traces, owner, files, yama))
                        assert error.why
                        assert error.hint
                        assert "\n" not in str(error)


# -- real ones -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A directory that every user may enter, with memfs and the program."""
    need(os.geteuid() == 0, "only root can be other users")
    with tempfile.TemporaryDirectory(prefix="refusals-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        shutil.copytree(REPO / "memfs", directory / "lib" / "memfs", ignore=shutil.ignore_patterns("__pycache__"))
        run("chmod", "-R", "a+rX", directory)
        yield directory


@pytest.fixture(scope="module")
def program(home: Path) -> Path:
    found = compiled(home)
    found.chmod(0o755)
    return found


def python_of_users() -> str:
    """An interpreter that ordinary users may run."""
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            code = "import sys; sys.exit(sys.version_info < (3, 11))"
            if subprocess.run([python, "-c", code], user=USER, group=USER, extra_groups=[], timeout=30).returncode == 0:
                return python
        except OSError:
            continue
    need(False, "no interpreter that an ordinary user can run")
    raise AssertionError


def as_user(home: Path, *words: object, uid: int = USER) -> "subprocess.CompletedProcess[bytes]":
    """memfs, run by an ordinary user."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(home / "lib"), "PYTHONDONTWRITEBYTECODE": "1"}
    who = {"user": uid, "group": uid, "extra_groups": []}
    return run(python_of_users(), "-m", "memfs", *words, env=env, cwd="/", **who)


@pytest.mark.parametrize("what", ["mount", "info", "cp"])
def test_of_another_user(program: Path, home: Path, what: str, tmp_path: Path) -> None:
    with running(program, user=OTHER, group=OTHER, extra_groups=[]) as live:
        words = {"mount": (live.pid, tmp_path), "info": (live.pid,), "cp": (live.pid, "regions/heap", tmp_path / "x")}
        done = as_user(home, what, *words[what])
        one_line(done, f"not allowed to look into process {live.pid}", f"it belongs to user {OTHER}", "as root")


def test_of_root(program: Path, home: Path) -> None:
    with running(program) as live:
        one_line(as_user(home, "info", live.pid), f"not allowed to look into process {live.pid}", "user 0")


def test_own(program: Path, home: Path) -> None:
    with running(program, user=USER, group=USER, extra_groups=[]) as live:
        live.settle()
        done = as_user(home, "info", "--json", live.pid)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["pid"] == live.pid


def test_not_dumpable(program: Path, home: Path) -> None:
    """By prctl, as ssh-agent does it: for root there is no difference."""
    with running(program, user=USER, group=USER, extra_groups=[]) as live:
        live.tell("undumpable")
        one_line(as_user(home, "info", live.pid), "not dumpable", "prctl(PR_SET_DUMPABLE)", "look as root")
        done = run(*MEMFS, "info", "--json", live.pid, env={**os.environ, "PYTHONPATH": str(REPO)})
        assert json.loads(done.stdout)["pid"] == live.pid


def test_root_without_the_capability(program: Path, home: Path) -> None:
    """As in a container: the process of another user is not for this root."""
    need_tools("setpriv")
    with running(program, user=USER, group=USER, extra_groups=[]) as live:
        env = {**os.environ, "PYTHONPATH": str(REPO)}
        drop = ("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")
        done = run(*drop, *MEMFS, "info", live.pid, env=env)
        one_line(done, f"process {live.pid}", "root has no CAP_SYS_PTRACE here", "--cap-add SYS_PTRACE")


def test_hidden(program: Path, home: Path) -> None:
    """hidepid=2, in a mount namespace of its own: the process cannot be told from one that never was."""
    need_tools("unshare", "mount", "setpriv")
    with running(program) as live:
        script = f"""
            set -e
            mount -t proc -o hidepid=2 proc /proc
            export PYTHONPATH={home}/lib PYTHONDONTWRITEBYTECODE=1
            cd /
            exec setpriv --reuid {USER} --regid {USER} --clear-groups {python_of_users()} -m memfs info {live.pid}
        """
        done = run("unshare", "-m", "sh", "-c", LET_GO + textwrap.dedent(script))
        if b"permission denied" in done.stderr and b"mount:" in done.stderr:
            need(False, "no proc can be mounted here")
        one_line(done, f"no process {live.pid}", "hidepid", "look as root")


def test_gone(program: Path, home: Path) -> None:
    with running(program) as live:
        pid = live.pid
    one_line(as_user(home, "info", pid), f"no process {pid}", "it has ended, or never was")


def test_files_of_another_user_by_themselves(program: Path, home: Path) -> None:
    """In a whole /proc what the kernel lets everybody read stays readable, and the rest says why it is not."""
    with running(program) as live:
        for name in ("status", "stat", "cmdline", "comm", "limits", "statm"):
            done = as_user(home, "cat", "/proc", f"{live.pid}/{name}")
            assert (done.returncode, done.stderr) == (0, b""), name
            there = live.proc(name)
            if name == "stat":  # addresses in it are for those who may trace
                assert done.stdout.split()[:20] == there.split()[:20]
            else:
                assert own_part(done.stdout) == own_part(there), name
        for name in ("maps", "environ", "auxv", "smaps", "regions.json"):
            done = as_user(home, "cat", "/proc", f"{live.pid}/{name}")
            one_line(done, f"not allowed to look into process {live.pid}", "it belongs to user 0")
        for name in ("mem", "info"):
            one_line(as_user(home, "cat", "/proc", f"{live.pid}/{name}"), "not allowed", "root")
        done = as_user(home, "ls", "/proc", str(live.pid))
        assert done.returncode == 0, done.stderr
        assert {"status", "maps", "mem", "regions", "threads"} <= set(done.stdout.decode().split())
        done = as_user(home, "cat", "/proc", f"{live.pid}/threads.json")
        assert done.returncode == 0, done.stderr
        listed = json.loads(done.stdout)
        assert sorted(thread["tid"] for thread in listed) == sorted(map(int, os.listdir(f"/proc/{live.pid}/task")))
        assert {(thread["pc"], thread["sp"]) for thread in listed} == {(None, None)}


def test_what_may_be_seen_is_listed_and_copied(program: Path, home: Path) -> None:
    """What may not be looked into is said, and the rest goes on; root's program is not copied as an empty link."""
    with running(program) as live:
        for words in (("-l",), ("--json",)):
            done = as_user(home, "ls", *words, "/proc", str(live.pid))
            assert (done.returncode, done.stderr) == (0, b"")
            assert b"mem" in done.stdout
        done = as_user(home, "ls", "-lR", "/proc", str(live.pid))
        assert done.returncode == 1
        assert done.stderr.count(b"not allowed") == done.stderr.count(b"\n") == 2  # segments and regions
        assert f"{live.pid}/threads/{live.pid}:".encode() in done.stdout
        with tempfile.TemporaryDirectory() as name:
            os.chmod(name, 0o777)
            done = as_user(home, "cp", "-r", "/proc", str(live.pid), f"{name}/copy")
            assert done.returncode == 1
            assert b"Traceback" not in done.stderr
            assert Path(f"{name}/copy/cmdline").read_bytes() == live.proc("cmdline")
            assert not os.path.lexists(f"{name}/copy/exe")


def test_a_listing_of_everything_goes_on(home: Path) -> None:
    """What may not be looked into does not end a listing of all processes."""
    done = as_user(home, "ls", "-l", "/proc")
    assert done.returncode == 0, done.stderr
    assert str(os.getpid()) in done.stdout.decode()
