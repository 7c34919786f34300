"""mount(8), fstab and systemd: the helper that install-helper installs, and the units that systemd makes and takes."""

import configparser
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import USER
from mounting import Done, daemons, eventually, fuse_for_users, mount_lines, nothing_left, one_line
from needs import REPO, need, need_tools, run

from memfs.tree import options


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
@pytest.mark.kernel_only("about mount(8), whose helper calls memfs mount")
def test_mount_8(machine: Machine, secret_core: Path, point: Path, kind: str) -> None:
    with nothing_left(point):
        script = f"""
            mount -t {kind} {secret_core} {point} -o ro,umask=0022,noatime,fsname=named || exit 1
            {SHOW.format(m=point)}
            cat {point}/comm; stat -c %a {point}/comm
            umount {point} || exit 2
            mount -v -n -t {kind} {secret_core} {point} || exit 3
            umount {point}
            mount -s -t {kind} -o nosuch,size=5,umask=0027 {secret_core} {point} || exit 7
            stat -c %a {point}/comm; umount {point}
            mount -t {kind} -o nosuch {secret_core} {point} 2>&1
            findmnt {point} && exit 4
            mount -f -t {kind} {secret_core} {point} || exit 5
            findmnt {point} && exit 6
            exit 0
        """
        done = machine.run(script)
        assert (done.returncode, done.stderr) == (0, b""), done
        shown, count, comm, mode, verbose, sloppy, unknown = done.stdout.decode().splitlines()
        source, fstype, words = shown.split()
        assert (source, fstype, count, comm, mode) == ("named", "fuse.memfs", "1", "secret", "444")
        assert {"ro", "nosuid", "nodev", "noexec"} <= set(words.split(","))
        assert verbose == f"memfs: {secret_core}: ELF64 core, x86_64, on {point}"
        assert sloppy == "440"
        assert "-o nosuch; unknown option" in unknown
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
@pytest.mark.kernel_only("about mount(8), whose helper calls memfs mount")
def test_mount_8_fails_with_32(machine: Machine, secret_core: Path, point: Path, what: str, said: str) -> None:
    done = machine.run(f"mount -t memfs {what.format(core=secret_core)} {point}")
    one_line(done, said, status=32)
    assert not mount_lines(point)


@pytest.mark.kernel_only("about mount(8), whose helper calls memfs mount")
def test_fstab(machine: Machine, secret_core: Path, point: Path) -> None:
    line = f"{secret_core} {point} memfs ro,noauto,nofail,_netdev,x-systemd.automount,x-foo=bar 0 0"
    with nothing_left(point):
        done = machine.run(
            f"mount -a; findmnt {point} && exit 9; mount {point} && {SHOW.format(m=point)}; umount {point}", line
        )
        assert (done.returncode, done.stderr) == (0, b""), done
        assert done.stdout.decode().splitlines()[0].startswith(f"{secret_core} fuse.memfs ro,")
        eventually(lambda: not daemons(point), "the daemon ends")


def test_fstab_for_an_ordinary_user(machine: Machine, secret_core: Path, venv: Path) -> None:
    """The word `user`: mount(8) becomes the user, fusermount3 mounts, and umount(8) by that user ends it."""
    need_tools("fusermount3")
    point, copy = machine.home / "m", machine.home / "own.core"
    point.mkdir()
    copy.write_bytes(secret_core.read_bytes())
    copy.chmod(0o600)
    for path in (point, copy):
        os.chown(path, USER, USER)
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
    with fuse_for_users(), nothing_left(point):
        done = machine.run(script, f"{copy} {point} memfs ro,noauto,user 0 0")
        assert done.returncode == 0, done
        shown, count, comm = done.stdout.decode().splitlines()
        assert shown.split()[:2] == [str(copy), "fuse.memfs"]
        assert f"user_id={USER}" in shown
        assert (count, comm) == ("1", "secret")
        assert b"Permission denied" in done.stderr  # root, too, without allow_other
        eventually(lambda: not daemons(point), "the daemon ends")


def generated(line: str, directory: Path) -> Path:
    """The units that systemd makes of a line of fstab, by its own generator."""
    need_tools("systemd-analyze")
    generator = Path("/usr/lib/systemd/system-generators/systemd-fstab-generator")
    need(generator.exists(), "no systemd-fstab-generator")
    (directory / "fstab").write_text(line + "\n")
    units = directory / "units"
    units.mkdir()
    env = {**os.environ, "SYSTEMD_FSTAB": str(directory / "fstab")}
    done = run(generator, units, units, units, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    return units


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # as configparser's manual has it
    parser.read(path)
    return parser


def test_an_automount_unit(tmp_path: Path) -> None:
    """What systemd makes of the fstab line of the docs is accepted by systemd."""
    line = "/proc/kcore /mnt/k memfs ro,noauto,x-systemd.automount 0 0"
    assert line in (REPO / "docs" / "using.md").read_text()
    units = generated(line, tmp_path)
    assert unit(units / "mnt-k.automount")["Automount"]["Where"] == "/mnt/k"
    mount = unit(units / "mnt-k.mount")["Mount"]
    assert (mount["What"], mount["Where"], mount["Type"]) == ("/proc/kcore", "/mnt/k", "memfs")
    assert options.parse(mount["Options"]) == options.Settings()
    done = run("systemd-analyze", "verify", units / "mnt-k.automount", units / "mnt-k.mount")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_what_an_automount_unit_runs_mounts(machine: Machine, secret_core: Path, tmp_path: Path) -> None:
    """systemd runs `mount WHAT WHERE -t TYPE -o OPTIONS` of the unit (mount_enter_mounting, src/core/mount.c, 252)."""
    point = machine.home / "m"
    point.mkdir()
    words = "ro,noauto,nofail,umask=0022,fsname=a\\\\,b,x-systemd.automount,x-systemd.idle-timeout=60"
    (path,) = generated(f"{secret_core} {point} memfs {words} 0 0", tmp_path).glob("*.mount")
    mount = unit(path)["Mount"]
    assert path.with_suffix(".automount").exists()
    command = shlex.join(("mount", mount["What"], mount["Where"], "-t", mount["Type"], "-o", mount["Options"]))
    with nothing_left(point):
        done = machine.run(f"{command} || exit 1; {SHOW.format(m=point)}; stat -c %a {point}/comm; umount {point}")
        assert (done.returncode, done.stderr) == (0, b""), done
        shown, count, mode = done.stdout.decode().splitlines()
        assert shown.split()[:2] == ["a,b", "fuse.memfs"]
        assert (count, mode) == ("1", "444")
        eventually(lambda: not daemons(point), "the daemon ends")


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
