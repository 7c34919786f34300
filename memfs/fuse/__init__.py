"""The tree as a mounted filesystem: the kernel's FUSE protocol, spoken on /dev/fuse without a library."""
