"""Kernel symbols: directories of 150,000 of them against C, how long they take to read, and symbolize."""

import contextlib
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

from inputs import PAGE
from processes import Memfs, compile_c, mountpoint, resident_mb, run, serving, timed, unmount
from report import Results, Row, Task, compare, interleave

HERE = Path(__file__).resolve().parent
TEXT = 0xFFFFFFFF81000000
EACH = 64  # bytes of a symbol
RELEASE = "6.12.0-bench"

_WORDS = (
    "acpi_ alloc_ arch_ attr_ bdev_ bio_ blk_ bpf_ bus_ cache_ cgroup_ check_ clear_ clk_ copy_ cpu_ crypto_ dentry_ "
    "dev_ do_ drm_ ext4_ file_ find_ flow_ fs_ get_ gpio_ handle_ hid_ hw_ id_ init_ inode_ io_ ip6_ irq_ key_ kvm_ "
    "led_ list_ lock_ map_ mem_ mm_ msi_ net_ netdev_ nf_ node_ of_ page_ pci_ perf_ phy_ pid_ pm_ power_ proc_ put_ "
    "queue_ rb_ rcu_ read_ reg_ ring_ sched_ scsi_ set_ show_ skb_ sk_ snd_ store_ sys_ task_ tcp_ time_ trace_ tty_ "
    "udp_ usb_ user_ vfs_ vm_ wait_ work_ write_ xfs_ xdp_"
)
WORDS = _WORDS.split()


def names(count: int) -> list[str]:
    """So many names, as long as those of a kernel: three words and a number."""
    size = len(WORDS)
    return ["_stext", *(f"{WORDS[i % size]}{WORDS[i // 7 % size]}{WORDS[i // 77 % size]}{i}" for i in range(1, count))]


def kernel(path: Path, count: int) -> None:
    """A vmcore whose kernel has so many symbols: kallsyms tables as of Linux 6.4, and VMCOREINFO."""
    tokens = [*("" for _ in range(48)), *map(chr, range(48, 58)), "T", "_stext", *WORDS]
    tokens += [""] * (256 - len(tokens))
    number = {token: index for index, token in enumerate(tokens) if token}
    listed = []
    for index, name in enumerate(names(count)):
        size = len(WORDS)
        words = [WORDS[index % size], WORDS[index // 7 % size], WORDS[index // 77 % size], *str(index)]
        body = bytes(number[word] for word in ["T", *(words if index else [name])])
        listed.append(bytes([len(body)]) + body)
    starts = [sum(len(token) + 1 for token in tokens[:index]) for index in range(256)]
    tables = {
        "num_syms": struct.pack("<Q", count),
        "names": b"".join(listed),
        "token_table": b"".join(token.encode() + b"\0" for token in tokens),
        "token_index": struct.pack("<256H", *starts),
        "offsets": struct.pack(f"<{count}I", *(EACH * index for index in range(count))),
        "relative_base": struct.pack("<Q", TEXT),
    }
    memory = bytearray(count * EACH)
    info = f"OSRELEASE={RELEASE}\nPAGESIZE=4096\nSYMBOL(_stext)={TEXT:x}\nKERNELOFFSET=0\n"
    for name, table in tables.items():
        memory += bytes(-len(memory) % 8)
        info += f"SYMBOL(kallsyms_{name})={TEXT + len(memory):x}\n"
        memory += table
    desc = info.encode()
    note = struct.pack("<III12s", 11, len(desc), 0, b"VMCOREINFO") + desc + bytes(-len(desc) % 4)
    data = -(-(64 + 2 * 56 + len(note)) // PAGE) * PAGE
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    ehdr = struct.pack("<16sHHIQQQIHHHHHH", ident, 4, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    phdrs = struct.pack("<IIQQQQQQ", 4, 0, 64 + 2 * 56, 0, 0, len(note), len(note), 4)
    phdrs += struct.pack("<IIQQQQQQ", 1, 7, data, TEXT, 0x1000000, len(memory), len(memory), PAGE)
    path.write_bytes((ehdr + phdrs + note).ljust(data, b"\0") + memory)


class Symbols:
    """A directory of 150,000 symbols; reading 190,000 out of memory and 150,000 lines; naming addresses."""

    COUNT = 150_000
    MANY = 190_000
    LINES = 100_000
    LISTS: ClassVar = {"ls -f": ["ls", "-f"], "ls -l": ["ls", "-l"]}

    def __init__(self, memfs: Memfs, programs: Path, directory: Path) -> None:
        self.memfs, self.programs, self.directory = memfs, programs, directory

    def image(self, count: int) -> Path:
        path = self.directory / f"kernel-{count}"
        if not path.exists():
            kernel(path, count)
        return path

    def list_of(self, count: int) -> Path:
        path = self.directory / f"kallsyms-{count}"
        if not path.exists():
            lines = (f"{TEXT + EACH * index:016x} T {name}\n" for index, name in enumerate(names(count)))
            path.write_text("".join(lines))
        return path

    def text(self) -> Path:
        """Lines of dmesg with an address each, few of them twice."""
        path = self.directory / "dmesg"
        if not path.exists():
            with path.open("w") as out:
                for line in range(self.LINES):
                    address = TEXT + line * 40_503 % (self.COUNT * EACH)
                    out.write(
                        f"[{line:5}.609266] Modules: RIP: 0010:[<{address:016x}>] EFLAGS: 00010246 and the rest\n"
                    )
        return path

    @contextlib.contextmanager
    def c(self) -> Iterator[Path]:
        """The same names and sizes, by C."""
        program, listed = self.programs / "names", self.directory / "names"
        if not program.exists():
            compile_c(HERE / "names.c", program, "fuse3")
        listed.write_text("".join(f"{EACH} {name}\n" for name in names(self.COUNT)))
        with mountpoint(self.programs) as path:
            try:
                run([program, path, listed])
                yield path / "segments"
            finally:
                unmount(path)

    @contextlib.contextmanager
    def ours(self) -> Iterator[Path]:
        with self.memfs.mount(self.image(self.COUNT)) as (path, _):
            yield path / "symbols" / "vmlinux"

    def listing(self, mount: Callable[[], AbstractContextManager[Path]], command: Sequence[str]) -> Task:
        def once() -> dict[str, float]:
            with mount() as path:
                timed(["stat", path / names(2)[1]])  # the symbols have been read: that is measured by itself
                cold = timed(command, cwd=path)
                found = {"cold": cold, "warm": timed(command, cwd=path)}
                top = path.parent if path.name == "segments" else path.parent.parent
                return found | {"rss": resident_mb(serving(top))}

        return once

    def command(self, *words: str | Path) -> Task:
        return lambda: {"ms": self.memfs.timed(*words)}

    def measure(self, runs: int) -> tuple[Results, list[Row]]:
        tasks: dict[str, Task] = {"bare Python": lambda: {"ms": timed([sys.executable, "-I", "-c", "pass"])}}
        for name, command in self.LISTS.items():
            tasks[f"C {name}"] = self.listing(self.c, command)
            tasks[f"memfs {name}"] = self.listing(self.ours, command)
        one = f"symbols/vmlinux/{names(3)[2]}"
        tasks["190,000 from memory"] = self.command("cat", self.image(self.MANY), one)
        tasks["150,000 lines"] = self.command("symbolize", self.list_of(self.COUNT), "/dev/null")
        tasks["symbolize"] = self.command("symbolize", self.list_of(self.COUNT), self.text())
        results = interleave("symbols", tasks, runs)
        rows = []
        for name in self.LISTS:
            for figure, bar in (("cold", 1.1), ("warm", 0.7)):
                rows.append(
                    compare(results, f"symbols, {name}, {figure}", figure, [f"C {name}"], bar, ours=f"memfs {name}")
                )
        rows.append(compare(results, "resident, 150,000 symbols", "rss", bar=110, unit="MB", ours="memfs ls -l"))
        for name, bar in (("190,000 from memory", 2000.0), ("150,000 lines", 600.0)):
            rows.append(compare(results, name, "ms", ["bare Python"], bar, "ms", ours=name))
        name = "100,000 addresses named"
        rows.append(compare(results, name, "ms", ["150,000 lines"], 1000.0, "ms", ours="symbolize"))
        return results, rows
