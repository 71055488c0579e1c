"""What every test gets: honest skips, no leftover processes, and Hypothesis without a per-example deadline."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support import processes
from tests.support.servers import OurNode, RealRedis, in_ci, require_real_redis

# A machine with two cores that also runs a dozen servers says nothing about how long one example may take.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# make compat: many more of the comparisons with a real server.
settings.register_profile("compat", settings.get_profile("default"), max_examples=3000)
settings.load_profile("default")


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
def node() -> Iterator[OurNode]:
    """One of our nodes, alone, not in cluster mode."""
    with OurNode() as server:
        yield server


@pytest.fixture
def real() -> Iterator[RealRedis]:
    """Debian's redis-server, alone, not in cluster mode."""
    with RealRedis() as server:
        yield server
