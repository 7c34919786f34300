"""What a test needs of the machine: it says so when it cannot run, and in CI that is a failure."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent
SHARED = Path(os.environ.get("SHARED", REPO.parent / "shared"))
CI = os.environ.get("CI") == "true"


def need(condition: object, reason: str) -> None:
    """Skip the test with the reason, or fail it in CI, where nothing may be missing."""
    if not condition:
        if CI:
            pytest.fail(f"this cannot run in CI: {reason}")
        pytest.skip(reason)


def need_tools(*names: str) -> None:
    """Programs that the test calls."""
    missing = [name for name in names if shutil.which(name) is None]
    need(not missing, f"not installed: {', '.join(missing)} (sh tests/install-tools.sh)")


def need_corpus() -> Path:
    """The directory of real cores with oracles."""
    need((SHARED / "corpus" / "loader.py").exists(), f"no corpus in {SHARED}")
    return SHARED / "corpus"


def need_fuse() -> None:
    """A mount: /dev/fuse, and root or fusermount3."""
    need(os.path.exists("/dev/fuse"), "no /dev/fuse")
    need(os.geteuid() == 0 or shutil.which("fusermount3"), "an ordinary user needs fusermount3")


def run(*command: object, timeout: float = 60, **more: object) -> "subprocess.CompletedProcess[bytes]":
    """Run a command with its output captured; never for ever."""
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
        **more,  # type: ignore[call-overload]
    )
