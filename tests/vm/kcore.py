"""A guest with /proc/kcore mounted, and what the mount and the guest's /proc said at one moment."""

import json
import re
import sys
from typing import Any

from needs import REPO

from vm.boot import MEMFS, Guest

PAGE = 4096
POINT = "/run/k"
PROBE = REPO / "tests" / "vm" / "inside" / "kcore.py"
TEXTS = ("iomem", "modules", "version", "cmdline", "vmallocinfo")  # as /proc has them


class Kernel:
    """A guest with /proc/kcore mounted, and what both said at one moment."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        done = guest.sh(f"""
            echo 1 > /proc/sys/kernel/kptr_restrict
            mkdir -p {POINT}
            memfs() {{ {MEMFS} "$@"; }}
            memfs mount /proc/kcore {POINT} || exit
            mkdir proc memfs
            exec 2>refused
            for name in {" ".join(TEXTS)}; do cat /proc/$name > proc/$name; cat {POINT}/$name > memfs/$name; done
            grep -w -E '_[se](text|data)|__(start|end)_rodata|__bss_(start|stop)' /proc/kallsyms > proc/symbols
            cat /sys/kernel/notes > proc/notes
            for name in info.json regions.json segments.json vmcoreinfo maps; do cat {POINT}/$name > memfs/$name; done
            ls -U {POINT} > memfs/root
            ls -U {POINT}/regions > memfs/regions
            ls -l {POINT}/segments > memfs/segments
            getfattr --absolute-names -n user.memfs.address {POINT}/mem {POINT}/regions/* > memfs/addresses
            nproc > proc/nproc
            uname -r > proc/release
        """)
        assert done.returncode == 0, done.stderr.decode()
        self.refused = (done.directory / "refused").read_text()
        self.directory = done.directory
        self.loads = [tuple(load) for load in self.probe("loads")]
        self.regions = {row["name"]: row for row in json.loads(self.memfs("regions.json"))}
        self.info = json.loads(self.memfs("info.json"))
        self.vmcoreinfo = dict(line.split("=", 1) for line in self.memfs("vmcoreinfo").splitlines() if "=" in line)

    def remount(self) -> None:
        """Another memfs, in other pages."""
        done = self.guest.sh(f"{MEMFS} umount {POINT} && {MEMFS} mount /proc/kcore {POINT}")
        assert done.returncode == 0, done.stderr.decode()

    def memfs(self, name: str) -> str:
        """What the mount said when it was new."""
        return (self.directory / "memfs" / name).read_text()

    def proc(self, name: str) -> str:
        """What /proc said then."""
        return (self.directory / "proc" / name).read_text()

    def probe(self, *words: object, timeout: float = 120) -> Any:
        """tests/vm/inside/kcore.py, in the guest."""
        done = self.guest.run(sys.executable, PROBE, *words, timeout=timeout)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def address(self, area: str) -> int:
        return int(self.regions[area]["address"], 16)

    def constant(self) -> list[tuple[int, int]]:
        """[start, end) of code and of constants: what does not change by being looked at, as locks do."""
        return self._between(("_stext", "_etext"), ("__start_rodata", "__end_rodata"))

    def variables(self) -> list[tuple[int, int]]:
        """[start, end) of what is in the kernel's image and changes. Between these and what is constant are pages that
        the image does not need: the kernel gives them to whoever wants some, and so to who reads them here."""
        return self._between(("_sdata", "_edata"), ("__bss_start", "__bss_stop"))

    def _between(self, *names: tuple[str, str]) -> list[tuple[int, int]]:
        """[start, end) of whole pages between symbols."""
        symbols = {line.split()[2]: int(line.split()[0], 16) for line in self.proc("symbols").splitlines()}
        return [(-(-symbols[start] // PAGE) * PAGE, symbols[end] & -PAGE) for start, end in names]

    def ram(self) -> list[tuple[int, int]]:
        """System RAM of /proc/iomem in whole pages: [start, end)."""
        return ram(self.proc("iomem"))


def ram(iomem: str) -> list[tuple[int, int]]:
    found = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) : System RAM", iomem, re.MULTILINE)
    pages = [(-(-int(start, 16) // PAGE) * PAGE, (int(end, 16) + 1) // PAGE * PAGE) for start, end in found]
    return [(start, end) for start, end in pages if start < end]
