"""What import-linter cannot see: that the engines take their randomness as an argument and wait for nothing.

The import directions themselves are contracts in pyproject.toml, checked by `make check`.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "cluster"
ENGINES = ("failover", "gossip", "replication", "sentinel", "slots")
SHELLS = ("gossip/bus.py", "gossip/nodes_conf.py")  # The trio side of an engine; the file that must reach the disk.


def engine_files() -> list[Path]:
    files = [path for engine in ENGINES for path in sorted((PACKAGE / engine).rglob("*.py"))]
    return [path for path in files if path.relative_to(PACKAGE).as_posix() not in SHELLS]


def test_there_are_engines() -> None:
    assert len(engine_files()) > 10


@pytest.mark.parametrize("path", engine_files(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_an_engine_is_handed_its_randomness_and_never_waits(path: Path) -> None:
    """`random.Random` may be named (it is an argument's type); the module's own generator may not be used."""
    offences = []
    tree = ast.parse(path.read_text())
    # An argument may well be called `random`; what matters is whether the name is the module.
    module_imported = any(
        isinstance(node, ast.Import) and any(name.name == "random" for name in node.names) for node in ast.walk(tree)
    )
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="random"), attr=name) if module_imported and name != "Random":
                offences.append(f"line {node.lineno}: random.{name}")
            case ast.ImportFrom(module="random", names=names):
                offences += [
                    f"line {node.lineno}: from random import {name.name}" for name in names if name.name != "Random"
                ]
            case ast.AsyncFunctionDef(name=name):
                offences.append(f"line {node.lineno}: async def {name}")
            case ast.Call(func=ast.Name(id="open")):
                offences.append(f"line {node.lineno}: open()")
    assert offences == []
