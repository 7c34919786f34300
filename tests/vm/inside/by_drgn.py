"""In a guest: what drgn says of a kernel image. Prints an object of JSON.

python by_drgn.py IMAGE ADDRESS:SIZE ... ; IMAGE is a core, or - for the running kernel"""

import json
import sys

import drgn


def main(image: str, *pieces: str) -> None:
    program = drgn.Program()
    if image == "-":
        program.set_kernel()
    else:
        program.set_core_dump(image)
    platform = program.platform
    assert platform
    numbers = [tuple(int(word, 0) for word in piece.split(":")) for piece in pieces]
    json.dump(
        {
            "arch": platform.arch.name,
            "is_kernel": bool(program.flags & drgn.ProgramFlags.IS_LINUX_KERNEL),
            "release": program["UTS_RELEASE"].string_().decode(),
            "page_size": program["PAGE_SIZE"].value_(),
            "bytes": [program.read(address, size).hex() for address, size in numbers],
            "physical": program.read(0x1000, 4096, True).hex(),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
