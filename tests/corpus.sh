#!/bin/sh
# Hold an installed memfs against the oracles of ../shared, from outside, two checks at a time. corpus.sh [MEMFS]
set -u
MEMFS=${1:-memfs}
MEMFS=$(cd "$(dirname "$MEMFS")" && pwd)/$(basename "$MEMFS")
export MEMFS
checks=$(cd "$(dirname "$0")/.." && pwd)/../shared/checks
if [ ! -f "$checks/corpus.py" ]; then
    echo "corpus.sh: there is no ../shared/checks here: nothing was checked"
    exit 0
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
python=$(dirname "$MEMFS")/python
run() { # WHAT...: one after the other
    for what in "$@"; do
        MACHINES=EM_X86_64,EM_386,EM_ARM,EM_AARCH64 "$python" "$checks/corpus.py" "$what" >"$out/$what" 2>&1 ||
            touch "$out/failed"
        sed "s/^/$what: /" "$out/$what"
    done
}
run probes &
run headers segments notes registers auxv files siginfo tree
wait
[ ! -e "$out/failed" ]
