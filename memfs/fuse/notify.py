"""What a service manager that started us is told: sd_notify(3), without its library."""

from __future__ import annotations

import contextlib
import os


def notify(*lines: str) -> None:
    """Send to $NOTIFY_SOCKET, a path or (with @) an abstract name; nothing if there is none, or nobody listens."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if name[:1] not in ("/", "@"):
        return
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        address = "\0" + name[1:] if name[0] == "@" else name
        with contextlib.suppress(OSError):  # a manager that is gone is no reason to end
            to.sendto("\n".join(lines).encode(errors="surrogateescape"), address)
