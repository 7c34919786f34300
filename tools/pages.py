"""Print the manual pages and the shells' completions below share/, out of memfs's own tables: `make pages`.

With --check nothing is written: exit 1 says that what is committed is not what would be printed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import completion
import manual

SHARE = Path(__file__).resolve().parent.parent / "share"


def pages() -> dict[str, str]:
    """Every generated file: its path below share/, and its text."""
    return {
        "man/man1/memfs.1": manual.memfs_1(),
        "man/man5/memfs.5": manual.memfs_5(),
        "man/man8/mount.memfs.8": manual.mount_memfs_8(),
        "bash-completion/completions/memfs": completion.bash(),
        "zsh/site-functions/_memfs": completion.zsh(),
        "fish/vendor_completions.d/memfs.fish": completion.fish(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="print share/ out of memfs's tables")
    parser.add_argument("--check", action="store_true", help="write nothing: exit 1 if something would change")
    check = parser.parse_args().check
    stale = [name for name, text in pages().items() if _read(SHARE / name) != text]
    for name in stale:
        if check:
            print(f"share/{name} is not what the tables say: make pages", file=sys.stderr)
        else:
            _write(SHARE / name, pages()[name])
            print(f"printed share/{name}")
    return 1 if check and stale else 0


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
