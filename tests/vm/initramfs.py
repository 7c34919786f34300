"""The first root of a guest: busybox, the modules it takes to reach the host's tree, and a script that goes there.

The archive is the kernel's newc (Documentation/driver-api/early-userspace/buffer-format.rst), written here, and the
order of modules comes from what they say of themselves, so that neither cpio nor depmod is needed."""

import gzip
import lzma
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

# Takes the host's tree, read only, for its root, a tmpfs over it, and starts AGENT there.
INIT = rb"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module.ko; done
attach() { n=0; until mount "$@" 2>/why; do n=$((n+1)); [ $n -gt 50 ] && { cat /why; return 1; }; sleep 0.1; done; }
attach -t virtiofs -o ro root /lower
mount -t tmpfs over /over
mkdir /over/upper /over/work
mount -t overlay -o lowerdir=/lower,upperdir=/over/upper,workdir=/over/work root /root
for directory in proc sys dev run share; do mkdir -p /root/$directory; done
attach -t virtiofs share /root/share
mount -t tmpfs run /root/run
mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount -t securityfs security /root/sys/kernel/security
mount -t devtmpfs dev /root/dev
mkdir -p /root/dev/shm /root/dev/pts
mount -t tmpfs shm /root/dev/shm
mount -t devpts pts /root/dev/pts
ln -s /proc/self/fd /root/dev/fd
ifconfig lo up
cp /agent /root/run/agent
umount /proc /sys /dev
exec switch_root -c /dev/console /root /bin/sh /run/agent
"""

# Waits for `NUMBER SECONDS` on its line to the host, runs /share/NUMBER/script, answers `NUMBER STATUS`.
AGENT = rb"""
stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
export HOME=/root LANG=C.UTF-8 TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd /root
echo ready >&3
while read -r number seconds <&3; do
    cd /share/$number
    timeout -k 5 $seconds sh ./script >out 2>err </dev/null 3>&-
    echo "$number $?" >&3
done
"""
DIRECTORIES = ("bin", "dev", "lower", "modules", "over", "proc", "root", "sys")


class Entry(NamedTuple):
    """A file of the archive. `device` is (major, minor) of a device node."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def newc(entries: Iterable[Entry]) -> bytes:
    """An archive of entries: each a header of hex fields, its name and its data, each padded to 4 bytes."""
    out = bytearray()
    for inode, entry in enumerate([*entries, Entry("TRAILER!!!", 0)], 1):
        name = entry.name.encode() + b"\0"
        # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        fields = (inode, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
        for part in (b"070701" + b"".join(b"%08x" % field for field in fields) + name, entry.data):
            out += part
            out += bytes(-len(out) % 4)
    return bytes(out)


def initramfs(busybox: bytes, modules: dict[str, bytes]) -> bytes:
    """The archive that a guest boots with: modules are inserted in the order of the dictionary."""
    return newc(
        [
            *(Entry(name, stat.S_IFDIR | 0o755) for name in DIRECTORIES),
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
            Entry("bin/busybox", stat.S_IFREG | 0o755, busybox),
            Entry("init", stat.S_IFREG | 0o755, INIT),
            Entry("agent", stat.S_IFREG | 0o644, AGENT),
            Entry("modules/order", stat.S_IFREG | 0o644, "\n".join(modules).encode()),
            *(Entry(f"modules/{name}.ko", stat.S_IFREG | 0o644, data) for name, data in modules.items()),
        ]
    )


_OPENERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".xz": lzma.decompress, ".gz": gzip.decompress}
_FILE = re.compile(r"(.+)\.ko(\.xz|\.gz)?")


def modules_of(tree: Path, wanted: Iterable[str]) -> dict[str, bytes]:
    """The modules of a kernel that are wanted, and what they depend on before them: name -> bytes of the .ko.

    What the kernel has built in, or does not have, has no module and is left out."""
    files = {}
    for path in tree.rglob("*.ko*"):
        if found := _FILE.fullmatch(path.name):
            files[found[1].replace("-", "_")] = (path, found[2] or "")
    out: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in out or name not in files:
            return
        path, packed = files[name]
        data = _OPENERS[packed](path.read_bytes())
        depends = re.search(rb"\0depends=([^\0]*)\0", data)  # .modinfo: strings that end in NUL
        for needed in depends[1].decode().split(",") if depends else ():
            add(needed.replace("-", "_"))
        out[name] = data

    for name in wanted:
        add(name)
    return out
