"""Kernels and busybox out of the distribution's packages, by name, unpacked once into a cache and never installed."""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from needs import need, need_tools, run

DOWNLOAD = 300  # seconds


class Kernel(NamedTuple):
    """A kernel package, unpacked: `release` as uname -r says it, the image that qemu boots, the tree of modules."""

    release: str
    image: Path
    modules: Path


def cache() -> Path:
    """Where packages are kept unpacked: $MEMFS_VM_CACHE, or memfs-vm in the user's cache."""
    chosen = os.environ.get("MEMFS_VM_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "memfs-vm"


def kernel(name: str) -> Kernel:
    """The newest kernel of a package that depends on it (linux-image-cloud-amd64), or the kernel's own package."""
    need_tools("apt-get", "dpkg-deb")
    tree = unpacked(_newest(name))
    images = [*tree.glob("boot/vmlinuz-*"), *tree.glob("usr/lib/modules/*/vmlinuz")]
    modules = [*tree.glob("lib/modules/*"), *tree.glob("usr/lib/modules/*")]
    assert len(images) == len(modules) == 1, f"{name} holds {images} and {modules}"
    return Kernel(modules[0].name, images[0], modules[0])


def busybox() -> Path:
    """A shell with all that it takes to mount a root, in one file without libraries."""
    return unpacked("busybox-static") / "bin" / "busybox"


def unpacked(name: str) -> Path:
    """The tree of a package, out of the cache or the archive."""
    base = cache()
    base.mkdir(parents=True, exist_ok=True)
    with _alone(base / "lock"):
        version = _policy(name)
        tree = base / f"{name}_{version.replace(':', '%3a')}"
        if not tree.exists():
            with tempfile.TemporaryDirectory(dir=base) as work:
                _download(name, Path(work))
                (package,) = Path(work).glob("*.deb")
                subprocess.run(["dpkg-deb", "-x", package, f"{work}/tree"], check=True, timeout=DOWNLOAD)
                shutil.move(f"{work}/tree", tree)
        return tree


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Two processes of one test run want the same kernel."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _newest(name: str) -> str:
    """linux-image-cloud-amd64 is an empty package that depends on the current kernel's."""
    text = run("apt-cache", "depends", "--important", name).stdout.decode()
    found = re.findall(r"Depends: (linux-image-\d\S+)", text)
    return found[0] if found else name


def _policy(name: str) -> str:
    """The version that apt would take."""
    text = run("apt-cache", "policy", name, env={**os.environ, "LC_ALL": "C"}).stdout.decode()
    found = re.search(r"Candidate: (\S+)", text)
    need(found and found[1] != "(none)", f"apt knows no package {name} (apt-get update)")
    assert found
    return found[1]


def _download(name: str, directory: Path) -> None:
    done = run("apt-get", "download", "-qq", "-oAPT::Sandbox::User=root", name, cwd=directory, timeout=DOWNLOAD)
    need(done.returncode == 0, f"apt-get download {name}: {done.stderr.decode(errors='replace').strip()[-300:]}")
