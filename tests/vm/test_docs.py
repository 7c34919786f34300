"""The sessions in docs/ that are of a kernel, run in one: ```console guest blocks (see tests/test_docs.py)."""

import re
from pathlib import Path

import pytest
from needs import REPO
from test_docs import matches, sessions

from vm.boot import MEMFS, Guest

BLOCK, PROMPT = "console guest", "# "
PAGES = [page for page in sorted((REPO / "docs").glob("*.md")) if sessions(page.read_text(), BLOCK, PROMPT)]

# What another kernel, processor or boot has otherwise: a line of `info`, and what it looks like in each.
VARIES = (
    (r"(size|ram_bytes|data_bytes): \d+", "bytes"),
    (r"(kaslr_offset|phys_base|direct_map): -?0x[0-9a-f]+", "address"),
    (r"release: \d+\.\d+\.\d+-\d+-cloud-amd64", "release"),
    (r"version: #1 SMP PREEMPT_DYNAMIC Debian \d+\.\d+\.\d+-\d+ \(\d{4}-\d\d-\d\d\)", "version"),
    (r"build_id: [0-9a-f]{40}", "build id"),
)


def steady(line: str) -> str:
    """A line without what varies: only its look is held."""
    return next((f"{line.partition(':')[0]}: <{what}>" for look, what in VARIES if re.fullmatch(look, line)), line)


def test_steady() -> None:
    assert steady("phys_base: -0x2a000000") == steady("phys_base: 0x8800000") == "phys_base: <address>"
    assert steady("phys_base: none") == "phys_base: none"
    assert steady("cpus: 2") == "cpus: 2"


def test_there_is_a_page() -> None:
    assert [page.name for page in PAGES] == ["kernel.md"]


@pytest.mark.guests("untouched")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page(guest: Guest, page: Path) -> None:
    """One command after the other, as root, in a guest as it comes up."""
    wrong = []
    for command, expected in sessions(page.read_text(), BLOCK, PROMPT):
        done = guest.sh(f'exec 2>&1\nmemfs() {{ {MEMFS} "$@"; }}\n{command}')
        printed = done.stdout.decode(errors="replace").splitlines()
        if done.returncode or not matches([*map(steady, expected)], [*map(steady, printed)]):
            wrong.append("\n".join([f"# {command}", *printed]))
    assert not wrong, f"{page.name} shows something else than:\n\n" + "\n\n".join(wrong)
