"""An ordinary user mounts own cores through fusermount3, and nobody else may look."""

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mounting import Done, daemons, eventually, fuse_for_users, mount_lines, nothing_left, one_line, remove, through
from needs import REPO, need, need_fuse, need_tools, run

USER, OTHER, THIRD = 65534, 65533, 65532
UNKNOWN = 54321  # of which /etc/passwd knows nothing, as in many containers


@pytest.fixture(autouse=True)
def device() -> Iterator[None]:
    with fuse_for_users():
        yield


class User:
    """An ordinary user with a directory, a core, and an interpreter that it can run."""

    def __init__(self, home: Path, python: str) -> None:
        self.home, self.python, self.core, self.point = home, python, home / "secret.core", home / "m"

    def run(self, *words: object, uid: int = USER, path: str | None = None) -> "subprocess.CompletedProcess[bytes]":
        env = {"PATH": path or os.environ["PATH"], "PYTHONPATH": str(self.home / "lib")}
        who: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": []} if os.geteuid() == 0 else {}
        command = [str(word) for word in words]
        return subprocess.run(
            command, capture_output=True, timeout=60, check=False, env=env, cwd="/", stdin=subprocess.DEVNULL, **who
        )

    def memfs(self, *words: object, path: str | None = None, uid: int = USER) -> "subprocess.CompletedProcess[bytes]":
        return self.run(self.python, "-m", "memfs", *through(words), path=path, uid=uid)

    def give(self, uid: int) -> None:
        """The directory and the core belong to another ordinary user."""
        for path in (self.home, self.point, self.core):
            os.chown(path, uid, uid)

    def script(self, text: str, conf: str) -> Done:
        """A shell script of root's, in a mount namespace with a private /etc/fuse.conf. In it, `as UID COMMAND` is
        somebody else, and `memfs` is this user's."""
        need(os.geteuid() == 0, "needs root for a mount namespace")
        need(Path("/etc/fuse.conf").exists(), "no /etc/fuse.conf to put another in place of")
        need_tools("unshare", "setpriv", "findmnt")
        file = self.home / "fuse.conf"
        file.write_text(conf)
        prelude = f"""
            mount --bind {file} /etc/fuse.conf || exit 99
            as() {{ id=$1; shift; setpriv --reuid=$id --regid=$id --clear-groups "$@"; }}
            memfs() {{ as {USER} env PYTHONPATH={self.home / "lib"} {self.python} -m memfs "$@"; }}
            cd /
        """
        return run("unshare", "-m", "--propagation", "private", "sh", "-c", prelude + text, timeout=60)

    def mount_words(self, options: str) -> str:
        """`memfs mount` with options, through the transport of this test."""
        return "memfs " + shlex.join(map(str, through(("mount", "-o", options, self.core, self.point))))


def interpreter(home: Path) -> str | None:
    """An interpreter that the user can run: the tests' own may be below a directory of root's."""
    for python in (sys.executable, "/usr/bin/python3"):
        if Path(python).exists():
            code = "import sys, memfs.cli.main; sys.exit(sys.version_info < (3, 11))"
            try:
                if User(home, python).run(python, "-c", code).returncode == 0:
                    return python
            except PermissionError:
                continue
    return None


@pytest.fixture
def user(secret_core: Path, tmp_path: Path) -> Iterator[User]:
    need_fuse()
    need_tools("fusermount3")
    home = Path("/tmp") / f"memfs-user-{os.getpid()}"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    shutil.copytree(REPO / "memfs", home / "lib" / "memfs")
    for module in ("mfusepy", "fuse"):  # what is in a venv of root's, others cannot import
        spec = importlib.util.find_spec(module)
        if spec and spec.origin:
            shutil.copy(spec.origin, home / "lib")
    (home / "m").mkdir()
    shutil.copy(secret_core, home / "secret.core")
    if os.geteuid() == 0:
        for path in (home, home / "m", home / "secret.core"):
            os.chown(path, USER, USER)
    (home / "secret.core").chmod(0o600)
    python = interpreter(home)
    need(python, "no Python 3.11 that an ordinary user can run")
    assert python is not None
    user = User(home, python)
    try:
        yield user
    finally:
        remove(user.point)
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize("ending", ["memfs", "fusermount3"])
def test_mount_look_unmount(user: User, ending: str) -> None:
    done = user.memfs("mount", user.core, user.point)
    assert done.returncode == 0, done.stderr.decode()
    assert b"the-secret-is-swordfish" in user.run("cat", user.point / "regions/heap").stdout
    listing = user.run("ls", "-ln", user.point).stdout.decode().splitlines()[1:]
    assert all(line.split()[2] == str(os.geteuid() or USER) for line in listing)
    done = user.memfs("umount", user.point) if ending == "memfs" else user.run("fusermount3", "-u", user.point)
    assert done.returncode == 0, done.stderr.decode()
    eventually(lambda: not mount_lines(user.point), "the mount is gone")


def test_nobody_else_may_look(user: User) -> None:
    need(os.geteuid() == 0, "needs root to be somebody else")
    assert user.memfs("mount", user.core, user.point).returncode == 0
    assert user.run("ls", user.point, uid=OTHER).returncode != 0
    assert (
        subprocess.run(["ls", user.point], capture_output=True, timeout=20, check=False).returncode != 0
    )  # not even root
    assert user.memfs("umount", user.point).returncode == 0


def test_a_user_that_nobody_knows(user: User) -> None:
    """fusermount3 mounts for nobody without a name in /etc/passwd: that is said, by doctor, too."""
    need(os.geteuid() == 0, "needs root to be somebody else")
    user.give(UNKNOWN)
    one_line(user.memfs("mount", user.core, user.point, uid=UNKNOWN), "could not determine username", "/etc/passwd")
    assert not mount_lines(user.point)
    done = user.memfs("doctor", uid=UNKNOWN)
    assert done.returncode == 1
    line = next(line for line in done.stdout.decode().splitlines() if line.split()[1] == "mount")
    assert line.startswith("missing")
    assert "no name in /etc/passwd" in line
    assert b"secret" in user.memfs("cat", user.core, "comm", uid=UNKNOWN).stdout


# -- allow_other ---------------------------------------------------------------------------------------------------

ALLOWED = "mount_max = 1000\nuser_allow_other\n"


@pytest.mark.parametrize("conf", ["", "#user_allow_other\n", "user_allow_others\n"])
def test_allow_other_needs_the_word_in_fuse_conf(user: User, conf: str) -> None:
    with nothing_left(user.point):
        done = user.script(user.mount_words("allow_other"), conf)
        one_line(done, "allow_other", "add user_allow_other to /etc/fuse.conf")
        assert not daemons(user.point)


def looked(user: User, options: str, *uids: int, conf: str = ALLOWED, by: str = "") -> dict[int, str]:
    """What each of some users gets out of a mount with these options: "read", or why not. The kernel is told to check
    the modes."""
    asked = "\n".join(f"as {uid} cat {user.point}/comm 2>&1; as {uid} ls {user.point}/regions 2>&1" for uid in uids)
    mount = user.mount_words(options)
    with nothing_left(user.point):
        script = f"""
            {mount if not by else mount.replace("memfs", by, 1)} || exit 1
            findmnt -rno OPTIONS {user.point}
            {asked.replace(chr(10), "; echo; ")}; echo
            umount {user.point} || exit 2
        """
        done = user.script(script, conf)
        assert done.returncode == 0, done
        eventually(lambda: not daemons(user.point), "the daemon ends")
    words, *answers = done.stdout.decode().split("\n", 1)
    assert (
        ("allow_other" in words.split(",")) == ("default_permissions" in words.split(",")) == ("allow_other" in options)
    )
    found = {}
    for uid, answer in zip(uids, answers[0].split("\n\n"), strict=False):
        if answer.count("Permission denied") == 2:
            found[uid] = "denied"
        else:
            assert answer.startswith("secret\n"), answer
            assert "heap" in answer.split("\n"), answer
            found[uid] = "read"
    return found


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("allow_other,umask=0022", {USER: "read", OTHER: "read", THIRD: "read", 0: "read"}),
        ("allow_other", {USER: "read", OTHER: "denied", THIRD: "denied", 0: "read"}),  # the umask is 0077
        (f"allow_other,umask=0027,gid={OTHER}", {USER: "read", OTHER: "read", THIRD: "denied", 0: "read"}),
        (f"allow_other,uid={OTHER}", {USER: "denied", OTHER: "read", THIRD: "denied", 0: "read"}),
        ("umask=0022", {USER: "read", OTHER: "denied", THIRD: "denied", 0: "denied"}),  # the modes alone open nothing
    ],
)
def test_who_may_look(user: User, options: str, expected: dict[int, str]) -> None:
    assert looked(user, options, *expected) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("allow_other,umask=0022", {0: "read", USER: "read", OTHER: "read"}),
        ("allow_other", {0: "read", USER: "denied", OTHER: "denied"}),
        ("umask=0022", {0: "read", USER: "denied", OTHER: "denied"}),
    ],
)
def test_who_may_look_at_a_mount_of_root(user: User, options: str, expected: dict[int, str]) -> None:
    """Root needs no word in /etc/fuse.conf."""
    by = f"env PYTHONPATH={REPO} {sys.executable} -m memfs"
    assert looked(user, options, *expected, conf="", by=by) == expected


# -- what stands in the way ----------------------------------------------------------------------------------------


@pytest.mark.kernel_only("libfuse looks for fusermount3 where it was installed to, not on PATH")
def test_without_fusermount3(user: User, tmp_path: Path) -> None:
    done = user.memfs("mount", user.core, user.point, path=str(tmp_path))
    need(os.geteuid() == 0 or done.returncode, "root mounts without it")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert b"install fuse3" in done.stderr
    assert not mount_lines(user.point)


def test_dev_fuse_for_root_alone(user: User) -> None:
    need(os.geteuid() == 0, "needs root to change /dev/fuse")
    os.chmod("/dev/fuse", 0o600)
    try:
        done = user.memfs("mount", user.core, user.point)
    finally:
        os.chmod("/dev/fuse", 0o666)
    assert done.returncode == 1
    assert b"chmod 0666 /dev/fuse" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_core_of_somebody_else(user: User) -> None:
    need(os.geteuid() == 0, "needs root to give the core away")
    os.chown(user.core, OTHER, OTHER)
    done = user.memfs("mount", user.core, user.point)
    assert done.returncode == 1
    assert b"Permission denied" in done.stderr
    assert len(done.stderr.splitlines()) == 1
