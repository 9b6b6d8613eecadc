"""Only the service holds the native transport and store; and the names of the library load when they are asked for."""

import ast
import subprocess
import sys
from pathlib import Path

import shuffle_worker

PACKAGE = Path(shuffle_worker.__file__).parent
GUARDED = {"transport", "store", "receiver", "inbox", "wire"}
ALLOWED = {"service", "_native", "transport.py"}


def native_imports(source: str) -> set[str]:
    """Names of modules below shuffle_worker._native that a source imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[2] for name in names if name.startswith("shuffle_worker._native.")}
    return found


def test_only_the_service_imports_the_native_transport_and_store() -> None:
    checked = 0
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] not in ALLOWED:
            checked += 1
            assert not native_imports(path.read_text(encoding="utf-8")) & GUARDED, path
    assert checked > 30


def test_the_check_finds_what_it_looks_for() -> None:
    assert native_imports("from shuffle_worker._native.store import Store") & GUARDED
    assert native_imports("from shuffle_worker._native import transport") & GUARDED
    assert native_imports("def f():\n    import shuffle_worker._native.transport as t") & GUARDED


def test_the_package_the_manifest_and_the_command_line_load_without_arrow() -> None:
    check = (
        "import sys, shuffle_worker, shuffle_worker.spec, shuffle_worker.cli.main;"
        "assert 'pyarrow' not in sys.modules; from shuffle_worker import ShuffleService;"
        "assert 'pyarrow' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)
    assert {"Engine", "ShuffleConfig", "ShuffleService", "ShuffleType"} <= set(dir(shuffle_worker))
