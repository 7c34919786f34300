"""Fixtures that several files of tests share."""

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from needs import REPO, need, need_tools

ARGUMENTS = ("./crash", "first argument", "", "--third=3")
ENVIRONMENT = {"GREETING": "hello, reader", "EMPTY": "", "UTF8": "grün"}
SECRET = b"a secret in the heap of crash.c"


class Crash(NamedTuple):
    """A core that the kernel wrote of tests/programs/crash.c, and the program."""

    core: Path
    program: Path


@pytest.fixture(scope="session")
def crash(tmp_path_factory: pytest.TempPathFactory) -> Crash:
    """The kernel's own core of a crashed program, made now."""
    need_tools("cc")
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    need("/" not in pattern and not pattern.startswith("|"), f"core_pattern leads elsewhere: {pattern}")
    work = tmp_path_factory.mktemp("crash")
    source = REPO / "tests" / "programs" / "crash.c"
    subprocess.run(["cc", "-O1", "-g", "-pthread", "-o", work / "crash", source], check=True, timeout=120)

    def unlimited() -> None:
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

    done = subprocess.run(
        ARGUMENTS, executable=work / "crash", cwd=work, env=ENVIRONMENT, preexec_fn=unlimited, timeout=60, check=False
    )
    assert done.returncode == -11
    cores = [work / name for name in os.listdir(work) if name.startswith("core")]
    need(cores, "the kernel wrote no core (ulimit -H -c is 0?)")
    return Crash(cores[0], work / "crash")


@pytest.fixture(scope="session")
def secret_core() -> Path:
    """The core that the repository carries."""
    return REPO / "examples" / "secret.core"
