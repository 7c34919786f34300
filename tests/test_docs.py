"""What README.md and docs/ show was really printed: every ```console block is run, and its output compared.

In a block, `$ ` begins a command, `> ` continues it; the lines below are its output, where a line `...` stands for
any lines. The commands of one page run one after the other in a copy of examples/. A ```console guest block is of root
(`# `), and runs in a guest: tests/vm/test_docs.py."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent
PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md")), REPO / "CONTRIBUTING.md"]


def sessions(text: str, block: str = "console", prompt: str = "$ ") -> list[tuple[str, list[str]]]:
    """(command, expected lines) of all blocks of a kind in a page."""
    out: list[tuple[str, list[str]]] = []
    for body in re.findall(rf"^```{block}\n(.*?)^```$", text, re.M | re.S):
        for line in body.splitlines():
            if line.startswith(prompt):
                out.append((line.removeprefix(prompt), []))
            elif line.startswith("> "):
                out[-1] = (f"{out[-1][0]}\n{line[2:]}", [])
            else:
                out[-1][1].append(line)
    return out


def matches(expected: list[str], printed: list[str]) -> bool:
    """Whether the lines are those expected; `...` stands for any number of lines."""
    if not expected:
        return not printed
    if expected[0] == "...":
        return any(matches(expected[1:], printed[i:]) for i in range(len(printed) + 1))
    return bool(printed) and expected[0].rstrip() == printed[0].rstrip() and matches(expected[1:], printed[1:])


def test_matches() -> None:
    assert matches(["a", "...", "c"], ["a", "b", "c"])
    assert not matches(["a", "...", "c"], ["a", "b"])
    assert not matches([], ["a"])


@pytest.mark.parametrize("page", [page for page in PAGES if sessions(page.read_text())], ids=lambda page: page.name)
def test_page(page: Path, tmp_path: Path) -> None:
    work = tmp_path / "examples"
    shutil.copytree(REPO / "examples", work)
    commands = tmp_path / "bin"
    commands.mkdir()
    memfs = commands / "memfs"
    memfs.write_text(f'#!/bin/sh\nexec {sys.executable} -m memfs "$@"\n')
    memfs.chmod(0o755)
    env = {
        **os.environ,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPO),
        "LC_ALL": "C",
        "TZ": "UTC",
    }
    mount = tmp_path / "c"  # the pages say /tmp/c, where another run of the tests may be
    wrong = []
    try:
        for command, expected in sessions(page.read_text()):
            done = subprocess.run(
                re.sub(r"/tmp/c\b", str(mount), command),
                shell=True,
                cwd=work,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=60,
                check=False,
            )
            printed = done.stdout.decode(errors="replace").replace(str(mount), "/tmp/c").splitlines()
            if not matches(expected, printed):
                wrong.append("\n".join([f"$ {command}", *printed]))
    finally:
        subprocess.run([memfs, "umount", "-l", mount], env=env, timeout=60, check=False, capture_output=True)
    assert not wrong, f"{page.name} shows something else than:\n\n" + "\n\n".join(wrong)
