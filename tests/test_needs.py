"""What is missing is said; in CI it is a failure, never a silent skip."""

import os
import sys
from pathlib import Path

import pytest
from needs import REPO, run

FILE = """
from needs import need, need_corpus, need_tools

def test_there(): need(True, "all is well")
def test_missing(): need(False, "no moon tonight")
def test_tool(): need_tools("sh", "no-such-program")
def test_corpus(): need_corpus()
"""
REASONS = ("no moon tonight", "not installed: no-such-program", "no corpus in /nowhere")


@pytest.mark.parametrize(
    ("ci", "status", "counts"), [("true", 1, "3 failed, 1 passed"), ("", 0, "1 passed, 3 skipped")]
)
def test_what_is_missing(tmp_path: Path, ci: str, status: int, counts: str) -> None:
    (tmp_path / "test_it.py").write_text(FILE)
    env = {**os.environ, "CI": ci, "PYTHONPATH": str(REPO / "tests"), "SHARED": "/nowhere"}
    words = ("-m", "pytest", "-p", "no:cacheprovider", "-rsf", "--rootdir", tmp_path, "-c", "/dev/null", tmp_path)
    done = run(sys.executable, *words, env=env, timeout=120, cwd=tmp_path)
    text = done.stdout.decode()
    assert done.returncode == status, text
    assert counts in text
    assert all(reason in text for reason in REASONS)
    assert ("this cannot run in CI" in text) == bool(ci)


GROUP = """
import os
import pytest

@pytest.mark.xdist_group("together")
@pytest.mark.parametrize("number", range(8))
def test_worker(number): print("worker", os.environ["PYTEST_XDIST_WORKER"])
"""


def test_a_group_runs_in_one_worker(tmp_path: Path) -> None:
    """By the options of this project: without --dist=loadgroup, and with some versions of pytest and pytest-xdist,
    groups are forgotten without a word."""
    (tmp_path / "test_group.py").write_text(GROUP)
    words = ("-m", "pytest", "-n", 2, "-rP", "-p", "no:cacheprovider", "--rootdir", tmp_path)
    done = run(sys.executable, *words, "-c", REPO / "pyproject.toml", tmp_path, timeout=120, cwd=tmp_path)
    text = done.stdout.decode()
    assert done.returncode == 0, text
    assert text.count("worker gw") == 8
    assert len({line for line in text.splitlines() if line.startswith("worker gw")}) == 1, text
