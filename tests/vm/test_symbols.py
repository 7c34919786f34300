"""Symbols of the running kernel, against what the same kernel says of itself."""

import json

import pytest

from vm.boot import MEMFS, Guest

POINT = "/run/symbols"


@pytest.mark.guests("4-level", "5-level")
def test_symbols(guest: Guest) -> None:
    done = guest.sh(
        f"""
        memfs() {{ {MEMFS} "$@"; }}
        cat /proc/sys/kernel/kptr_restrict > before
        echo 1 > /proc/sys/kernel/kptr_restrict
        mkdir -p {POINT}
        memfs mount /proc/kcore {POINT} || exit
        cat /proc/kallsyms > theirs
        cat {POINT}/kallsyms > live
        memfs info --json /proc/kcore > info
        echo 2 > /proc/sys/kernel/kptr_restrict
        memfs cat /proc/kcore kallsyms > memory
        memfs info --json /proc/kcore > hidden
        echo 1 > /proc/sys/kernel/kptr_restrict
        ls {POINT}/symbols > modules
        head -c 14 {POINT}/symbols/vmlinux/linux_banner > banner
        head -c 8 {POINT}/symbols/vmlinux/current_task 2> refused || true
        address=$(awk '$3 == "linux_banner" {{ print $1 }}' theirs)
        echo "[<$address>]" | memfs symbolize /proc/kcore > named
        cat before > /proc/sys/kernel/kptr_restrict
        memfs umount {POINT}
    """,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr.decode()
    files = {path.name: path.read_bytes() for path in done.directory.iterdir()}
    theirs = files["theirs"].splitlines()
    assert files["live"].splitlines() == theirs
    assert files["memory"].splitlines() == [line for line in theirs if b"\t" not in line]
    assert json.loads(files["info"])["symbols"] == "/proc/kallsyms"
    assert json.loads(files["hidden"])["symbols"].startswith("kallsyms in")
    assert any(
        "all addresses of these symbols are zero" in warning for warning in json.loads(files["hidden"])["warnings"]
    )
    modules = {line.split(b"[")[1].rstrip(b"]") for line in theirs if b"\t" in line}
    assert {b"vmlinux", *modules} == {name for name in files["modules"].split() if not name.endswith(b".json")}
    assert files["banner"] == b"Linux version "
    assert b"No data available" in files["refused"]
    assert b"] linux_banner+0x0/0x" in files["named"]
