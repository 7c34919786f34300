"""cd tests && python -m vm [MACHINE] SCRIPT: boot a guest, run a script of sh(1) in it, say what it said.

The script runs in a directory of its own; `memfs` in it is memfs. MACHINE is a row of MACHINES (machines.py)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from vm.boot import MEMFS, booted
from vm.machines import MACHINES

if __name__ == "__main__":
    *names, script = sys.argv[1:]
    with booted(MACHINES[names[0] if names else "4-level"]) as guest:
        done = guest.sh(f'memfs() {{ {MEMFS} "$@"; }}\n{script}', timeout=600)
    sys.stdout.buffer.write(done.stdout)
    sys.stderr.buffer.write(done.stderr)
    sys.exit(done.returncode)
