"""memfs symbolize: texts of kernels since 2.4, worked out by hand; and all that must come out as it went in."""

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from needs import need_tools, run

from memfs.facts.symbols import listing
from memfs.facts.symbols.oops import Symbolizer

MEMFS = (sys.executable, "-m", "memfs", "symbolize")

OLD_WORK = b"""\
c0100000 A _text
c0100000 t startup_32
c0105fff T last_of_page
c0123450 T do_work
c0123470 T do_rest
c01234a0 t helper
c01234e0 T after
c03441a0 b dmi_broken
c03441a4 b is_sony_vaio_laptop
"""
"""A System.map of 2.4 and 2.6. do_work is 0x20 bytes long, helper 0x40."""

MODERN = b"""\
0000000000000000 A fixed_percpu_data
0000000000000000 A __per_cpu_start
0000000000034000 A __per_cpu_end
ffffffff81000000 T startup_64
ffffffff81000000 T _stext
ffffffff81234560 T dump_stack
ffffffff812345f0 T after
ffffffff82000000 D init_task
ffffffff82002000 D end_of_it
ffffffffc0123000 t fn\t[module]
ffffffffc0123010 t other\t[module]
"""

TEXTS = {
    "2.4": (
        OLD_WORK,
        b"""\
Unable to handle kernel NULL pointer dereference at virtual address 00000004
 printing eip:
c0123456
*pde = 00000000
Oops: 0002
CPU:    0
EIP:    0010:[<c0123456>]    Not tainted
EFLAGS: 00010246
eax: c03441a0   ebx: 00000000   ecx: c03441a5   edx: 60000013
Stack: c01234a4 00000000 c1234567
Call Trace:    [<c01234ab>] [<c0105fff>]
   [<c01234b0>]
Code: 8b 40 04 c0 12 34 56
""",
        b"""\
Unable to handle kernel NULL pointer dereference at virtual address 00000004
 printing eip:
c0123456 do_work+0x6/0x20
*pde = 00000000
Oops: 0002
CPU:    0
EIP:    0010:[<c0123456>] do_work+0x6/0x20    Not tainted
EFLAGS: 00010246
eax: c03441a0 dmi_broken+0x0/0x4   ebx: 00000000   ecx: c03441a5 is_sony_vaio_laptop+0x1/0xe5c   edx: 60000013
Stack: c01234a4 helper+0x4/0x40 00000000 c1234567
Call Trace:    [<c01234ab>] helper+0xb/0x40 [<c0105fff>] last_of_page+0x0/0x1d451
   [<c01234b0>] helper+0x10/0x40
Code: 8b 40 04 c0 12 34 56
""",
    ),
    "2.6 i386": (
        OLD_WORK,
        b"""\
<1>BUG: unable to handle kernel paging request at 00100104
<4>EIP:    0060:[<c0123456>]    Tainted: P      VLI
<0>EIP is at do_work+0x6/0x20
 [<c01234ab>] helper+0xb/0x40
 [<c01234ab>]
 [<f8a01234>] fn+0x4/0x10 [module]
 [<f8a01234>]
>>EIP; c0123456 <do_work+6/20>   <=====
Trace; c01234ab <helper+b/40>
""",
        b"""\
<1>BUG: unable to handle kernel paging request at 00100104
<4>EIP:    0060:[<c0123456>] do_work+0x6/0x20    Tainted: P      VLI
<0>EIP is at do_work+0x6/0x20
 [<c01234ab>] helper+0xb/0x40
 [<c01234ab>] helper+0xb/0x40
 [<f8a01234>] fn+0x4/0x10 [module]
 [<f8a01234>]
>>EIP; c0123456 <do_work+6/20>   <=====
Trace; c01234ab <helper+b/40>
""",
    ),
    "2.6 and 3.x x86-64": (
        MODERN,
        b"""\
RIP: 0010:[<ffffffff81234565>]  [<ffffffff81234565>] dump_stack+0x5/0x90
RIP: 0010:[<ffffffff81234565>]  [<ffffffff81234565>]
RIP: 0010:<ffffffff81234565>{dump_stack+5}
Call Trace:<ffffffff81234565>{dump_stack+5} <ffffffff81234566>
IP: [<ffffffff81234565>] dump_stack+0x5/0x90
 [<ffffffff81234565>] ? dump_stack+0x5/0x90
 [<ffffffffc0123004>]
[<ffffffffffffffff>] 0xffffffffffffffff
""",
        b"""\
RIP: 0010:[<ffffffff81234565>]  [<ffffffff81234565>] dump_stack+0x5/0x90
RIP: 0010:[<ffffffff81234565>]  [<ffffffff81234565>] dump_stack+0x5/0x90
RIP: 0010:<ffffffff81234565>{dump_stack+5}
Call Trace:<ffffffff81234565>{dump_stack+5} <ffffffff81234566> dump_stack+0x6/0x90
IP: [<ffffffff81234565>] dump_stack+0x5/0x90
 [<ffffffff81234565>] ? dump_stack+0x5/0x90
 [<ffffffffc0123004>] fn+0x4/0x10 [module]
[<ffffffffffffffff>] 0xffffffffffffffff
""",
    ),
    "6.x": (
        MODERN,
        b"""\
[  135.609266] BUG: kernel NULL pointer dereference, address: 0000000000000010
[  135.609266] RIP: 0010:dump_stack+0x1c/0x30
[  135.609266] RSP: 0018:ffffffff82000dd8 EFLAGS: 00010246
[  135.609266] RAX: ffffffff81234560 RBX: ffffc90000013e80 RCX: 0000000000000000
[  135.609266] CR2: ffffffffc012300f CR3: 000000000ec00000 CR4: 00000000000006f0
[  135.609266]  <TASK>
[  135.609266]  ? fn+0x4/0x10 [module 3b43fa16c1b6de2a0d4d26b0a06e0d5d7e1ee5a5]
[  135.609266]  dump_stack+0x96/0x100
[  135.609266] RIP: 0033:0x7f0123456789
[  135.609266] Kernel Offset: 0x1cc00000 from 0xffffffff81000000 (0xffffffff80000000-...)
[<0>] do_wait+0x114/0x320
at 0xffffffff81234567, not ffffffff81234567+0x10 or x0xffffffff81234567 or ffffffff812345671.
""",
        b"""\
[  135.609266] BUG: kernel NULL pointer dereference, address: 0000000000000010
[  135.609266] RIP: 0010:dump_stack+0x1c/0x30
[  135.609266] RSP: 0018:ffffffff82000dd8 init_task+0xdd8/0x2000 EFLAGS: 00010246
[  135.609266] RAX: ffffffff81234560 dump_stack+0x0/0x90 RBX: ffffc90000013e80 RCX: 0000000000000000
[  135.609266] CR2: ffffffffc012300f fn+0xf/0x10 [module] CR3: 000000000ec00000 CR4: 00000000000006f0
[  135.609266]  <TASK>
[  135.609266]  ? fn+0x4/0x10 [module 3b43fa16c1b6de2a0d4d26b0a06e0d5d7e1ee5a5]
[  135.609266]  dump_stack+0x96/0x100
[  135.609266] RIP: 0033:0x7f0123456789
[  135.609266] Kernel Offset: 0x1cc00000 from 0xffffffff81000000 startup_64+0x0/0x234560 (0xffffffff80000000-...)
[<0>] do_wait+0x114/0x320
at 0xffffffff81234567 dump_stack+0x7/0x90, not ffffffff81234567+0x10 or x0xffffffff81234567 or ffffffff812345671.
""",
    ),
    "arm": (
        OLD_WORK,
        b"""\
PC is at do_work+0x18/0x64
pc : [<c0123456>]    lr : [<c01234ab>]    psr: 60000013
[<c0123456>] (do_work+0x6/0x20) from [<c01234ab>] (helper+0xb/0x40)
""",
        b"""\
PC is at do_work+0x18/0x64
pc : [<c0123456>] do_work+0x6/0x20    lr : [<c01234ab>] helper+0xb/0x40    psr: 60000013
[<c0123456>] (do_work+0x6/0x20) from [<c01234ab>] (helper+0xb/0x40)
""",
    ),
    "powerpc": (
        MODERN.replace(b"ffffffff8", b"c000000008"[:9]),
        b"NIP [c00000000123456c] .dump_stack+0xc/0x90\nLR [c00000000123456c]\n",
        b"NIP [c00000000123456c] .dump_stack+0xc/0x90\nLR [c00000000123456c] dump_stack+0xc/0x90\n",
    ),
}


@pytest.mark.parametrize("form", TEXTS)
def test_texts_by_hand(form: str) -> None:
    symbols, text, want = TEXTS[form]
    assert Symbolizer(listing.parse(symbols)).text(text).decode() == want.decode()


@pytest.mark.parametrize("form", TEXTS)
def test_what_was_named_once_is_not_named_again(form: str) -> None:
    symbols, _, want = TEXTS[form]
    assert Symbolizer(listing.parse(symbols)).text(want) == want


def test_old_work() -> None:
    """A map of two lines, and an oops of that kernel."""
    symbols = listing.parse(b"c03441a0 b dmi_broken\nc03441a4 b is_sony_vaio_laptop\n")
    text = b"EIP:    0010:[<c03441a1>]    Not tainted\nCall Trace:    [<c03441a4>] [<c0100000>]\n"
    assert Symbolizer(symbols).text(text) == (
        b"EIP:    0010:[<c03441a1>] dmi_broken+0x1/0x4    Not tainted\n"
        b"Call Trace:    [<c03441a4>] is_sony_vaio_laptop+0x0/0xe5c [<c0100000>]\n"
    )


@given(st.binary())
def test_bytes_without_addresses_are_unchanged(text: bytes) -> None:
    text = text.replace(b"f", b"g").replace(b"F", b"G")  # every address of the map begins with f
    assert Symbolizer(listing.parse(MODERN)).text(text) == text


@given(
    st.lists(st.sampled_from([b"ffffffff81234567", b"[<", b">]", b" ", b"0x", b"x", b"\n", b"\xff", b"+", b"name+0x1"]))
)
def test_taking_the_names_out_gives_the_text_back(words: list[bytes]) -> None:
    text = b"".join(words)
    assert Symbolizer(listing.parse(MODERN)).text(text).replace(b" dump_stack+0x7/0x90", b"") == text


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def system_map(tmp_path: Path) -> Path:
    path = tmp_path / "System.map"
    path.write_bytes(OLD_WORK)
    return path


def test_a_file(system_map: Path, tmp_path: Path) -> None:
    text = tmp_path / "oops"
    text.write_bytes(TEXTS["2.4"][1])
    done = run(*MEMFS, "-v", system_map, text)
    assert (done.returncode, done.stdout) == (0, TEXTS["2.4"][2])
    assert done.stderr == b"memfs: 1 addresses without a name\n"  # c1234567


def test_a_text_without_a_last_newline_and_a_long_line(system_map: Path) -> None:
    text = b"x" * 3_000_000 + b" [<c0123456>]"
    done = subprocess.run([*MEMFS, str(system_map)], input=text, capture_output=True, timeout=60, check=True)
    assert done.stdout == text + b" do_work+0x6/0x20"


def test_a_line_comes_out_before_the_next_one_goes_in(system_map: Path) -> None:
    with subprocess.Popen([*MEMFS, str(system_map)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin and child.stdout
        try:
            for _ in range(3):
                os.write(child.stdin.fileno(), b" [<c0123456>]\n [<c01")
                assert select.select([child.stdout], [], [], 30)[0], "the line is kept back"
                assert os.read(child.stdout.fileno(), 4096).endswith(b" [<c0123456>] do_work+0x6/0x20\n")
                os.write(child.stdin.fileno(), b"23456>]\n")
                assert select.select([child.stdout], [], [], 30)[0]
                assert os.read(child.stdout.fileno(), 4096) == b" [<c0123456>] do_work+0x6/0x20\n"
            child.stdin.close()
            assert child.wait(30) == 0
        finally:
            child.kill()


def test_json(system_map: Path, tmp_path: Path) -> None:
    text = tmp_path / "oops"
    text.write_bytes(b"no address\n \xff [<c0123456>] c1234567\n")
    done = run(*MEMFS, "--json", system_map, text)
    first, second = map(json.loads, done.stdout.splitlines())
    assert first == {"line": 1, "text": "no address", "addresses": []}
    assert second["text"].encode("utf-8", "surrogateescape") == b" \xff [<c0123456>] c1234567"
    assert second["addresses"] == [
        {"address": "0xc0123456", "column": 5, "name": "do_work", "offset": 6, "size": 32, "module": None},
        {"address": "0xc1234567", "column": 16, "name": None, "offset": None, "size": None, "module": None},
    ]


def test_messages(tmp_path: Path) -> None:
    need_tools("cc", "strip")
    stub = tmp_path / "System.map"
    stub.write_bytes(b"ffffffffffffffff B The real System.map is in the linux-image-6.1.0-56-dbg package\n")
    hidden = tmp_path / "kallsyms"
    hidden.write_bytes(b"0000000000000000 A fixed_percpu_data\n0000000000000000 T _stext\n")
    program, stripped = tmp_path / "program", tmp_path / "stripped"
    subprocess.run(["cc", "-xc", "-", "-o", program], input=b"int main(){return 0;}", check=True, timeout=60)
    subprocess.run(["strip", "-o", stripped, program], check=True, timeout=60)
    for path, what in (
        (
            stub,
            b"this System.map is a stub; it has no symbols; the real one is in the linux-image-6.1.0-56-dbg package",
        ),
        (hidden, b"all addresses of these symbols are zero"),
        (tmp_path, b"this is a directory"),
        (tmp_path / "none", b"No such file"),
        (program, b"no vmlinux"),
        (stripped, b"no symbol table"),
    ):
        done = run(*MEMFS, path)
        assert done.returncode == 1
        assert what in done.stderr, done.stderr
        assert done.stderr.count(b"\n") == 1


def test_many_lines() -> None:
    """How fast that is tells the bench."""
    symbols = Symbolizer(
        listing.parse(b"".join(b"%016x T fn%d\n" % (0xFFFFFFFF81000000 + 64 * i, i) for i in range(150_000)))
    )
    text = b"".join(b"[  135.609266] RAX: %016x and more\n" % (0xFFFFFFFF81000000 + 601 * i) for i in range(10_000))
    assert symbols.text(text).count(b" fn") == 10_000
