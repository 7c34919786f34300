"""Print the manual pages and the shells' completions below share/, out of memfs's own tables: `make pages`.

With --check nothing is written: exit 1 says that what is committed is not what would be printed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import completion
import manual

from memfs.fuse.transport import LACKS, TRANSPORTS

REPO = Path(__file__).resolve().parent.parent
USING = "docs/using.md"


def pages() -> dict[str, str]:
    """Every generated file: its path, and its text."""
    return {
        USING: _with_table((REPO / USING).read_text(encoding="utf-8")),
        "share/man/man1/memfs.1": manual.memfs_1(),
        "share/man/man5/memfs.5": manual.memfs_5(),
        "share/man/man8/mount.memfs.8": manual.mount_memfs_8(),
        "share/bash-completion/completions/memfs": completion.bash(),
        "share/zsh/site-functions/_memfs": completion.zsh(),
        "share/fish/vendor_completions.d/memfs.fish": completion.fish(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="print share/ and tables of docs/ out of memfs's tables")
    parser.add_argument("--check", action="store_true", help="write nothing: exit 1 if something would change")
    check = parser.parse_args().check
    stale = [name for name, text in pages().items() if _read(REPO / name) != text]
    for name in stale:
        if check:
            print(f"{name} is not what the tables say: make pages", file=sys.stderr)
        else:
            _write(REPO / name, pages()[name])
            print(f"printed {name}")
    return 1 if check and stale else 0


BEGIN, END = "<!-- transports: printed by make pages -->", "<!-- end -->"


def _with_table(page: str) -> str:
    """The page with what the transports lack, between its two marks."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    lines = ["| | " + " | ".join(row.name for row in TRANSPORTS) + " | where it does not |"]
    lines.append("| --- " * (len(TRANSPORTS) + 2) + "|")
    for key, text in LACKS.items():
        what, _, otherwise = text.partition(": ")
        cells = ["no" if key in row.lacks else "yes" for row in TRANSPORTS]
        lines.append(f"| {what} | {' | '.join(cells)} | {otherwise} |")
    return f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}"


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
