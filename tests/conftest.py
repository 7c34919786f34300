"""Fixtures that several files of tests share."""

import contextlib
import importlib.util
import os
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
from living import Live, compiled, running
from needs import REPO, need, need_fuse, need_tools, run

from memfs.fuse.transport import LACKS, TRANSPORTS

ARGUMENTS = ("./crash", "first argument", "", "--third=3")
ENVIRONMENT = {"GREETING": "hello, reader", "EMPTY": "", "UTF8": "grün"}
SECRET = b"a secret in the heap of crash.c"


TRANSPORTED = (
    "test_mount_tree", "test_mount_life", "test_mount_bad", "test_mount_corpus", "test_mount_live", "test_mount_proc",
    "test_mount_others",
)  # fmt: skip
"""Modules that mount in every test; others do in tests with one of these fixtures:"""
MOUNTING = {"point", "user"}

USER = 65534  # an ordinary user: nobody


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kernel_only(why): about the transport that is written here")
    config.addinivalue_line("markers", "needs(what): what a transport may lack (memfs.fuse.transport.LACKS)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All tests of mounts run over every transport, but those that are about what one of them cannot do
    (tests/test_transports.py counts them)."""
    if metafunc.module.__name__ in TRANSPORTED or MOUNTING & set(metafunc.fixturenames):
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


@pytest.fixture(autouse=True)
def went_through(transport: str, request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that is said to run over a transport has mounted through it, or the module's mount did."""
    mounting.USES.clear()
    yield
    shared = {"mnt", "mount_of_the_module"} & set(request.fixturenames)
    assert transport == "kernel" or shared or transport in mounting.USES, f"nothing went through {transport}"


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


@pytest.fixture(scope="session")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter in a venv where memfs is installed, and nothing else is: every user can run it."""
    base = next((p for p in ("/usr/bin/python3", sys.executable) if Path(p).exists() and usable(p)), None)
    need(base, "no Python 3.11 that an ordinary user can run")
    home = Path("/tmp") / f"memfs-venv-{os.getpid()}"
    done = run(base, "-m", "venv", "--without-pip", home, timeout=120)
    if done.returncode:  # the system's Python without its venv: a venv is a link and a line
        (home / "bin").mkdir(parents=True, exist_ok=True)
        (home / "bin" / "python").symlink_to(os.path.realpath(str(base)))
        (home / "pyvenv.cfg").write_text(f"home = {Path(os.path.realpath(str(base))).parent}\n")
    python = home / "bin" / "python"
    places = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.decode().strip()
    Path(places).mkdir(parents=True, exist_ok=True)
    run("cp", "-r", REPO / "memfs", places)
    run("cp", REPO / "mount-helpers" / "mount.memfs", Path(places) / "memfs" / "cli")
    assert run(python, "-I", "-m", "memfs", "--version", cwd="/").returncode == 0
    yield python
    run("rm", "-rf", home)


def usable(python: str) -> bool:
    who = {"user": USER} if os.geteuid() == 0 else {}
    with contextlib.suppress(PermissionError):
        return run(python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))", **who).returncode == 0
    return False


@pytest.fixture(scope="session")
def live_programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the programs that are looked at while they run, compiled: pages, moving."""
    need_tools("cc")
    work = tmp_path_factory.mktemp("live")
    for name in ("pages", "moving"):
        source = REPO / "tests" / "programs" / f"{name}.c"
        subprocess.run(["cc", "-O1", "-pthread", "-o", work / name, source], check=True, timeout=120)
    return work


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """programs/live.c, compiled."""
    return compiled(tmp_path_factory.mktemp("live"))


@pytest.fixture
def live(program: Path) -> Iterator[Live]:
    """That program, running; it waits for a word."""
    with running(program) as process:
        process.settle()
        yield process


@pytest.fixture
def mount(live: Live, point: Path) -> Iterator[Path]:
    """A mount of that process."""
    with mounting.mounted(live.pid, point):
        yield point


@pytest.fixture
def everything(point: Path) -> Iterator[Path]:
    """A mount of /proc."""
    with mounting.mounted("/proc", point):
        yield point
