"""The tree of a /proc: a directory for every process, as it comes and goes, and files of the machine."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import cache

from memfs.errors import MemfsError, not_found
from memfs.image import Found, Host, Image
from memfs.tree import process
from memfs.tree.live import LiveDir
from memfs.tree.node import Caller, Dir, Generated, Kind, Link, Node, Policy, Who
from memfs.tree.rows import Context, Listing, Make, Row, RowDir

# -- rows ----------------------------------------------------------------------------------------------------------


def _host(context: Context) -> Host:
    host: Host = context.image.container
    return host


def _own(name: str) -> Make:
    """A file of /proc, as the kernel prints it."""
    return lambda context: Generated(lambda: _host(context).text(name))


class SelfLink(Link):
    """A link to the process of whoever reads it."""

    policy = Policy.LIVE

    def __init__(self, host: Host) -> None:
        super().__init__("self")
        self._host = host

    def target_for(self, caller: Caller | None) -> str:
        return str(self._host.process_of(caller.pid) if caller else os.getpid())


def _process(context: Context) -> Node:
    """What a listing needs of a process: that it is a directory."""
    return RowDir(context, (), {})


def _pids(image: Image) -> list[str]:
    host: Host = image.container
    return [str(pid) for pid in host.pids()]


def _listings() -> dict[str, Listing]:
    """The processes of one moment: they are listed once, as names and subjects must belong together."""
    pids = cache(_pids)
    return {"pid": Listing(pids, pids, kind=Kind.DIR)}


HOST = (
    Row("{pid}", _process, "a process: the tree of a process image"),
    Row("self", lambda context: SelfLink(_host(context)), "a link to the process of whoever reads it"),
    Row("stat", _own("stat"), "the kernel's own: times of the processors, when it was started"),
    Row("uptime", _own("uptime"), "the kernel's own"),
    Row("meminfo", _own("meminfo"), "the kernel's own"),
    Row("version", _own("version"), "the kernel's own"),
    Row("mounts", _own("mounts"), "the kernel's own, as memfs sees them"),
    Row("cpuinfo", _own("cpuinfo"), "the kernel's own"),
    Row("loadavg", _own("loadavg"), "the kernel's own"),
)


# -- directories ---------------------------------------------------------------------------------------------------


class HostDir(LiveDir):
    """The root: a process is found by its id without a listing of the others."""

    def __init__(self, image: Image, absent_as_zero: bool) -> None:
        super().__init__(lambda: RowDir(Context(image, absent_as_zero), HOST, _listings()))
        self._host: Host = image.container
        self._absent_as_zero = absent_as_zero
        if self._host.hides:  # it is we to whom it shows everything: others must not see it through us
            self.who = Who(os.getuid(), os.getgid(), image.source.mtime_ns, lambda uid: uid == 0)

    def lookup(self, name: str) -> Node:
        if name.isascii() and name.isdigit() and name == str(int(name)):
            return self._process(int(name))
        return super().lookup(name)

    def _process(self, pid: int) -> Node:
        found = self._host.find(pid)
        who = Who(found.uid, found.gid, found.mtime_ns, lambda uid: self._host.may(uid, found))
        return LiveDir(self._look(found), key=(found.pid, found.start), who=who)

    def _look(self, found: Found) -> Callable[[], Dir]:
        return lambda: process.root(self._host.process(found).now(), self._absent_as_zero)

    def _live(self, name: str, node: Node) -> Node:
        if isinstance(node, Dir):
            try:
                return self._process(int(name))
            except MemfsError as error:
                if error.errno != errno.ENOENT:
                    raise
                raise not_found(name) from error
        return super()._live(name, node)


def root(image: Image, absent_as_zero: bool = False) -> Dir:
    """The root directory of a /proc."""
    return HostDir(image, absent_as_zero)
