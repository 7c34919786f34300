"""memfs tree"""

from __future__ import annotations

import argparse

from memfs.tree.process import PROCESS


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Printed from the table that the tree is made of."


def run(arguments: argparse.Namespace) -> int:
    width = max(len(row.path) for row in PROCESS)
    print("a process image: an ELF core\n")
    for row in PROCESS:
        print(f"  {row.path + ('/' if row.make is None else ''):<{width + 1}}  {row.help}")
    return 0
