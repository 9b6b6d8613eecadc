"""Who may import which native module. The import contracts in pyproject.toml see Python modules only."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "shuffle_worker"
NATIVE = "shuffle_worker._native"
# Shuffles are reached through the service; the pure packages reach nothing native at all.
FORBIDDEN = {
    "api": {"*"},
    "cli": {"*"},
    "cluster": {"*"},
    "job": {"transport", "receiver"},
    "protocol": {"*"},
    "sink": {"transport", "receiver"},
    "source": {"transport", "receiver", "store"},
    "spec": {"*"},
    "supervisor": {"*"},
}


def native_imports(source: str) -> Iterator[str]:
    """The native modules that a Python module imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == NATIVE:
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{NATIVE}."):
            yield node.module.removeprefix(f"{NATIVE}.")
        elif isinstance(node, ast.Import):
            yield from (alias.name.removeprefix(f"{NATIVE}.") for alias in node.names if NATIVE in alias.name)


def breaches(package: str) -> list[str]:
    forbidden = FORBIDDEN[package]
    return [
        f"{path.relative_to(PACKAGE)} imports {NATIVE}.{name}"
        for path in sorted((PACKAGE / package).rglob("*.py"))
        for name in native_imports(path.read_text(encoding="utf-8"))
        if name in forbidden or "*" in forbidden
    ]


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_native_modules_are_imported_only_where_they_may_be(package):
    assert breaches(package) == []


def test_a_breach_would_be_seen():
    source = (
        f"import {NATIVE}.frame\nfrom {NATIVE} import store\ndef f():\n    from {NATIVE}.transport import Transport\n"
    )
    assert sorted(native_imports(source)) == ["frame", "store", "transport"]
