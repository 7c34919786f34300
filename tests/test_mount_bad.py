"""What cannot be mounted is one line: what, why, what to do; exit 1; nothing is left."""

import os
import subprocess
from pathlib import Path

import pytest
from mounting import ENV, memfs, mount_command, mount_lines, mounted
from needs import need, need_tools, run


def refused(done: "subprocess.CompletedProcess[bytes]", *words: str) -> None:
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 1, done
    assert len(lines) == 1, lines
    assert lines[0].startswith("memfs: ")
    assert all(word in lines[0] for word in words), lines[0]
    assert done.stdout == b""


def test_no_descriptor_for_a_mount(secret_core: Path, point: Path) -> None:
    """It is not standard output that is at fault."""
    done = run("prlimit", "--nofile=5", *mount_command(secret_core, point), env=ENV)
    refused(done, "Too many open files")
    assert b"standard output" not in done.stderr


def test_no_mount_point(secret_core: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    refused(memfs("mount", secret_core, missing), f"mkdir {missing}")


def test_a_file_as_a_mount_point(secret_core: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(memfs("mount", secret_core, tmp_path / "file"), "not a directory")


def test_a_busy_mount_point(secret_core: Path, point: Path) -> None:
    with mounted(secret_core, point):
        refused(memfs("mount", secret_core, point), "busy", f"memfs umount {point}")
        assert len(mount_lines(point)) == 1


@pytest.mark.parametrize("source", ["/bin/true", "/dev/null", "/etc", "nowhere.core"])
def test_a_source_that_is_no_core_is_never_mounted(source: str, point: Path) -> None:
    refused(memfs("mount", source, point), source)
    assert not mount_lines(point)


def test_unknown_option(secret_core: Path, point: Path) -> None:
    refused(memfs("mount", "-o", "alow_other", secret_core, point), "did you mean allow_other?")
    assert not mount_lines(point)


@pytest.mark.parametrize("words", [[], ["one"], ["-x", "a", "b"], ["a", "b", "c"]])
def test_wrong_usage(words: list[str]) -> None:
    done = memfs("mount", *words)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("how", ["missing", "forbidden"])
def test_no_dev_fuse(secret_core: Path, point: Path, how: str) -> None:
    """As in a container: in a mount namespace of its own, with another /dev."""
    need(os.geteuid() == 0, "needs root for a mount namespace")
    need_tools("unshare", "mount")
    dev = {
        "missing": "mount -t tmpfs none /dev && : >/dev/null",
        "forbidden": "mount -t tmpfs -o nodev none /dev && mknod /dev/fuse c 10 229 && : >/dev/null",
    }[how]
    command = " ".join(mount_command(secret_core, point))
    done = run("unshare", "-m", "sh", "-c", f"{dev} && exec {command}", env=ENV)
    refused(done, "/dev/fuse", "need no mount")


def test_root_without_the_right_to_mount(secret_core: Path, point: Path, tmp_path: Path) -> None:
    need(os.geteuid() == 0, "needs root to give up a capability")
    need_tools("setpriv")
    empty = tmp_path / "no-helper"
    empty.mkdir()
    done = run(
        "setpriv",
        "--bounding-set",
        "-sys_admin",
        "--inh-caps",
        "-sys_admin",
        "env",
        f"PATH={empty}",
        *mount_command(secret_core, point),
        env=ENV,
    )
    refused(done, "CAP_SYS_ADMIN", "need no mount")
    assert not mount_lines(point)


@pytest.mark.kernel_only("nothing is mounted")
def test_umount_of_what_is_no_mount(point: Path) -> None:
    refused(memfs("umount", point), "nothing is mounted there")
    refused(memfs("umount", "/proc"), "not a mount of memfs")
