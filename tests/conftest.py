"""What every test gets: honest skips, no leftover processes, and the same random examples in every run."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

import cluster
from cluster import clock
from tests.support import processes
from tests.support.servers import OurNode, RealRedis, in_ci, require_real_redis
from tests.support.still_time import StillTime

# A machine with two cores that also runs a dozen servers says nothing about how long one example may take.
_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
# The examples come from the test's own source, so a run on one machine is the run on every other.
settings.register_profile("default", _COMMON, derandomize=True, database=None)
# make explore: other examples in each run. One that fails becomes an @example.
settings.register_profile("explore", _COMMON, derandomize=False)
# make compat: many more of the comparisons with a real server, other ones in each run.
settings.register_profile("compat", _COMMON, derandomize=False, max_examples=3000)
settings.load_profile("default")

# Hypothesis takes some of its values from the constants in the modules that have been imported: let that be all of them
# from the start, rather than those that the tests before this one happened to need.
for _module in pkgutil.walk_packages(cluster.__path__, "cluster."):
    if not _module.name.endswith(".__main__"):
        importlib.import_module(_module.name)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cluster-kinds",
        default="ours",
        help="which servers the cluster stories run on: ours, real or both, comma-separated. A story that fails on "
        "`real` is a wrong story.",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        kinds = metafunc.config.getoption("--cluster-kinds").split(",")
        metafunc.parametrize("kind", kinds, scope="module")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("real_redis"):
        require_real_redis()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Under CI=true a test that did not run has failed, whatever its reason."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.skipped and not hasattr(report, "wasxfail") and in_ci():
        report.outcome = "failed"
        report.longrepr = f"skipped under CI=true: {report.longrepr}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Kill what a test left running, and fail the run for it."""
    left = processes.leftovers()
    processes.kill_all()
    if left:
        print(f"\nprocesses left behind by tests: {[process.args for process in left]}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def still_time(monkeypatch: pytest.MonkeyPatch) -> StillTime:
    """Time that passes when the test says so, in this process."""
    still = StillTime()
    monkeypatch.setattr(clock, "time", still)
    return still


@pytest.fixture
def node() -> Iterator[OurNode]:
    """One of our nodes, alone, not in cluster mode."""
    with OurNode() as server:
        yield server


@pytest.fixture
def real() -> Iterator[RealRedis]:
    """Debian's redis-server, alone, not in cluster mode."""
    with RealRedis() as server:
        yield server
