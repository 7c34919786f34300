"""What stands in the way of /proc/kcore, said in one line."""

import pytest
from mounting import one_line
from needs import REPO

from vm.boot import MEMFS, Guest

USER = "setpriv --reuid 1000 --regid 1000 --clear-groups env PYTHONPATH=/run/readable /usr/bin/python3 -m memfs"
NO_RAWIO = f"setpriv --bounding-set=-sys_rawio --inh-caps=-sys_rawio {MEMFS}"


def test_not_root(guest: Guest) -> None:
    guest.sh(f"[ -d /run/readable ] || {{ mkdir /run/readable && cp -a {REPO}/memfs /run/readable; }}")
    for words in ("info /proc/kcore", "mount /proc/kcore /mnt"):
        one_line(guest.sh(f"cd /; {USER} {words}"), "/proc/kcore", "root")


def test_without_the_capability(guest: Guest) -> None:
    one_line(guest.sh(f"{NO_RAWIO} info /proc/kcore"), "/proc/kcore", "CAP_SYS_RAWIO")


@pytest.mark.guests("lockdown")
def test_lockdown(guest: Guest) -> None:
    said = one_line(guest.memfs("info", "/proc/kcore"), "/proc/kcore", "lockdown", "confidentiality")
    assert "CAP_SYS_RAWIO" not in said, "it is there"
    one_line(guest.memfs("mount", "/proc/kcore", "/mnt"), "lockdown")


@pytest.mark.guests("lockdown")
def test_lockdown_and_no_capability(guest: Guest) -> None:
    """The kernel asks for the capability first."""
    one_line(guest.sh(f"{NO_RAWIO} info /proc/kcore"), "CAP_SYS_RAWIO")


def test_addresses_that_are_hidden(guest: Guest) -> None:
    """kptr_restrict=2 hides the addresses of /proc, and the areas are the same: they come from the headers."""
    scripts = [
        f"echo {value} > /proc/sys/kernel/kptr_restrict; {MEMFS} cat /proc/kcore regions.json" for value in (1, 2)
    ]
    try:
        first, second = (guest.sh(script) for script in scripts)
    finally:
        guest.sh("echo 1 > /proc/sys/kernel/kptr_restrict")
    assert first.returncode == second.returncode == 0, (first, second)
    assert first.stdout == second.stdout
