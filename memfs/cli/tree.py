"""memfs tree"""

from __future__ import annotations

import argparse

from memfs.tree.roots import TABLES


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Printed from the tables that the trees are made of."


def run(arguments: argparse.Namespace) -> int:
    width = max(len(row.path) for table in TABLES for row in table.rows())
    for index, table in enumerate(TABLES):
        print(("\n" if index else "") + table.title + "\n")
        for row in table.rows():
            print(f"  {row.path + ('/' if row.make is None else ''):<{width + 1}}  {row.help}")
    return 0
