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
run() { # SCRIPT WHAT...: one after the other
    script=$1
    shift
    for what in "$@"; do
        MACHINES=EM_X86_64,EM_386,EM_ARM,EM_AARCH64 "$python" "$checks/$script" "$what" >"$out/$what" 2>&1 ||
            touch "$out/failed"
        sed "s/^/$what: /" "$out/$what"
    done
}
run corpus.py probes &
run corpus.py headers segments notes registers auxv files siginfo tree
if [ -f "$checks/kernels.py" ]; then run kernels.py info areas symbols banner; fi
wait
[ ! -e "$out/failed" ]
