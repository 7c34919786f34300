"""The machine that memfs doctor examines: its small files, devices, libraries, programs, capabilities, namespaces.

Everything is below a root, so that tests make machines of files; what can only be tried on the running kernel (a new
user namespace, who owns the mounts) is tried where that root is `/`. Nothing here changes the machine."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from typing import NamedTuple

from memfs.errors import printable

_NS_GET_USERNS = 0xB701  # _IO(0xb7, 1), include/uapi/linux/nsfs.h, Linux 6.12
_CLONE_NEWUSER = 0x10000000  # include/uapi/linux/sched.h
_ALL_IDS = ["0", "0", "4294967295"]  # /proc/self/uid_map outside of any user namespace
_LIBRARIES = ("lib", "lib64", "usr/lib", "usr/lib64", "usr/local/lib", "lib/*-linux-*", "usr/lib/*-linux-*")


class Machine(NamedTuple):
    """Where to look, and as whom: -1 is who runs this."""

    root: str = "/"
    uid: int = -1

    @property
    def is_root(self) -> bool:
        return (os.geteuid() if self.uid < 0 else self.uid) == 0

    @property
    def is_this(self) -> bool:
        """Whether it is the machine that this runs on."""
        return self.root == "/"

    def path(self, *parts: str) -> str:
        return os.path.join(self.root, *parts)

    # -- files and devices ---------------------------------------------------------------------------------------

    def text(self, *parts: str) -> str | None:
        """A small file, None if it cannot be read."""
        try:
            with open(self.path(*parts), encoding="utf-8", errors="replace") as file:
                return file.read(1 << 16).strip()
        except OSError:
            return None

    def word(self, *parts: str) -> str | None:
        """The same, of which the beginning is fit to be shown: what is expected is a word or a number."""
        text = self.text(*parts)
        return None if text is None else printable(text[:40])

    def opened(self, path: str, flags: int = os.O_RDONLY) -> OSError | None:
        """Why a file cannot be opened, None if it can. Its first bytes are not read."""
        try:
            os.close(os.open(self.path(path), flags | os.O_CLOEXEC | os.O_NONBLOCK))
        except OSError as error:
            return error
        return None

    def device(self, path: str) -> tuple[int, int] | None:
        """The number of a character device: major, minor; None if it is something else. Raises OSError."""
        info = os.stat(self.path(path))
        return (os.major(info.st_rdev), os.minor(info.st_rdev)) if stat.S_ISCHR(info.st_mode) else None

    def program(self, *names: str) -> str | None:
        """The first of some programs that is on PATH."""
        places = [*filter(None, os.environ.get("PATH", "").split(":")), "/usr/bin", "/bin"]
        for name in names:
            for directory in places:
                path = self.path(directory.lstrip("/"), name)
                if os.path.isfile(path) and os.access(path, os.X_OK):
                    return path
        return None

    def loads(self, library: str) -> bool:
        """Whether a library is there, and can be loaded into this process."""
        return any(_loaded(path) for path in self._libraries(library))

    def _libraries(self, library: str) -> Iterator[str]:
        import glob

        if self.is_this:
            yield library  # the loader knows more places
        for place in _LIBRARIES:
            yield from glob.glob(os.path.join(glob.escape(self.root), place, library))

    # -- what this process may do --------------------------------------------------------------------------------

    def status(self, key: str) -> str | None:
        """A line of /proc/self/status, None if there is none."""
        lines = (self.text("proc/self/status") or "").splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{key}:")), None)

    def capabilities(self) -> int | None:
        """CapEff of this process, None if it cannot be seen or is no such number."""
        mask = self.status("CapEff") or ""
        return int(mask, 16) if re.fullmatch("[0-9a-f]{1,16}", mask) else None

    def has_name(self) -> bool:
        """Whether who runs this has a name, in /etc/passwd or where else users are known from."""
        import pwd

        try:
            pwd.getpwuid(os.getuid())
        except KeyError:
            return False
        return True

    # -- namespaces ----------------------------------------------------------------------------------------------

    def in_user_namespace(self) -> bool:
        """Whether this is a user namespace other than the machine's own."""
        text = self.text("proc/self/uid_map")
        return text is not None and text.split() != _ALL_IDS

    def owns_mounts(self) -> bool:
        """Whether the mounts that this process sees belong to its user namespace: mount(2) needs that. True where the
        kernel does not say (ioctl_ns(2), Linux 4.9)."""
        import fcntl

        try:
            with open(self.path("proc/self/ns/mnt"), "rb") as mounts:
                owner = fcntl.ioctl(mounts, _NS_GET_USERNS)
        except OSError as error:
            return error.errno != errno.EPERM  # the owner is outside of what we may see
        try:
            return os.path.samestat(os.fstat(owner), os.stat(self.path("proc/self/ns/user")))
        except OSError:
            return True
        finally:
            os.close(owner)

    def refuses_user_namespace(self) -> int:
        """The errno of making a user namespace, 0 if it works; a child tries it, and ends."""
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        child = os.fork()
        if not child:
            os._exit(ctypes.get_errno() if libc.unshare(_CLONE_NEWUSER) else 0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _loaded(path: str) -> bool:
    import ctypes

    try:
        ctypes.CDLL(path)
    except OSError:
        return False
    return True
