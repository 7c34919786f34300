"""Imports point one way (docs/internals.md), nothing foreign is imported early, and start-up stays lean."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from needs import REPO

PACKAGE = REPO / "memfs"
MAY_IMPORT = {
    # layer: the layers it may import, besides itself
    "errors": "",
    "image": "errors",
    "elf": "image errors",
    "io": "elf image errors",
    "arch": "io elf image errors",
    "facts": "arch io elf image errors",
    "tree": "facts arch io elf image errors",
    "backends": "arch io elf image errors",
    "fuse": "tree facts arch io elf image errors",
    "api": "backends tree facts arch io elf image errors",
    "cli": "api backends fuse tree facts arch io elf image errors __init__",
    "__init__": "api errors",
    "__main__": "cli",
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def layer(module: str) -> str:
    """memfs.io.file -> io; memfs -> __init__."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def name_of(path: Path) -> str:
    parts = path.relative_to(REPO).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def imports(tree: ast.AST) -> list[str]:
    """Modules that are imported anywhere in a module, as dotted names."""
    out = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            out += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                known = (REPO / full.replace(".", "/")).is_dir() or (REPO / (full.replace(".", "/") + ".py")).exists()
                out.append(full if known else str(node.module))
    return out


def wrong_arrows(module: str, source: str) -> list[str]:
    own = layer(module)
    allowed = {own, *MAY_IMPORT[own].split()}
    targets = [name for name in imports(ast.parse(source)) if name.split(".")[0] == "memfs"]
    return [f"{module} -> {target}" for target in targets if layer(target) not in allowed]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arrows(path: Path) -> None:
    assert not wrong_arrows(name_of(path), path.read_text())


def test_a_wrong_arrow_is_found() -> None:
    assert wrong_arrows("memfs.facts.regions", "from memfs import backends")
    assert wrong_arrows("memfs.tree.node", "def f():\n    import memfs.fuse.kernel")
    assert not wrong_arrows("memfs.tree.node", "from memfs.image import Space")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_foreign_is_imported(path: Path) -> None:
    foreign = [
        m for m in imports(ast.parse(path.read_text())) if m.split(".")[0] not in {*sys.stdlib_module_names, "memfs"}
    ]
    assert not foreign


def test_start_up_imports_nothing_heavy() -> None:
    heavy = (
        "json ctypes subprocess dataclasses elftools inspect socket shutil hashlib mmap memfs.api memfs.fuse memfs.tree"
    )
    code = "import sys, memfs.cli.main; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, timeout=60, check=False, cwd=REPO)
    if loaded.returncode:  # not installed: the checkout itself
        code = f"import sys; sys.path.insert(0, {str(REPO)!r}); " + code
        loaded = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, timeout=60, check=True)
    assert not set(heavy.split()) & set(loaded.stdout.decode().split())


def test_the_package_imports_nothing_of_itself() -> None:
    code = f"import sys; sys.path.insert(0, {str(REPO)!r}); import memfs; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, timeout=60, check=True)
    assert [name for name in loaded.stdout.decode().split() if name.startswith("memfs")] == ["memfs"]


def test_info_needs_no_json_and_no_fuse(secret_core: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(REPO)!r}); from memfs.cli.main import main; "
        f"main(['cat', {str(secret_core)!r}, 'info']); print(' '.join(sys.modules), file=sys.stderr)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    assert b"kind: process-core" in loaded.stdout
    names = set(loaded.stderr.decode().split())
    assert not {"json", "memfs.fuse", "elftools", "subprocess"} & names
    sources = {path: path.read_text() for path in MODULES if name_of(path) in names}
    slow = [name_of(path) for path, text in sources.items() if "(NamedTuple)" in text and "import annotations" in text]
    assert not slow, "the annotations of their NamedTuples are compiled from text at each start"
