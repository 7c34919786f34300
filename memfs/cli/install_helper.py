"""memfs install-helper"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys

from memfs.errors import MemfsError, from_os_error

NAMES = ("mount.memfs", "mount.fuse.memfs")  # for mount -t memfs, and for -t fuse.memfs
_OURS = "mount(8)'s helper for memfs"
_CALL = 'memfs() { command memfs "$@"; }'


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prefix", metavar="DIR", default="/", help="write below DIR/sbin (default: /sbin)")
    parser.add_argument("--remove", action="store_true", help="take the helper away again")
    parser.epilog = "Then: mount -t memfs SOURCE MOUNTPOINT, and lines of type memfs in /etc/fstab.\n"


def run(arguments: argparse.Namespace) -> int:
    directory = os.path.join(arguments.prefix, "sbin")
    paths = [os.path.join(directory, name) for name in NAMES]
    for path in paths:
        _check(path)
    text = "" if arguments.remove else _script()
    for path in paths:
        try:
            if arguments.remove:
                if os.path.lexists(path):
                    os.unlink(path)
                    print(f"removed {path}")
            else:
                _write(path, text)
                print(f"installed {path}")
        except OSError as error:
            raise from_os_error(path, error, "cannot write the helper", _hint(error)) from error
    return 0


def _script() -> str:
    """The helper, calling this very interpreter: mount(8)'s PATH knows no venv. -I keeps the caller's directory and
    environment out of what root runs."""
    here = os.path.dirname(os.path.abspath(__file__))
    places = (os.path.join(here, NAMES[0]), os.path.join(here, "..", "..", "mount-helpers", NAMES[0]))
    template = next((place for place in places if os.path.exists(place)), places[0])
    with open(template, encoding="utf-8") as file:
        text = file.read()
    command = (sys.executable, "-I", "-m", "memfs")
    done = subprocess.run((*command, "--version"), cwd="/", capture_output=True, check=False)
    if done.returncode or _CALL not in text:
        raise MemfsError(
            "cannot install the helper", f"{shlex.join(command)} does not work from elsewhere",
            "install memfs where root finds it: in a venv, with pipx, or for all users",
        )  # fmt: skip
    return text.replace(_CALL, f'memfs() {{ {shlex.join(command)} "$@"; }}')


def _check(path: str) -> None:
    """Another program's helper is left alone."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            ours = _OURS in file.read(4096)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(path, error, "cannot read what is there", _hint(error)) from error
    if not ours:
        raise MemfsError("this is another program's", "it is not replaced", "move it away", subject=path)


def _write(path: str, text: str) -> None:
    """Whole or not at all."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    new = f"{path}.new"
    with open(new, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(new, 0o755)
    os.replace(new, path)


def _hint(error: OSError) -> str:
    denied = isinstance(error, PermissionError)
    return f"as root: {shlex.join((sys.executable, '-m', 'memfs', 'install-helper'))}" if denied else ""
