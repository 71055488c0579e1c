"""INFO: sections, their selection, and what the numbers must add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cluster.commands.latency import percentile_us
from cluster.commands.registry import LATENCY_BUCKETS
from cluster.node import info
from cluster.node.info import human
from cluster.node.latency_monitor import SAMPLES_MAX, LatencyMonitor
from cluster.settings import Settings
from tests.support.servers import OurNode
from tests.support.waiting import eventually


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1.00K"),
        (1536, "1.50K"),
        (1024**2 - 1, "1024.00K"),
        (1024**2, "1.00M"),
        (5 * 1024**3 // 2, "2.50G"),
        (1024**4, "1.00T"),
        (1024**5, "1.00P"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert human(size) == text


def test_sections_come_in_their_own_order_and_once(node: OurNode) -> None:
    text = node.call("INFO", "keyspace", "CPU", "cpu", "nonsense").decode()
    assert [line for line in text.splitlines() if line.startswith("#")] == ["# CPU", "# Keyspace"]
    assert node.call("INFO", "nonsense") == b""


def test_memory_is_measured_before_the_other_sections_need_some(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def section(name: str) -> tuple[str, Callable[[object], Iterator[tuple[str, str]]]]:
        def fields(_server: object) -> Iterator[tuple[str, str]]:
            asked.append(name)
            yield "field", name

        return name, fields

    sections = {name.encode(): section(name) for name in ("server", "memory", "stats")}
    monkeypatch.setattr(info, "SECTIONS", sections)
    text = info.info_text(None, {b"all"})  # type: ignore[arg-type]

    assert asked == ["memory", "server", "stats"]
    assert text == b"# server\r\nfield:server\r\n\r\n# memory\r\nfield:memory\r\n\r\n# stats\r\nfield:stats\r\n"


def test_default_leaves_out_what_is_long(node: OurNode) -> None:
    default = node.call("INFO").decode()
    assert "# Commandstats" not in default
    assert "# Latencystats" not in default
    assert "# Errorstats" in default
    everything = node.call("INFO", "everything").decode()
    assert "# Commandstats" in everything
    assert "# Latencystats" in everything


def test_keyspace_shows_databases_with_keys(node: OurNode) -> None:
    with node.raw() as client:
        client.call("SET", "a", 1)
        client.call("SELECT", 3)
        client.call("MSET", "b", 1, "c", 2)
        client.call("EXPIRE", "b", 100)
    text = node.call("INFO", "keyspace").decode()
    assert [line.split(",avg_ttl")[0] for line in text.splitlines()[1:]] == [
        "db0:keys=1,expires=0",
        "db3:keys=2,expires=1",
    ]


def test_commands_are_counted_by_name_and_outcome(node: OurNode) -> None:
    with node.raw() as client:
        client.call("CONFIG", "RESETSTAT")
        client.sendall(b"SET a 1\r\n" * 7 + b"GET a\r\n" * 3)
        for _ in range(10):
            client.reply()
        client.ask("GET")  # rejected
        client.ask("INCRBY", "a", "x")  # failed
        client.ask("NOSUCHCOMMAND")
        statistics = client.call("INFO", "commandstats").decode()
        counts = {
            line.split(":")[0]: [pair.split("=")[1] for pair in line.split(":")[1].split(",")]
            for line in statistics.splitlines()[1:]
        }
        assert counts["cmdstat_set"][0] == "7"
        assert (counts["cmdstat_get"][0], counts["cmdstat_get"][3]) == ("3", "1")
        assert (counts["cmdstat_incrby"][0], counts["cmdstat_incrby"][4]) == ("1", "1")
        assert counts["cmdstat_config|resetstat"][0] == "1"
        assert client.call("INFO", "errorstats") == b"# Errorstats\r\nerrorstat_ERR:count=3\r\n"
        histogram = client.call("LATENCY", "HISTOGRAM", "set", "get")
        assert histogram[0::2] == [b"set", b"get"]
        assert [entry[1] for entry in histogram[1::2]] == [7, 3]


def test_latency_tracking_can_be_turned_off(node: OurNode) -> None:
    with node.raw() as client:
        client.call("CONFIG", "SET", "latency-tracking", "no")
        client.call("CONFIG", "RESETSTAT")
        client.call("SET", "a", 1)
        client.call("DBSIZE")
        assert client.call("LATENCY", "HISTOGRAM") == []
        client.call("CONFIG", "SET", "latency-tracking", "yes", "latency-tracking-info-percentiles", "25 99.95")
        client.call("SET", "a", 1)
        text = client.call("INFO", "latencystats").decode()
    line = next(line for line in text.splitlines() if line.startswith("latency_percentiles_usec_set:"))
    assert [part.split("=")[0] for part in line.split(":")[1].split(",")] == ["p25", "p99.95"]


def test_percentiles_are_inside_the_right_bucket() -> None:
    buckets = [0] * LATENCY_BUCKETS
    buckets[11] = 98  # 1024 to 2047 ns
    buckets[21] = 2  # 2**20 to 2**21 - 1 ns
    assert 1.024 < percentile_us(buckets, 50) < 2.048
    assert 1.024 < percentile_us(buckets, 98) <= 2.048
    assert 1048.576 < percentile_us(buckets, 99) < 2097.152
    assert percentile_us(buckets, 100) == 2097.152
    assert percentile_us([0] * LATENCY_BUCKETS, 50) == 0


def test_spikes_below_the_threshold_are_not_kept() -> None:
    monitor = LatencyMonitor(Settings(latency_monitor_threshold=100))
    monitor.note(b"command", 99_999)
    assert monitor.events == {}
    monitor.note(b"command", 100_000)
    monitor.note(b"command", 250_999)
    spikes = monitor.events[b"command"]
    assert spikes.worst_ms == 250
    # One sample per second, the worst; two calls may straddle the end of a second.
    assert spikes.samples[-1][1] == 250
    assert LatencyMonitor(Settings()).events == {}


def test_only_the_last_samples_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = LatencyMonitor(Settings(latency_monitor_threshold=1))
    now_ms = 1_000_000
    monkeypatch.setattr("cluster.clock.unix_ms", lambda: now_ms)
    for number in range(SAMPLES_MAX + 5):
        now_ms = 1_000_000 + 1000 * number
        monitor.note(b"fork", 1000 * (SAMPLES_MAX + 5 - number))
    spikes = monitor.events[b"fork"]
    assert len(spikes.samples) == SAMPLES_MAX
    assert spikes.samples[0] == [1005, SAMPLES_MAX]
    assert spikes.worst_ms == SAMPLES_MAX + 5


def test_memory_adds_up(node: OurNode) -> None:
    node.call("DEBUG", "POPULATE", 1000)
    fields = node.info("memory")
    used, overhead = int(fields["used_memory"]), int(fields["used_memory_overhead"])
    assert int(fields["used_memory_dataset"]) == used - overhead
    assert int(fields["used_memory_startup"]) <= overhead <= used <= int(fields["used_memory_peak"])
    assert used < int(fields["used_memory_rss"])
    assert abs(int(fields["used_memory_rss"]) - node.resident_bytes()) < 8 << 20


def test_rates_follow_the_load(node: OurNode) -> None:
    with node.raw() as client:

        def is_busy() -> bool:
            client.sendall(b"PING\r\n" * 200)
            for _ in range(200):
                client.reply()
            return int(node.info("stats")["instantaneous_ops_per_sec"]) > 100

        eventually(is_busy, 10)
