"""What a user installs: the wheel in a fresh venv, away from the checkout."""

import os
import re
import sys
import zipfile
from pathlib import Path

import pytest
from mounting import eventually, mount_lines, one_line, remove
from needs import REPO, need, need_fuse, need_tools, run

import memfs as package

SHARE = REPO / "share"
CLEAN = {"PATH": os.environ["PATH"], "HOME": "/dev/null", "LC_ALL": "C.UTF-8"}  # where nobody can leave anything


def build(what: str, source: Path, directory: Path) -> Path:
    """A wheel or sdist of a source tree."""
    done = run(sys.executable, "-m", "hatchling", "build", "-t", what, "-d", directory, cwd=source, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    (made,) = directory.glob("*.whl" if what == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", REPO, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv with nothing but pip, and the wheel installed by it."""
    venv = tmp_path_factory.mktemp("fresh") / "venv"
    done = run(sys.executable, "-m", "venv", venv, timeout=120)
    need(done.returncode == 0, f"no venv: {done.stdout.decode()[-200:]}")
    pip = (venv / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", wheel)
    done = run(*pip, cwd="/", env=CLEAN, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return venv


def files(below: Path) -> set[str]:
    return {str(path.relative_to(below)) for path in below.rglob("*") if path.is_file()}


def test_what_the_wheel_ships(wheel: Path) -> None:
    """The package, the helper, manual and completions; no tests, nothing that was compiled."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"share/{name}" for name in files(SHARE)} == {n.partition(".data/data/")[2] for n in names if ".data/" in n}
    sources = {str(path.relative_to(REPO)) for path in (REPO / "memfs").rglob("*.py")}
    assert sources | {"memfs/cli/mount.memfs", "memfs/py.typed"} == {n for n in names if n.startswith("memfs/")}
    assert all(n.startswith(("memfs/", f"memfs_fuse-{package.__version__}.")) for n in names)


def test_a_wheel_of_the_sdist_is_the_same(wheel: Path, tmp_path: Path) -> None:
    sdist = build("sdist", REPO, tmp_path)
    assert run("tar", "-xf", sdist, cwd=tmp_path).returncode == 0
    again = build("wheel", tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path / "again")
    first, second = (zipfile.ZipFile(path) for path in (wheel, again))
    assert {(i.filename, i.CRC) for i in first.infolist()} == {(i.filename, i.CRC) for i in second.infolist()}


def test_the_command(installed: Path, secret_core: Path) -> None:
    """From elsewhere, without any variable that would find the checkout."""
    memfs = installed / "bin" / "memfs"
    done = run(memfs, "--version", cwd="/", env=CLEAN)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"memfs {package.__version__}\n".encode(), b"")
    done = run(memfs, "cat", secret_core, "comm", cwd="/", env=CLEAN)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"secret\n", b"")
    place = run(installed / "bin" / "python", "-c", "import memfs; print(memfs.__file__)", cwd="/", env=CLEAN).stdout
    assert place.decode().startswith(str(installed))
    done = run(memfs, "mount", "-o", "fuse=mfusepy", secret_core, "/", cwd="/", env=CLEAN)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_the_helper_mounts(installed: Path, secret_core: Path, tmp_path: Path) -> None:
    """install-helper --prefix, then as mount(8) calls it: with its own PATH and hardly any environment."""
    done = run(installed / "bin" / "memfs", "install-helper", "--prefix", tmp_path, cwd="/", env=CLEAN)
    assert (done.returncode, done.stderr) == (0, b"")
    helper = tmp_path / "sbin" / "mount.memfs"
    assert files(tmp_path) == {"sbin/mount.memfs", "sbin/mount.fuse.memfs"}
    assert str(installed / "bin" / "python") in helper.read_text()
    need_fuse()
    point = tmp_path / "m"
    point.mkdir()
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    try:
        done = run(helper, secret_core, point, "-o", "ro,noexec,nosuid,nodev,user,nofail", cwd="/", env=environment)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert (point / "comm").read_bytes() == b"secret\n"
        assert run(installed / "bin" / "memfs", "umount", point, cwd="/", env=CLEAN).returncode == 0
        eventually(lambda: not mount_lines(point), "the mount is gone")
    finally:
        remove(point)
    one_line(run(helper, "/nonexistent", point, cwd="/", env=environment), "No such file", status=32)


@pytest.mark.parametrize("page", ["1 memfs", "5 memfs", "8 mount.memfs"])
def test_man_finds_the_pages(installed: Path, page: str) -> None:
    """Where pip put them, man(1) finds them by $MANPATH, and by $PATH alone."""
    need_tools("man")
    section, name = page.split()
    path = installed / "share" / "man" / f"man{section}" / f"{name}.{section}"
    assert path.read_bytes() == (SHARE / "man" / f"man{section}" / f"{name}.{section}").read_bytes()
    environment = {**CLEAN, "MANPATH": str(installed / "share" / "man"), "MANPAGER": "cat", "MANWIDTH": "80"}
    assert run("man", "-w", section, name, env=environment).stdout.decode().strip() == str(path)
    text = run("man", section, name, env=environment)
    assert text.returncode == 0
    assert re.search(rf"^{name}\({section}\)", text.stdout.decode(), re.M | re.I)
    by_path = {**CLEAN, "PATH": f"{installed / 'bin'}:{CLEAN['PATH']}"}
    assert run("man", "-w", section, name, env=by_path).stdout.decode().strip() == str(path)


@pytest.mark.parametrize(
    ("shell", "file", "script"),
    [
        ("bash", "bash-completion/completions/memfs", "source {file}; complete -p memfs"),
        ("zsh", "zsh/site-functions/_memfs", "fpath=({dir}); autoload -Uz +X _memfs; whence -v _memfs"),
        ("fish", "fish/vendor_completions.d/memfs.fish", "source {file}; complete -C 'memfs doc'"),
    ],
)
def test_completions_are_where_shells_look(installed: Path, shell: str, file: str, script: str, tmp_path: Path) -> None:
    """Below share/, as the shells' own directories are, and each shell takes its own."""
    path = installed / "share" / file
    assert path.read_bytes() == (SHARE / file).read_bytes()
    need_tools(shell)
    done = run(
        shell, "-c", script.format(file=path, dir=path.parent), env={**CLEAN, "HOME": str(tmp_path), "TERM": "dumb"}
    )
    assert (done.returncode, done.stderr) == (0, b""), done
    assert re.search(rb"memfs|doctor", done.stdout)


def test_pip_takes_it_away_again(wheel: Path, tmp_path: Path) -> None:
    """Nothing of it stays."""
    venv = tmp_path / "venv"
    need(run(sys.executable, "-m", "venv", venv, timeout=120).returncode == 0, "no venv")
    before = files(venv)
    pip = venv / "bin" / "pip"
    quiet = ("--quiet", "--disable-pip-version-check")
    assert run(pip, "install", *quiet, "--no-index", wheel, cwd="/", env=CLEAN, timeout=120).returncode == 0
    assert len(files(venv)) > len(before) + 50
    assert run(pip, "uninstall", *quiet, "--yes", "memfs-fuse", cwd="/", env=CLEAN, timeout=120).returncode == 0
    assert {name for name in files(venv) - before if "__pycache__" not in name} == set()
