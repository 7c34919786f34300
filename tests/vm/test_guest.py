"""The guest itself, and that memfs runs in it: a core of a process, mounted by the guest's own kernel."""

import sys
from pathlib import Path

import pytest
from mounting import memfs
from needs import REPO

from vm.boot import MEMFS, Guest
from vm.machines import MACHINES

CORE = REPO / "examples" / "secret.core"


@pytest.mark.guests(*MACHINES)
def test_it_is_another_kernel(guest: Guest) -> None:
    release, words = guest.sh("uname -r; cat /proc/cmdline").stdout.decode().splitlines()
    assert release == guest.kernel.release
    assert guest.machine.append in words
    assert "nokaslr" not in words


def test_what_a_command_gives(guest: Guest) -> None:
    done = guest.sh("echo out; echo err >&2; echo file > file; touch /etc/memfs-was-here; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    assert (done.directory / "file").read_bytes() == b"file\n"
    assert guest.run("ls", "/etc/memfs-was-here").returncode == 0
    assert not Path("/etc/memfs-was-here").exists(), "what the guest writes is its own"


def test_a_command_that_hangs_is_ended(guest: Guest) -> None:
    assert guest.run("sleep", 100, timeout=1).returncode == 124
    assert guest.run("true").returncode == 0


def test_how_much_root_reads_at_once(guest: Guest) -> None:
    """Whoever may have a pipe of 2 MiB: 256 pages and a header."""
    done = guest.sh(f"""{sys.executable} -c 'import sys
sys.path.insert(0, "{REPO}")
from memfs.fuse.pipe import largest
print(largest())'""")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"1048576\n", b"")


def test_a_core_mounted_in_the_guest(guest: Guest) -> None:
    done = guest.sh(f"""
        memfs() {{ {MEMFS} "$@"; }}
        mkdir -p /run/m
        memfs mount {CORE} /run/m || exit
        grep ' /run/m ' /proc/self/mountinfo
        cat /run/m/regions/heap > heap
        ls -U /run/m/regions > regions
        memfs umount /run/m
    """)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b" fuse.memfs " in done.stdout
    for name, words in (("heap", ("cat", CORE, "regions/heap")), ("regions", ("ls", CORE, "regions"))):
        assert (done.directory / name).read_bytes() == memfs(*words).stdout
