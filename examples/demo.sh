#!/bin/sh
# make demo: mount a program that runs, and a small real core; look at them with ordinary tools. demo.sh [MEMFS]
set -eu
memfs=${1:-memfs}
here=$(cd "$(dirname "$0")" && pwd)
core=$here/secret.core

if [ "$(id -u)" != 0 ] && ! command -v fusermount3 >/dev/null 2>&1; then
    echo "demo: an ordinary user mounts through fusermount3, which comes with the package fuse3; installing it"
    if command -v apt-get >/dev/null; then sudo apt-get install -y -qq fuse3
    elif command -v dnf >/dev/null; then sudo dnf install -y -q fuse3
    elif command -v pacman >/dev/null; then sudo pacman -S --noconfirm fuse3
    else echo "demo: install fuse3 by hand, or run this as root" >&2; exit 1; fi
fi

if ! command -v strings >/dev/null 2>&1; then
    echo "demo: strings (binutils) is not installed; grep stands in for it"
    strings() { grep -a -o '[[:print:]]\{4,\}' "$@"; }
fi

mnt=$(mktemp -d /tmp/memfs-demo.XXXXXX)
keeper=
trap '"$memfs" umount -l "$mnt" 2>/dev/null || true; rmdir "$mnt" 2>/dev/null || true
      [ -z "$keeper" ] || kill "$keeper" 2>/dev/null || true' EXIT INT TERM

show() { # print a command as a user would type it, then run it
    printf '\n$ %s\n' "$1"
    (cd "$mnt" && eval "$1")
}

mkfifo "$mnt.wait"
sh "$here/keeper.sh" <"$mnt.wait" &
keeper=$!
exec 9>"$mnt.wait" # it waits for a line from here
rm "$mnt.wait"
sleep 0.3
until [ "$(cut -d' ' -f3 "/proc/$keeper/stat")" = S ]; do sleep 0.1; done # now it waits for that line

echo "A program holds a secret in its heap, and runs: process $keeper."
printf '\n$ memfs mount %s %s; cd %s\n' "$keeper" "$mnt" "$mnt"
if "$memfs" mount "$keeper" "$mnt"; then
    show 'cat info'
    show 'ls'
    show 'ls regions'
    show 'strings regions/heap | grep the-secret'
    show 'cat threads.json'
    show 'ls -l regions/heap; du -h regions/heap'
    strings "$mnt/regions/heap" | grep -q the-secret-is-marlin
    printf '\n$ memfs umount %s\n' "$mnt"
    "$memfs" umount "$mnt"
    [ "$(cut -d' ' -f3 "/proc/$keeper/stat")" = S ] # it was not even stopped
    printf '\nAll processes at once: memfs mount /proc DIRECTORY\n\n'
elif [ "$(id -u)" != 0 ]; then
    printf '\ndemo: this system lets nobody but root look into a process: going on without\n\n'
else
    exit 1
fi
exec 9>&-

echo "A program held a secret in its heap and crashed. Its core is $core."
printf '\n$ memfs mount secret.core %s; cd %s\n' "$mnt" "$mnt"
"$memfs" mount "$core" "$mnt"
show 'cat info'
show 'ls'
show 'ls regions'
show 'strings regions/heap'
show 'strings regions/heap | grep secret'
show 'cat threads/current/registers.txt'
show 'cat threads/current/siginfo.json'
show 'cat regions.json | head -4'
show 'tr "\0" "\n" <environ'
show 'od -A x -t x1z -N 32 at/0x$(grep -m1 "\[heap\]" maps | cut -d- -f1):32'
printf '\n$ memfs umount %s\n' "$mnt"
"$memfs" umount "$mnt"
found=$("$memfs" cat "$core" regions/heap | strings | grep -c the-secret-is-swordfish)
[ "$found" = 1 ]
echo
echo "The same without a mount: memfs cat examples/secret.core regions/heap | strings"
