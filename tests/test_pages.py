"""The manual and the completions are what the tables say; man prints the one, real shells use the others."""

import re
import sys
from pathlib import Path

import pytest
from mounting import ENV, memfs
from needs import REPO, need_tools, run

from memfs.cli.main import COMMANDS
from memfs.tree.options import OPTIONS
from memfs.tree.roots import TABLES

SHARE = REPO / "share"
PAGES = sorted((SHARE / "man").rglob("*.[158]"))


def test_they_are_what_the_tables_say() -> None:
    done = run(sys.executable, "tools/pages.py", "--check", cwd=REPO, env=ENV)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_check_can_fail(tmp_path: Path) -> None:
    run("cp", "-r", REPO / "tools", REPO / "share", REPO / "docs", tmp_path)
    page = tmp_path / "share/man/man1/memfs.1"
    page.write_text(page.read_text().replace("SOURCE", "SAUCE", 1))
    done = run(sys.executable, tmp_path / "tools/pages.py", "--check", cwd=tmp_path, env=ENV)
    assert done.returncode == 1
    assert b"share/man/man1/memfs.1" in done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_man_prints_it_without_a_warning(page: Path) -> None:
    need_tools("man", "groff")
    done = run("groff", "-man", "-Tutf8", "-ww", "-z", page)
    assert (done.returncode, done.stderr) == (0, b"")
    text = run("man", "-l", page, env={**ENV, "MANWIDTH": "100", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"})
    assert text.returncode == 0
    assert b"SEE ALSO" in text.stdout


def manual(name: str) -> str:
    """A page as words: without roff's escapes and fonts."""
    text = (SHARE / "man" / f"man{name[-1]}" / name).read_text()
    return re.sub(r"\\f[BIR]|\\&", "", text).replace(r"\-", "-").replace(r"\(aq", "'").replace("\\e", "\\")


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_option_of_help_is_in_the_manual(command: str) -> None:
    done = memfs(command, "--help")
    assert done.returncode == 0
    options = [line.split("  ")[1] for line in done.stdout.decode().splitlines() if line.startswith("  -")]
    words = {word.strip(",") for option in options for word in option.split() if word.startswith("-")}
    assert {"-h", "--debug"} <= words
    page = manual("memfs.1")
    part = page.partition(f'.SS "memfs {command}"')[2].partition("\n.SS")[0] + page.partition("COMMON OPTIONS")[2]
    assert all(word in part for word in words), [word for word in words if word not in part]


def test_every_row_and_option_is_in_the_manual() -> None:
    files = manual("memfs.5").replace(r"\(ti", "~")
    for table in TABLES:
        for row in table.rows():
            assert row.path in files
    for page in ("memfs.1", "mount.memfs.8"):
        for option in OPTIONS:
            assert option.name in manual(page)


# -- completions, by the shells themselves ---------------------------------------------------------------------------

BASH = """
source {share}/bash-completion/completions/memfs
COMP_WORDS=({words}) COMP_CWORD={last} COMP_LINE='{line}' COMP_POINT=${#COMP_LINE}
_memfs
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = """
source {share}/fish/vendor_completions.d/memfs.fish
complete -C '{line}' | string replace -r '\\t.*' ''
"""
ZSH = r"""
zmodload zsh/zpty
zpty -b shell zsh -f -i
zpty -w shell 'PS1= ; fpath=({share}/zsh/site-functions $fpath); path=({bin} $path)'
zpty -w shell 'autoload -U compinit; compinit -u -D'
zpty -w shell 'zstyle ":completion:*" list-prompt ""; LISTMAX=1000; setopt no_beep; print READY'
zpty -r -m shell out '*READY*READY*'
zpty -w -n shell '{line}'$'\t\t'
sleep 1.5
out=; while zpty -r -t shell part; do out+=$part; done
print -r -- $out
zpty -d shell
"""


def completed(shell: str, line: str, directory: Path) -> set[str]:
    """What a shell offers for a line."""
    need_tools(shell)
    commands = directory / "bin"
    commands.mkdir(exist_ok=True)
    (commands / "memfs").write_text(f'#!/bin/sh\nexec {sys.executable} -m memfs "$@"\n')
    (commands / "memfs").chmod(0o755)
    words = line.split(" ")
    script = {"bash": BASH, "fish": FISH, "zsh": ZSH}[shell]
    for name, value in {
        "share": SHARE, "bin": commands, "line": line, "last": len(words) - 1,
        "words": " ".join(f"'{word}'" for word in words),
    }.items():  # fmt: skip
        script = script.replace("{" + name + "}", str(value))
    path = f"{commands}:{ENV['PATH']}"
    options = {"bash": ["--norc"], "fish": ["--no-config"], "zsh": ["-f"]}[shell]
    done = run(shell, *options, "-c", script, env={**ENV, "PATH": path, "HOME": str(directory), "TERM": "dumb"},
               cwd=REPO / "examples", timeout=60)  # fmt: skip
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\x07]", "\n", done.stdout.decode(errors="replace"))
    assert text.strip(), done
    return set(text.split())


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("memfs ", {command.name for command in COMMANDS}),
        ("memfs mount -o f", {"fsname", "fuse"}),
        ("memfs cat secret.core re", {"regions.json"}),
        ("memfs cat secret.core threads/current/sig", {"siginfo", "siginfo.json"}),
        ("memfs inf", {"info"}),
    ],
)
def test_shells_complete(shell: str, line: str, offered: set[str], tmp_path: Path) -> None:
    found = completed(shell, line, tmp_path)
    for word in offered:
        assert any(word in got for got in found), (word, found)
    assert not any("Traceback" in got or "error" in got for got in found)
