"""What `pip install` leaves behind: the package, one module for the CLI, two commands, and nothing else.

The wheel is built from a copy of the tree, as the backend leaves build/ and egg-info beside what it builds from.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import cluster
from tests.support.servers import REPOSITORY, in_ci

OFFLINE = ("Temporary failure in name resolution", "Failed to establish a new connection", "Could not find a version")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    for name in ("cluster", "tools"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    done = run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(source / "dist"), str(source))
    if done.returncode != 0 and any(text in done.stderr for text in OFFLINE) and not in_ci():
        pytest.skip("the build backend cannot be fetched: no package index within reach")
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (source / "dist").glob("*.whl")
    return built


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, cwd="/", env={**outside, **environment}
    )


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["version"] == cluster.__version__


def test_every_module_is_in_the_wheel(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        path.relative_to(REPOSITORY).as_posix()
        for pattern in ("*.py", "*.json", "*.lua", "py.typed", "redis-server")
        for path in (REPOSITORY / "cluster").rglob(pattern)
    }
    assert packed == expected | {"redis_cluster_cli.py"}


def test_a_fresh_environment_gets_two_commands_and_no_top_level_tools(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    python = str(home / "bin" / "python")
    # pip and the dependencies are borrowed from the environment that runs the tests: what is tried is our own wheel.
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
    borrowed = sysconfig.get_path("purelib")
    installed = run(python, "-m", "pip", "install", "--no-deps", "--no-index", str(wheel), PYTHONPATH=borrowed)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    left = {path.name for path in site.iterdir() if path.name != "__pycache__"}
    assert {name for name in left if not name.endswith(".dist-info")} == {"cluster", "redis_cluster_cli.py"}

    (site / "borrowed.pth").write_text(borrowed + "\n")
    for command in ("redis-cluster-node", "redis-cluster-cli"):
        done = run(str(home / "bin" / command), "--version")
        assert done.returncode == 0, done.stdout + done.stderr
        assert cluster.__version__ in done.stdout
        assert done.stderr == ""
    where = run(python, "-c", "import cluster; print(cluster.__file__)").stdout.strip()
    assert Path(where).is_relative_to(site)


def test_another_distribution_in_our_folder_is_noticed(tmp_path: Path) -> None:
    """PyPI's `cluster` has the same import name; pip merges the two folders without a word."""
    shutil.copytree(REPOSITORY / "cluster", tmp_path / "cluster", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "cluster" / "matrix.py").write_text("")
    done = run(sys.executable, "-c", "import cluster", PYTHONPATH=str(tmp_path))
    assert done.returncode != 0
    assert "ImportError" in done.stderr and "python-cluster" in done.stderr
