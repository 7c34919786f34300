"""Real kernels: boot one of Debian's in qemu with this machine's tree as its root, and run commands in it."""
