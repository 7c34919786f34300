"""memfs doctor: on this machine, and on machines that are made of files."""

import json
import os
import sys
from pathlib import Path

import pytest
from mounting import ENV, memfs
from needs import need, need_tools, run

from memfs.cli.doctor import CHECKS, Machine, examine

STATUS = "Name:\tx\nCapEff:\t{:016x}\n"
ALL = (1 << 41) - 1


def machine(root: Path, files: dict[str, str], uid: int = 0) -> dict[str, tuple[str, str, str]]:
    """What is found on a machine of these files, by name."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return {check.name: tuple(finding) for check, finding in examine(Machine(str(root), uid))}


def test_every_check_says_what_to_do(tmp_path: Path) -> None:
    """A machine with nothing: no check fails, and what is missing comes with what to do."""
    for uid in (0, 1000):
        found = machine(tmp_path, {}, uid)
        assert list(found) == [check.name for check in CHECKS]
        for name, (state, text, todo) in found.items():
            assert state in ("ok", "limited", "missing"), name
            assert text
            assert todo or state != "missing", name
    assert found["/dev/fuse"][0] == "missing"
    assert "memfs ls" in found["/dev/fuse"][2]


@pytest.mark.parametrize(
    ("files", "uid", "name", "state", "word"),
    [
        ({"dev/fuse": ""}, 0, "/dev/fuse", "ok", "/dev/fuse"),
        ({"proc/self/status": STATUS.format(ALL)}, 0, "mount", "ok", "root"),
        ({"proc/self/status": STATUS.format(ALL & ~(1 << 21))}, 0, "mount", "missing", "CAP_SYS_ADMIN"),
        ({}, 1000, "mount", "missing", "fusermount3"),
        ({"usr/bin/fusermount3": ""}, 1000, "mount", "ok", "fusermount3"),
        ({"usr/bin/fusermount3": ""}, 1000, "fusermount3", "ok", "fusermount3"),
        ({"etc/fuse.conf": "# user_allow_other\n"}, 1000, "allow_other", "limited", "allow_other"),
        ({"etc/fuse.conf": "user_allow_other\n"}, 1000, "allow_other", "ok", "allow_other"),
        ({"usr/lib/x86_64-linux-gnu/libfuse3.so.3": ""}, 0, "libfuse", "ok", "libfuse3.so.3"),
        ({"proc/kcore": "x"}, 0, "kcore", "ok", "kcore"),
        ({"sys/kernel/security/lockdown": "none integrity [confidentiality]\n"}, 0, "lockdown", "limited", "confid"),
        ({"sys/kernel/security/lockdown": "none [integrity] confidentiality\n"}, 0, "lockdown", "ok", "integrity"),
        ({"proc/sys/kernel/yama/ptrace_scope": "0\n"}, 1000, "ptrace_scope", "ok", "ptrace_scope=0"),
        ({"proc/sys/kernel/yama/ptrace_scope": "1\n"}, 1000, "ptrace_scope", "limited", "descendants"),
        ({"proc/sys/kernel/yama/ptrace_scope": "1\n"}, 0, "ptrace_scope", "ok", "ptrace_scope=1"),
        ({"proc/sys/kernel/yama/ptrace_scope": "3\n"}, 0, "ptrace_scope", "limited", "nobody"),
        ({"proc/sys/kernel/kptr_restrict": "2\n"}, 0, "kptr_restrict", "limited", "kptr_restrict=2"),
        ({"proc/sys/kernel/kptr_restrict": "1\n"}, 0, "kptr_restrict", "ok", "kptr_restrict=1"),
        ({"proc/sys/kernel/kptr_restrict": "0\n"}, 1000, "kptr_restrict", "limited", "CAP_SYSLOG"),
        ({"proc/self/pagemap": ""}, 0, "page map", "limited", "PAGEMAP_SCAN"),
        ({"proc/self/status": STATUS.format(ALL)}, 0, "capabilities", "ok", "CAP_SYS_PTRACE"),
        ({"proc/self/status": "CapEff:\tnonsense\n"}, 0, "capabilities", "limited", "cannot be seen"),
        ({"proc/self/status": "CapEff:"}, 0, "capabilities", "limited", "cannot be seen"),
        ({"proc/self/status": STATUS.format(1 << 21)}, 0, "capabilities", "limited", "without CAP_SYS_RAWIO"),
    ],
)  # fmt: skip
def test_machines(tmp_path: Path, files: dict[str, str], uid: int, name: str, state: str, word: str) -> None:
    found = machine(tmp_path, files, uid)[name]
    assert found[0] == state, found
    assert word in found[1]


def test_this_machine() -> None:
    done = memfs("doctor", "--json")
    records = json.loads(done.stdout)
    assert [record["name"] for record in records] == [check.name for check in CHECKS]
    missing = any(record["needed"] and record["state"] == "missing" for record in records)
    assert done.returncode == int(missing)
    by_name = {record["name"]: record["state"] for record in records}
    assert (by_name["/dev/fuse"] == "ok") == os.path.exists("/dev/fuse")
    assert (by_name["kcore"] == "missing") == (not os.path.exists("/proc/kcore"))
    text = memfs("doctor").stdout.decode().splitlines()
    assert [line.split()[0] for line in text] == [record["state"] for record in records]


def test_without_the_device() -> None:
    need(os.geteuid() == 0, "needs root to hide a device")
    need_tools("unshare")
    done = run("unshare", "-m", "sh", "-c", f"mount -t tmpfs none /dev && {sys.executable} -m memfs doctor", env=ENV)
    assert done.returncode == 1
    assert done.stdout.startswith(b"missing  /dev/fuse")
    assert not done.stderr
