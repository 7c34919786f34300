"""Fixtures that several files of tests share."""

import importlib.util
import resource
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import makecore
import mounting
from needs import REPO, need, need_fuse, need_tools, run

from memfs.fuse.transport import LACKS, TRANSPORTS

ARGUMENTS = ("./crash", "first argument", "", "--third=3")
ENVIRONMENT = {"GREETING": "hello, reader", "EMPTY": "", "UTF8": "grün"}
SECRET = b"a secret in the heap of crash.c"


TRANSPORTED = ("test_mount_tree", "test_mount_life", "test_mount_bad", "test_mount_corpus")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kernel_only(why): about the transport that is written here")
    config.addinivalue_line("markers", "needs(what): what a transport may lack (memfs.fuse.transport.LACKS)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All tests of mounts run over every transport, but those that are about what one of them cannot do."""
    if metafunc.module.__name__ in TRANSPORTED:
        rows = [row for row in TRANSPORTS if row.name in ("kernel", "mfusepy", "fusepy")]
        definition = metafunc.definition
        if definition.get_closest_marker("kernel_only"):
            rows = rows[:1]
        lacks = {word for marker in definition.iter_markers("needs") for word in marker.args}
        assert lacks <= set(LACKS)
        names = [row.name for row in rows if not lacks & set(row.lacks)]
        metafunc.parametrize("transport", names, indirect=True, scope="session")


@pytest.fixture(scope="session", autouse=True)
def transport(request: pytest.FixtureRequest) -> Iterator[str]:
    """What mounts of this test go through. For every test: what a test does not name is set up only if it is."""
    name = getattr(request, "param", "kernel")
    if name != "kernel":
        need(importlib.util.find_spec({"fusepy": "fuse"}.get(name, name)), f"no {name}")
    mounting.TRANSPORT = name
    yield name
    mounting.TRANSPORT = "kernel"


@pytest.fixture
def point(tmp_path: Path) -> Path:
    """An empty directory to mount on."""
    need_fuse()
    directory = tmp_path / "m"
    directory.mkdir()
    return directory


class Crash(NamedTuple):
    """A core of tests/programs/crash.c, the program, the words that it was started with, and who wrote the core."""

    core: Path
    program: Path
    arguments: tuple[str, ...]
    writer: str  # "kernel" or "gdb"


@pytest.fixture(scope="session")
def crash_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tests/programs/crash.c, compiled, in a directory of its own."""
    need_tools("cc")
    work = tmp_path_factory.mktemp("crash")
    source = REPO / "tests" / "programs" / "crash.c"
    subprocess.run(["cc", "-O1", "-g", "-pthread", "-o", work / "crash", source], check=True, timeout=120)
    return work / "crash"


@pytest.fixture(scope="session")
def crash_core(crash_program: Path, request: pytest.FixtureRequest) -> Crash:
    """The kernel's own core of a crashed program, made now; gdb's, with a warning, where the kernel writes none."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if "/" in pattern or pattern.startswith("|"):
        return _instead(request, f"core_pattern leads elsewhere: {pattern}")
    work = crash_program.parent
    before = set(work.iterdir())

    def unlimited() -> None:
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

    done = subprocess.run(
        ARGUMENTS, executable=crash_program, cwd=work, env=ENVIRONMENT, preexec_fn=unlimited, timeout=60, check=False
    )
    assert done.returncode == -11
    cores = set(work.iterdir()) - before
    if not cores:
        return _instead(request, "the kernel wrote no core (ulimit -H -c is 0?)")
    return Crash(cores.pop(), crash_program, ARGUMENTS, "kernel")


@pytest.fixture(scope="session")
def crash(crash_core: Crash) -> Crash:
    """The same, for the files that read one writer's core alone."""
    return crash_core


def _instead(request: pytest.FixtureRequest, why: str) -> Crash:
    warnings.warn(f"{why}: the tests read a core that gdb wrote", stacklevel=2)
    core: Crash = request.getfixturevalue("crash_by_gdb")
    return core


@pytest.fixture(scope="session")
def crash_by_gdb(crash_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Crash:
    """gdb's core of the same program: it leaves text out, has section headers, and counts NT_FILE in bytes.

    gdb.mappings beside it is what the kernel's own maps said of the process then."""
    need_tools("gdb")
    core = tmp_path_factory.mktemp("gdb") / "gdb.core"
    environment = " ".join(shlex.quote(f"{name}={value}") for name, value in ENVIRONMENT.items())
    commands = (
        "set debuginfod enabled off", f"set exec-wrapper env -i {environment}", "run", f"generate-core-file {core}",
        "info proc mappings", "kill",
    )  # fmt: skip
    words = [word for command in commands for word in ("-ex", command)]
    done = run("gdb", "-q", "-nx", "-batch", *words, "--args", crash_program, *ARGUMENTS[1:], timeout=120)
    need(core.exists(), f"gdb wrote no core: {done.stderr.decode(errors='replace')[-300:]}")
    core.with_suffix(".mappings").write_bytes(done.stdout)
    return Crash(core, crash_program, (str(crash_program), *ARGUMENTS[1:]), "gdb")


@pytest.fixture(scope="session")
def secret_core() -> Path:
    """The core that the repository carries."""
    return REPO / "examples" / "secret.core"


@pytest.fixture
def small_core(tmp_path: Path) -> Path:
    """A made core with every kind of note that is decoded, of two segments."""
    path = tmp_path / "small.core"
    path.write_bytes(makecore.small_core())
    return path
