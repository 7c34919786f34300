"""An ordinary user mounts own cores through fusermount3, and nobody else may look."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mounting import eventually, mount_lines, remove
from needs import REPO, need, need_fuse, need_tools

USER, OTHER = 65534, 65533


pytestmark = pytest.mark.xdist_group("user")  # one after the other: they share /dev/fuse's mode


@pytest.fixture(scope="module", autouse=True)
def device() -> Iterator[None]:
    """/dev/fuse as udev makes it: anybody may open it. A machine without udev has it for root alone."""
    need_fuse()
    mode = os.stat("/dev/fuse").st_mode & 0o777
    need(mode & 0o006 == 0o006 or os.geteuid() == 0, "users may not open /dev/fuse: chmod 0666 /dev/fuse")
    if mode & 0o006 != 0o006:
        os.chmod("/dev/fuse", 0o666)
    yield
    if mode & 0o006 != 0o006:
        os.chmod("/dev/fuse", mode)


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

    def memfs(self, *words: object, path: str | None = None) -> "subprocess.CompletedProcess[bytes]":
        return self.run(self.python, "-m", "memfs", *words, path=path)


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


def test_allow_other_needs_the_word_in_fuse_conf(user: User) -> None:
    conf = Path("/etc/fuse.conf")
    allowed = conf.exists() and "user_allow_other" in [line.strip() for line in conf.read_text().splitlines()]
    done = user.memfs("mount", "-o", "allow_other,umask=0022", user.core, user.point)
    if allowed:
        assert done.returncode == 0
        assert user.run("ls", user.point, uid=OTHER if os.geteuid() == 0 else USER).returncode == 0
    else:
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert b"user_allow_other" in done.stderr
        assert b"/etc/fuse.conf" in done.stderr


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
