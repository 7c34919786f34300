"""The transport through libfuse: mfusepy (libfuse 3 or 2) or fusepy (libfuse 2), over libfuse's high-level API.

Each binding is one class with a method for each callback; these are overridden here, so that a call goes from libfuse
to `Calls` without objects between. libfuse mounts by itself, in the foreground of our own process: that it is ready, it
says by calling `init`, and why it failed, on stderr, which is caught until then."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

from memfs.errors import MemfsError
from memfs.fuse import mount
from memfs.fuse.callbacks import CALLBACKS, Calls
from memfs.fuse.log import Log
from memfs.fuse.transport import Mounting
from memfs.tree.options import IN_FORCE, escape

_FOREVER = 86400 * 365  # seconds
_THREADS = {"max_threads": 64, "max_idle_threads": 10}
"""So many reads may be stuck, less one, and others go on; so many threads stay when all is over."""
_LIMITS_THREADS = 3, 12  # the first libfuse with limits of its own: 10 threads, all of which stay (lib/fuse_loop_mt.c)
_READDIR_PLUS, _FILL_PLUS = 1, 2  # enum fuse_readdir_flags, enum fuse_fill_dir_flags


def _common(binding: ModuleType, calls: Calls) -> type[Any]:
    """The binding's class with its callbacks led to `calls`. Names and arguments are the same in both bindings and
    both versions of libfuse, but for readdir and init."""

    class Common(binding.FUSE):  # type: ignore[misc,name-defined]
        def fgetattr(self, path: bytes, buffer: Any, info: Any) -> int:
            return calls.call("getattr", path, buffer)

        def readlink(self, path: bytes, buffer: Any, size: int) -> int:
            return calls.call("readlink", path, buffer, size)

        def statfs(self, path: bytes, buffer: Any) -> int:
            return calls.call("statfs", path, buffer)

        def open(self, path: bytes, info: Any) -> int:
            return calls.call("open", path, info)

        def read(self, path: bytes, buffer: Any, size: int, offset: int, info: Any) -> int:
            return calls.call("read", path, buffer, size, offset, info)

        def release(self, path: bytes, info: Any) -> int:
            return calls.call("release", path, info)

        def lseek(self, path: bytes, offset: int, whence: int, info: Any) -> int:
            return calls.call("lseek", path, offset, whence, info)

        def getxattr(self, path: bytes, name: bytes, buffer: Any, size: int, *position: int) -> int:
            return calls.call("getxattr", path, name, buffer, size)

        def listxattr(self, path: bytes, buffer: Any, size: int) -> int:
            return calls.call("listxattr", path, buffer, size)

        def opendir(self, path: bytes, info: Any) -> int:
            return calls.call("opendir", path, info)

        def releasedir(self, path: bytes, info: Any) -> int:
            return calls.call("releasedir", path, info)

    return Common


def _fusepy(binding: ModuleType, calls: Calls) -> type[Any]:
    class Fusepy(_common(binding, calls)):  # type: ignore[misc]
        def init(self, connection: Any) -> int:
            return calls.call("init")

        def readdir(self, path: bytes, buffer: Any, filler: Any, offset: int, info: Any) -> int:
            def fill(name: bytes, stat: Any, at: int, full: bool) -> int:
                return int(filler(buffer, name, stat, at))

            return calls.call("readdir", path, fill, binding.c_stat(), info.contents.fh, offset)

    return Fusepy


def _mfusepy(binding: ModuleType, calls: Calls) -> type[Any]:
    class Mfusepy(_common(binding, calls)):  # type: ignore[misc]
        def _init(self, connection: Any, config: Any) -> None:
            calls.call("init")

        def readdir_fuse_2(self, path: bytes, buffer: Any, filler: Any, offset: int, info: Any) -> int:
            def fill(name: bytes, stat: Any, at: int, full: bool) -> int:
                return int(filler(buffer, name, stat, at))

            return calls.call("readdir", path, fill, binding.c_stat(), info.contents.fh, offset)

        def readdir_fuse_3(self, path: bytes, buffer: Any, filler: Any, offset: int, info: Any, flags: int) -> int:
            plus = _FILL_PLUS if flags & _READDIR_PLUS else 0

            def fill(name: bytes, stat: Any, at: int, full: bool) -> int:
                return int(filler(buffer, name, stat, at, plus if full else 0))

            return calls.call("readdir", path, fill, binding.c_stat(), info.contents.fh, offset)

    return Mfusepy


Ready = Callable[[], None]


class Binding(NamedTuple):
    """A row: a Python binding of libfuse, the libraries that it can use, and its class with our callbacks."""

    name: str
    module: str
    libraries: tuple[str, ...]
    front: Callable[[ModuleType, Calls], type[Any]]
    package: str


BINDINGS = (
    Binding("mfusepy", "mfusepy", ("libfuse3.so.3", "libfuse3.so.4", "libfuse.so.2"), _mfusepy, "fuse3"),
    Binding("fusepy", "fuse", ("libfuse.so.2",), _fusepy, "libfuse2"),
)


def _load(binding: Binding) -> ModuleType | None:
    """The binding with the first of its libraries, or None if it is not installed. Raises MemfsError for a library.

    The library is named by its file, which is what both bindings look for first: they would take libfuse 2 before 3,
    and run a compiler to find it. $FUSE_LIBRARY_PATH, if set, is the user's choice."""
    if find_spec(binding.module) is None:
        return None
    if sys.platform == "linux" and not os.environ.get("FUSE_LIBRARY_PATH"):
        library = next((name for name in binding.libraries if _loads(name)), None)
        if library is None:
            raise MemfsError(
                "cannot mount", f"{binding.name} needs {binding.libraries[0]}, and it is not installed",
                f"install {binding.package} (apt install {binding.package}), or leave out -o fuse=", errno.ENOENT,
            )  # fmt: skip
        os.environ["FUSE_LIBRARY_PATH"] = library
    try:
        module = import_module(binding.module)
    except (ImportError, OSError) as error:
        raise MemfsError("cannot mount", f"{binding.name}: {error}", "leave out -o fuse=", errno.ENOENT) from error
    if not hasattr(module, "FUSE"):
        raise MemfsError(
            "cannot mount", f"the module {binding.module} is not {binding.name}'s", f"pip install {binding.name}",
            errno.ENOENT,
        )  # fmt: skip
    return module


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


class Stderr:
    """What is printed on descriptor 2, by whatever language, until `restore` is called; `text` must be asked before."""

    def __enter__(self) -> Stderr:
        self._kept = os.dup(2)
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(write, False)
        os.dup2(write, 2)
        os.close(write)
        return self

    def __exit__(self, *exception: object) -> None:
        self.restore()

    def restore(self) -> None:
        """Give descriptor 2 back, and keep nothing open."""
        if self._kept >= 0:
            os.dup2(self._kept, 2)
            os.close(self._kept)
            os.close(self._read)
            self._kept = -1

    def text(self) -> str:
        """What was printed."""
        try:
            return os.read(self._read, 4096).decode(errors="replace")
        except BlockingIOError:
            return ""


class LibfuseSession:
    """A mount that libfuse serves."""

    def __init__(self, mounting: Mounting, binding: Binding, module: ModuleType, ready: Ready, log: Log) -> None:
        self._mounting = mounting
        self._binding = binding
        self._module = module
        self._stderr = Stderr()
        self._mounted: mount.Mount | None = None
        self._ready = ready
        self._calls = Calls(mounting.files, self._initialized, log, mounting.trace)
        self._calls.context = module.fuse_get_context

    def _initialized(self) -> None:
        self._mounted = mount.find(self._mounting.point)
        self._stderr.restore()
        self._ready()

    def serve(self) -> None:
        front = self._binding.front(self._module, self._calls)
        given = SimpleNamespace(use_ns=True, **dict.fromkeys(CALLBACKS, True))  # for the callbacks to be set at all
        point = self._mounting.point
        with self._stderr as stderr:
            try:
                front(given, _latin(point), foreground=True, raw_fi=True, encoding="latin-1", **self._options())
            except RuntimeError as error:
                if self._mounted is None:
                    raise mount.refused(point, "libfuse", stderr.text() or f"status {error}") from error
                if self._mounted in mount.mounts():
                    raise
                # unmounted in the middle of a request: the kernel says ECONNABORTED then, and libfuse knows ENODEV only

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = dict.fromkeys((*IN_FORCE, "use_ino"), True)
        options |= {"fsname": escape(_latin(self._mounting.source)), "subtype": "memfs"}
        options |= dict.fromkeys(("attr_timeout", "entry_timeout"), 0 if self._mounting.files.live else _FOREVER)
        if self._mounting.allow_other:
            options |= {"allow_other": True, "default_permissions": True}
        version = tuple(getattr(self._module, f"fuse_version_{part}", 2) for part in ("major", "minor"))
        if version[0] == 2:
            options["nonempty"] = True  # as all others mount
        if version >= _LIMITS_THREADS:
            options |= _THREADS
        return options

    def statistics(self) -> str:
        return self._calls.statistics()


def _latin(path: str) -> str:
    """The bytes of a path as characters, as both bindings encode what they are given."""
    return os.fsencode(path).decode("latin-1")


def session(mounting: Mounting, name: str, ready: Ready, log: Log) -> LibfuseSession:
    """A session of the binding of that name; `libfuse` is the first that is installed. Raises MemfsError if none is."""
    rows = [binding for binding in BINDINGS if name in (binding.name, "libfuse")]
    for binding in rows:
        module = _load(binding)
        if module is not None:
            return LibfuseSession(mounting, binding, module, ready, log)
    raise MemfsError(
        "cannot mount", f"{rows[0].name} is not installed",
        f"pip install 'memfs-fuse[{rows[0].name}]', or leave out -o fuse=", errno.ENOENT,
    )  # fmt: skip
