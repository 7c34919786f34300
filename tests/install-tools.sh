#!/bin/sh
# Install what the tests and the bench hold memfs against, from the system's packages; say what cannot be installed.
# With arguments: these packages of Debian's alone.
set -u
wanted=${*:-}
if [ -z "$wanted" ]; then
    need() { command -v "$1" >/dev/null 2>&1 || wanted="$wanted $2"; }
    need fusermount3 fuse3
    library() { ldconfig -p 2>/dev/null | grep -q "$1" || wanted="$wanted $2"; }
    library libfuse3.so.3 libfuse3-3
    library libfuse.so.2 libfuse2
    need zsh zsh
    need fish fish
    need man man-db
    need groff groff
    need systemd-analyze systemd
    need setpriv util-linux
    need gdb gdb
    need cc gcc
    need readelf binutils
    need eu-readelf elfutils
    need getfattr attr
    need file file
    need xxd xxd
    need rg ripgrep
    need pkg-config pkg-config
    [ -e /usr/include/fuse3/fuse.h ] || wanted="$wanted libfuse3-dev"
    [ -e /usr/include/stdio.h ] || wanted="$wanted libc6-dev"
    # programs of 32 bits, which there are of machines of 64 bits alone
    [ "$(uname -m)" != x86_64 ] || echo 'int main(void) { return 0; }' | cc -m32 -x c -o /dev/null - 2>/dev/null ||
        wanted="$wanted libc6-dev-i386 lib32gcc-$(cc -dumpversion | cut -d. -f1)-dev"
fi
[ -n "$wanted" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "install-tools: not installed here:$wanted (Debian's names); tests that need them will say so" >&2
    exit 0
fi
if [ "$(id -u)" = 0 ]; then sudo=; else sudo="sudo -n"; fi
echo "install-tools: apt-get install$wanted" >&2
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
$sudo apt-get install -y -qq --no-install-recommends --no-remove $wanted >/dev/null 2>&1 ||
    { $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends --no-remove $wanted >/dev/null; } ||
    echo "install-tools: could not install$wanted; tests that need them will say so" >&2
exit 0
