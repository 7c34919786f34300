#!/bin/sh
# Make secret.core again: the kernel's own core of secret.c. Needs cc, and core_pattern to be a plain file name.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d /tmp/demo.XXXXXX)
trap 'rm -rf "$work"' EXIT
case $(cat /proc/sys/kernel/core_pattern) in
'|'* | */*) echo "make-core.sh: core_pattern leads elsewhere; set it to: core" >&2; exit 1 ;;
esac
mkdir "$work/demo"
cc -O1 -g0 -o "$work/demo/secret" "$here/secret.c" -pthread
cd "$work/demo"
# 0x31: private anonymous memory, ELF headers of files, private huge pages; not shared memory.
echo 0x31 >/proc/$$/coredump_filter
(ulimit -c unlimited && exec env -i HOME=/home/alice LANG=C GREETING='hello, reader' ./secret --account alice) || true
mv core* "$here/secret.core"
chmod 644 "$here/secret.core"
ls -l "$here/secret.core"
