"""memfs doctor: on this machine, and on machines that are made of files."""

import json
import os
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import ENV, memfs
from needs import REPO, need, need_fuse, need_tools, run

from memfs.cli.doctor import CAPABILITIES, CHECKS, EXTRAS, Machine, examine

STATUS = "Name:\tx\nNoNewPrivs:\t{}\nCapEff:\t{:016x}\n"
ALL = (1 << 41) - 1
HELPER = "usr/bin/fusermount3"

Found = dict[str, tuple[str, str, str]]


def look(root: Path, uid: int = 0) -> Found:
    """What is found below a directory, by name."""
    return {check.name: tuple(finding) for check, finding in examine(Machine(str(root), uid))}


def machine(root: Path, files: dict[str, str], uid: int = 0) -> Found:
    """What is found on a machine of these files: contents, or `-> TARGET` for a link."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            path.symlink_to(text[3:])
        else:
            path.write_bytes(text.encode("latin-1"))
            path.chmod(0o4755 if name == HELPER else 0o755)
    return look(root, uid)


def test_every_check_says_what_to_do(tmp_path: Path) -> None:
    """A machine with nothing: no check fails, and what is not well comes with what to do."""
    for uid in (0, 1000):
        found = machine(tmp_path, {}, uid)
        assert list(found) == [check.name for check in CHECKS]
        for name, (state, text, todo) in found.items():
            assert state in ("ok", "limited", "missing"), name
            assert text
            assert bool(todo) == (state != "ok"), name
    assert found["/dev/fuse"][0] == "missing"
    assert "memfs ls" in found["/dev/fuse"][2]


READ = (
    "proc/self/status", "proc/self/uid_map", "proc/self/ns/mnt", "proc/self/ns/user", "proc/self/pagemap", "dev/fuse",
    "proc/kcore", "proc/sys/kernel/yama/ptrace_scope", "proc/sys/kernel/kptr_restrict", "proc/sys/kernel/cap_last_cap",
    "proc/sys/user/max_user_namespaces", "proc/sys/kernel/unprivileged_userns_clone", "etc/fuse.conf", HELPER,
    "sys/kernel/security/lockdown", "usr/lib/libfuse3.so.3",
)  # fmt: skip
ODD = {
    "empty": "",
    "zeros": "\0" * 4096,
    "bytes": "\xff\xfe\x1b[31m\x80" * 300,
    "lines": "\n" * 5000,
    "negative": "-1\n",
    "large": "9" * 100_000,
    "key": "CapEff:\nNoNewPrivs:\n",
}


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("odd", [*ODD, "directories", "links to themselves"])
def test_odd_contents(tmp_path: Path, odd: str, uid: int) -> None:
    """Whatever the files hold, or are: each check has its line, for a terminal; what is not understood is not ok."""
    for name in READ:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if odd == "directories":
            path.mkdir()
        elif odd == "links to themselves":
            path.symlink_to(path)
        else:
            path.write_bytes(ODD[odd].encode("latin-1"))
    found = look(tmp_path, uid)
    assert list(found) == [check.name for check in CHECKS]
    for name, (state, text, todo) in found.items():
        assert (text + todo).isprintable(), name
        assert len(text) < 400
        assert bool(todo) == (state != "ok"), name
    assert found["/dev/fuse"][0] == "missing"
    assert found["libfuse"][0] == "limited"
    assert found["kcore"][0] in ("missing", "limited")
    assert found["capabilities"][:2] == ("limited", "the capabilities cannot be seen")
    assert found["page map"][0] == "limited"
    if odd in ODD:
        for name in ("lockdown", "ptrace_scope", "kptr_restrict"):
            assert found[name][0] == "limited", name
            assert "not understood" in found[name][1]


USERNS = {"proc/self/ns/user": "", "proc/sys/user/max_user_namespaces": "7000\n"}


@pytest.mark.parametrize(
    ("files", "uid", "name", "state", "word"),
    [
        ({"dev/fuse": ""}, 0, "/dev/fuse", "missing", "no device"),
        ({"dev/fuse": "-> /dev/null"}, 0, "/dev/fuse", "missing", "the device 1:3"),
        ({"dev/fuse": "-> gone"}, 0, "/dev/fuse", "missing", "no /dev/fuse"),
        ({"proc/self/status": STATUS.format(0, ALL)}, 0, "mount", "ok", "root"),
        ({"proc/self/status": STATUS.format(0, ALL & ~(1 << 21))}, 0, "mount", "missing", "CAP_SYS_ADMIN"),
        ({"proc/self/uid_map": "0 0 4294967295\n"}, 0, "mount", "ok", "root: memfs mounts"),
        ({"proc/self/uid_map": "         0       1000          1\n"}, 0, "mount", "ok", "root of a user namespace"),
        ({}, 1000, "mount", "missing", "no fusermount3"),
        ({HELPER: "", "proc/self/status": STATUS.format(1, 0)}, 1000, "mount", "missing", "no_new_privs"),
        ({"etc/fuse.conf": "# user_allow_other\n"}, 1000, "allow_other", "limited", "allow_other"),
        ({"etc/fuse.conf": "mount_max = 1000\n user_allow_other # so\n"}, 1000, "allow_other", "ok", "allow_other"),
        ({"etc/fuse.conf": "user_allow_others\n"}, 1000, "allow_other", "limited", "allow_other"),
        ({}, 0, "user namespaces", "limited", "no user namespaces"),
        (USERNS, 1000, "user namespaces", "ok", "unshare -Urm"),
        ({**USERNS, "proc/sys/user/max_user_namespaces": "0\n"}, 0, "user namespaces", "limited", "max_user_name"),
        ({**USERNS, "proc/sys/kernel/unprivileged_userns_clone": "0\n"}, 1000, "user namespaces", "limited", "clone=0"),
        ({**USERNS, "proc/sys/kernel/unprivileged_userns_clone": "0\n"}, 0, "user namespaces", "ok", "can be made"),
        ({**USERNS, "proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"}, 1000, "user namespaces", "limited",
         "apparmor_restrict_unprivileged_userns=1"),
        ({"usr/lib/x86_64-linux-gnu/libfuse3.so.3": ""}, 0, "libfuse", "limited", "no libfuse"),
        ({"proc/kcore": ""}, 0, "kcore", "missing", "hidden"),
        ({"proc/kcore": "-> /dev/null"}, 0, "kcore", "missing", "hidden"),
        ({"proc/kcore": "\x7fELF"}, 0, "kcore", "ok", "kcore"),
        ({"sys/kernel/security/lockdown": "none integrity [confidentiality]\n"}, 0, "lockdown", "limited", "confid"),
        ({"sys/kernel/security/lockdown": "none [integrity] confidentiality\n"}, 0, "lockdown", "ok", "integrity"),
        ({"sys/kernel/security/lockdown": "none integrity confidentiality\n"}, 0, "lockdown", "limited", "not under"),
        ({"proc/sys/kernel/yama/ptrace_scope": "0\n"}, 1000, "ptrace_scope", "ok", "ptrace_scope=0"),
        ({"proc/sys/kernel/yama/ptrace_scope": "1\n"}, 1000, "ptrace_scope", "limited", "descendants"),
        ({"proc/sys/kernel/yama/ptrace_scope": "1\n"}, 0, "ptrace_scope", "ok", "ptrace_scope=1"),
        ({"proc/sys/kernel/yama/ptrace_scope": "1\n", "proc/self/status": STATUS.format(0, 0)}, 0, "ptrace_scope",
         "limited", "ptrace_scope=1"),
        ({"proc/sys/kernel/yama/ptrace_scope": "3\n"}, 0, "ptrace_scope", "limited", "nobody"),
        ({"proc/sys/kernel/kptr_restrict": "2\n"}, 0, "kptr_restrict", "limited", "kptr_restrict=2"),
        ({"proc/sys/kernel/kptr_restrict": "1\n"}, 0, "kptr_restrict", "ok", "kptr_restrict=1"),
        ({"proc/sys/kernel/kptr_restrict": "1\n", "proc/self/status": STATUS.format(0, ALL & ~(1 << 34))}, 0,
         "kptr_restrict", "limited", "CAP_SYSLOG"),
        ({"proc/sys/kernel/kptr_restrict": "0\n"}, 1000, "kptr_restrict", "limited", "CAP_SYSLOG"),
        ({"proc/self/pagemap": ""}, 0, "page map", "limited", "PAGEMAP_SCAN"),
        ({"proc/self/status": "CapEff:\tnonsense\n"}, 0, "capabilities", "limited", "cannot be seen"),
        ({"proc/self/status": "CapEff:\t-1\n"}, 0, "capabilities", "limited", "cannot be seen"),
    ],
)  # fmt: skip
def test_machines(tmp_path: Path, files: dict[str, str], uid: int, name: str, state: str, word: str) -> None:
    found = machine(tmp_path, files, uid)[name]
    assert found[0] == state, found
    assert word in found[1]


def test_the_device_is_opened(tmp_path: Path) -> None:
    need_fuse()
    need(os.access("/dev/fuse", os.R_OK | os.W_OK), "/dev/fuse is not for this user")
    assert machine(tmp_path, {"dev/fuse": "-> /dev/fuse"})["/dev/fuse"] == ("ok", "/dev/fuse can be opened", "")


def test_a_library_that_loads(tmp_path: Path) -> None:
    """A file of that name is not enough: test_machines has an empty one."""
    here = [line.split()[-1] for line in run("ldconfig", "-p").stdout.decode().splitlines() if "libfuse3.so.3 " in line]
    need(here, "no libfuse 3")
    assert machine(tmp_path, {"usr/lib/libfuse3.so.3": f"-> {here[0]}"})["libfuse"] == ("ok", "libfuse3.so.3", "")


@pytest.mark.parametrize("how", ["setuid root", "not setuid", "of another", "on nosuid", "not executable"])
def test_fusermount3_must_be_able_to_become_root(tmp_path: Path, how: str) -> None:
    need(os.geteuid() == 0, "needs root to make a program that is setuid root")
    machine(tmp_path, {HELPER: ""})
    helper = tmp_path / HELPER
    if how == "of another":
        os.chown(helper, 1000, 1000)
    helper.chmod({"not setuid": 0o755, "not executable": 0o4644}.get(how, 0o4755))
    if how == "on nosuid":
        need_tools("unshare", "mount")
        code = f"from test_doctor import look; print(look({str(tmp_path)!r}, 1000)['fusermount3'][:2])"
        nosuid = shlex.quote(str(helper.parent))
        script = f"mount --bind {nosuid} {nosuid} && mount -o remount,bind,nosuid {nosuid} && exec {sys.executable} -c "
        env = {**ENV, "PYTHONPATH": f"{REPO}:{REPO / 'tests'}"}
        done = run("unshare", "-m", "sh", "-c", script + shlex.quote(code), env=env)
        assert b"('missing', " in done.stdout, done
        assert b"with nosuid" in done.stdout
        return
    found = {uid: look(tmp_path, uid) for uid in (0, 1000)}
    good = how == "setuid root"
    assert found[1000]["fusermount3"][0] == found[1000]["mount"][0] == ("ok" if good else "missing")
    assert found[0]["fusermount3"][0] == ("ok" if good else "limited")  # root needs none
    assert found[0]["mount"][0] == "ok"


def test_every_capability_has_its_name(tmp_path: Path) -> None:
    """By name, each alone; of a kernel that does not know the last one nothing is asked."""
    status = tmp_path / "proc/self/status"
    whole = machine(tmp_path, {"proc/self/status": STATUS.format(0, ALL)})["capabilities"]
    assert whole == ("ok", ", ".join(row.name for row in CAPABILITIES), "")
    assert {"CAP_SYS_ADMIN", "CAP_SYS_RAWIO", "CAP_SYS_PTRACE", "CAP_SYSLOG", "CAP_CHECKPOINT_RESTORE"} <= {
        row.name for row in CAPABILITIES
    }
    for row in CAPABILITIES:
        status.write_text(STATUS.format(0, ALL & ~(1 << row.bit)))
        state, found, todo = look(tmp_path)["capabilities"]
        assert (state, bool(todo)) == ("limited", True)
        assert found.endswith(f"without {row.name} ({row.help})")
        status.write_text(STATUS.format(0, 1 << row.bit))
        assert look(tmp_path)["capabilities"][1].startswith(f"{row.name}; without ")
    status.write_text(STATUS.format(0, ALL >> 1))
    assert look(tmp_path)["capabilities"][0] == "limited"
    machine(tmp_path, {"proc/sys/kernel/cap_last_cap": "39\n"})
    assert look(tmp_path)["capabilities"][0] == "ok"


def test_capabilities_are_the_kernels(tmp_path: Path) -> None:
    """Numbers against those of the C library's headers."""
    header = Path("/usr/include/linux/capability.h")
    need(header.exists(), "no linux/capability.h (sh tests/install-tools.sh)")
    text = header.read_text()
    for row in CAPABILITIES:
        assert f"#define {row.name}" in text
        line = next(line for line in text.splitlines() if line.split()[:2] == ["#define", row.name])
        assert int(line.split()[2]) == row.bit


def test_extras_are_those_of_the_package() -> None:
    extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [extra.name for extra in EXTRAS] == [name for name in extras if name not in ("dev", "vm")]


def findings(done: object) -> Iterator[dict[str, object]]:
    yield from json.loads(done.stdout)


def test_extras_that_are_not_installed() -> None:
    """An interpreter without site-packages: each is named, with the command that installs it."""
    done = run(sys.executable, "-S", "-m", "memfs", "doctor", "--json", env=ENV)
    (found,) = (row for row in findings(done) if row["name"] == "extras")
    assert found["state"] == "limited"
    assert all(f"{extra.name} (for {extra.help} alone)" in str(found["found"]) for extra in EXTRAS)
    assert found["todo"] == "pip install 'memfs-fuse[mfusepy,fusepy]'"


def test_an_extra_without_its_module(tmp_path: Path) -> None:
    """Half of an installation is said."""
    (tmp_path / "mfusepy-9.dist-info").mkdir()
    (tmp_path / "mfusepy-9.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: mfusepy\nVersion: 9\n")
    env = {**ENV, "PYTHONPATH": f"{REPO}:{tmp_path}"}
    done = run(sys.executable, "-S", "-m", "memfs", "doctor", "--json", env=env)
    (found,) = (row for row in findings(done) if row["name"] == "extras")
    assert found["found"] == "installed, but without its module: mfusepy"
    assert "mfusepy" in str(found["todo"])


def test_this_machine() -> None:
    done = memfs("doctor", "--json")
    records = json.loads(done.stdout)
    assert [record["name"] for record in records] == [check.name for check in CHECKS]
    missing = any(record["needed"] and record["state"] == "missing" for record in records)
    assert done.returncode == int(missing)
    by_name = {record["name"]: record["state"] for record in records}
    assert (by_name["/dev/fuse"] == "ok") == os.access("/dev/fuse", os.R_OK | os.W_OK)
    assert (by_name["kcore"] == "missing") == (not os.path.exists("/proc/kcore"))
    made = run("unshare", "-U", "true").returncode == 0
    assert (by_name["user namespaces"] == "ok") == made


def test_json_has_the_same_facts() -> None:
    """Line by line: state, name, what was found, what to do."""
    records = json.loads(memfs("doctor", "--json").stdout)
    lines = memfs("doctor").stdout.decode().splitlines()
    assert len(lines) == len(records)
    for line, record in zip(lines, records, strict=True):
        text = "; ".join(filter(None, (record["found"], record["todo"])))
        assert line == f"{record['state']:<8} {record['name']:<15} {text}"


def doctor_in(*command: object) -> Found:
    """What memfs doctor finds in a namespace of its own."""
    done = run(*command, sys.executable, "-m", "memfs", "doctor", "--json", env=ENV)
    assert done.stderr == b""
    return {str(row["name"]): (str(row["state"]), str(row["found"]), str(row["todo"])) for row in findings(done)}


def test_in_user_namespaces() -> None:
    """What it says of the right to mount is what mount(2) says (test_in_a_user_namespace mounts there)."""
    need_tools("unshare")
    need(run("unshare", "-Ur", "true").returncode == 0, "no user namespaces")
    state, found, todo = doctor_in("unshare", "-Ur")["mount"]
    assert (state, "no mounts of its own" in found, "unshare -Urm" in todo) == ("missing", True, True)
    state, found, _ = doctor_in("unshare", "-Urm")["mount"]
    assert (state, found) == ("ok", "root of a user namespace: memfs mounts in it by itself")


def test_where_user_namespaces_are_forbidden() -> None:
    """In a namespace whose own limit is 0, none can be made: found out by trying, explained by the limit."""
    need_tools("unshare")
    need(run("unshare", "-Ur", "true").returncode == 0, "no user namespaces")
    script = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    state, found, todo = doctor_in("unshare", "-Ur", "sh", "-c", script, "sh")["user namespaces"]
    assert (state, found) == ("limited", "user.max_user_namespaces=0: none can be made")
    assert todo == "as root: sysctl user.max_user_namespaces=10000"


@pytest.mark.parametrize(
    ("dev", "found", "todo"),
    [
        ("mount -t tmpfs none /dev", "there is no /dev/fuse", "--device /dev/fuse"),
        ("mount -t tmpfs none /dev && : >/dev/fuse", "/dev/fuse is no device", "mknod"),
        ("mount -t tmpfs -o nodev none /dev && mknod /dev/fuse c 10 229", "cannot be opened: Perm", "chmod 0666"),
        ("mount -t tmpfs none /dev && mknod /dev/fuse c 10 230", "is the device 10:230", "mknod"),
    ],
)
def test_without_the_device(dev: str, found: str, todo: str) -> None:
    """As in a container: exit 1, and the way without a mount."""
    need(os.geteuid() == 0, "needs root to hide a device")
    need_tools("unshare")
    done = run("unshare", "-m", "sh", "-c", f"{dev} && exec {sys.executable} -m memfs doctor", env=ENV)
    assert done.returncode == 1
    line = done.stdout.decode().splitlines()[0]
    assert line.startswith("missing  /dev/fuse")
    assert found in line
    assert todo in line
    assert "memfs ls, cat and cp need no mount" in line
    assert not done.stderr
