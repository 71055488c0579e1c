"""LATENCY: spikes and histograms, told to programs and to people (latency.c, sparkline.c).

Commands' histograms have one bucket per power of two of nanoseconds. LATENCY HISTOGRAM shows no more than that in Redis
either; the percentiles of INFO latencystats are interpolated inside a bucket, so they may be off by up to a factor of
two where Redis's are exact to one percent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import attrs

from cluster import clock
from cluster.commands.context import ServerContext, Session
from cluster.commands.keys import help_reply
from cluster.commands.registry import Command, command
from cluster.errors import CommandError
from cluster.resp.encode import EMPTY_ARRAY, array, bulk, integer

_FIRST_BUCKET = 10  # Everything up to 1024 ns is one bucket for LATENCY HISTOGRAM.
_LAST_BUCKET = 30  # So is everything above a second.

_GRAPH_COLUMNS = 80
_GRAPH_ROWS = 4
_GRAPH_CHARACTERS = "_o#"


# Histograms -----------------------------------------------------------------------------------------------------


def percentile_us(buckets: Sequence[int], percentile: float) -> float:
    """The duration that ``percentile`` percent of the calls did not exceed, in µs; 0 without calls."""
    calls = sum(buckets)
    wanted = max(calls * min(percentile, 100.0) / 100, 1)
    below = 0
    for bucket, count in enumerate(buckets):
        if count and below + count >= wanted:
            low, high = (1 << bucket) >> 1, 1 << bucket
            return (low + (high - low) * (wanted - below) / count) / 1000
        below += count
    return 0.0


def _bucket_end_us(bucket: int) -> int:
    """The upper end of a bucket as Redis's histogram, which is exact to two digits, prints it."""
    return ((1 << bucket) + (1 << (bucket - 7)) - 1) // 1000


def _histogram(proto: Any, row: Command) -> bytes:
    buckets = row.latencies
    counts = [
        sum(buckets[: _FIRST_BUCKET + 1]),
        *buckets[_FIRST_BUCKET + 1 : _LAST_BUCKET],
        sum(buckets[_LAST_BUCKET:]),
    ]
    pairs = []
    for bucket, count, total in zip(range(_FIRST_BUCKET, _LAST_BUCKET + 1), counts, accumulate(counts), strict=True):
        if count:
            pairs += [integer(_bucket_end_us(bucket)), integer(total)]
    return bytes(proto.map([bulk(b"calls"), integer(sum(counts)), bulk(b"histogram_usec"), proto.map(pairs)]))


def _named(server: ServerContext, names: Iterable[bytes]) -> Iterable[Command]:
    """The rows that the names stand for; a container stands for its subcommands too."""
    for name in names:
        container, bar, subname = name.lower().partition(b"|")
        row = server.commands.find(container)
        if row is None:
            continue
        subrows = row.subcommands or {}
        if not bar:
            yield row
            yield from subrows.values()
        elif subname in subrows:
            yield subrows[subname]


@command("latency|histogram")
def latency_histogram(client: Session, argv: list[bytes]) -> bytes:
    rows = _named(client.server, argv[2:]) if len(argv) > 2 else client.server.commands.all_rows()
    parts = []
    for row in rows:
        if any(row.latencies):
            parts += [bulk(row.name), _histogram(client.proto, row)]
    return client.proto.map(parts)


# Spikes ---------------------------------------------------------------------------------------------------------


@command("latency|latest")
def latency_latest(client: Session, argv: list[bytes]) -> bytes:
    return array(
        [
            array([bulk(event), *map(integer, spikes.samples[-1]), integer(spikes.worst_ms)])
            for event, spikes in client.server.latency.events.items()
        ]
    )


@command("latency|history")
def latency_history(client: Session, argv: list[bytes]) -> bytes:
    spikes = client.server.latency.events.get(argv[2])
    if spikes is None:
        return EMPTY_ARRAY
    return array([array([integer(second), integer(ms)]) for second, ms in spikes.samples])


@command("latency|reset")
def latency_reset(client: Session, argv: list[bytes]) -> bytes:
    latency = client.server.latency
    return integer(sum(map(latency.reset, argv[2:])) if len(argv) > 2 else latency.reset())


@command("latency|graph")
def latency_graph(client: Session, argv: list[bytes]) -> bytes:
    spikes = client.server.latency.events.get(argv[2])
    if spikes is None:
        raise CommandError(b"ERR No samples available for event '%b'" % argv[2].partition(b"\0")[0])
    now_s = clock.unix_ms() // 1000
    values = [ms for _second, ms in spikes.samples]
    labels = [_age(now_s - second) for second, _ms in spikes.samples]
    event = argv[2].decode("latin-1")
    title = f"{event} - high {max(values)} ms, low {min(values)} ms (all time high {spikes.worst_ms} ms)\n"
    graph = "\n".join(
        _draw(values, labels, start, start + _GRAPH_COLUMNS) for start in range(0, len(values), _GRAPH_COLUMNS)
    )
    return client.proto.verbatim(f"{title}{'-' * _GRAPH_COLUMNS}\n{graph}".encode("latin-1"))


def _age(seconds: int) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _draw(values: list[int], labels: list[str], start: int, end: int) -> str:
    """A bar per sample, three steps to a row, its age written downwards below."""
    low = min(values)
    span = max(values) - low or 1
    levels = len(_GRAPH_CHARACTERS) * _GRAPH_ROWS
    steps = [min((value - low) * levels // span, levels - 1) for value in values[start:end]]
    lines = []
    for row in reversed(range(_GRAPH_ROWS)):
        above = [step - row * len(_GRAPH_CHARACTERS) for step in steps]
        lines.append(
            "".join(
                " " if level < 0 else _GRAPH_CHARACTERS[level] if level < len(_GRAPH_CHARACTERS) else "|"
                for level in above
            )
        )
    shown = labels[start:end]
    lines.append(" " * len(shown))
    for index in range(max(map(len, shown))):
        lines.append("".join(label[index] if index < len(label) else " " for label in shown))
    return "".join(f"{line}\n" for line in lines)


# The doctor -----------------------------------------------------------------------------------------------------

_DISABLED = (
    "I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this Redis instance. You may use \"CONFIG SET "
    "latency-monitor-threshold <milliseconds>.\" in order to enable it. If we weren't in a deep space mission I'd "
    "suggest to take a look at https://redis.io/topics/latency-monitor.\n"
)
_NO_SPIKES = (
    "Dave, no latency spike was observed during the lifetime of this Redis instance, not in the slightest bit. I "
    "honestly think you ought to sit down calmly, take a stress pill, and think things over.\n"
)
_SPIKES = (
    "Dave, I have observed latency spikes in this Redis instance. You don't mind talking about it, do you Dave?\n\n"
)
_ADVICE = {
    "better-vm": (
        "- fork() is slow here: look for a machine, or a hypervisor, on which it is faster, or take fewer snapshots."
    ),
    "slowlog-enable": (
        "- Commands are slow, and the slow log is off. 'CONFIG SET slowlog-log-slower-than {threshold_us}' has it note "
        "them."
    ),
    "slowlog-tune": (
        "- The slow log notes only what is slower than the spikes noted here. 'CONFIG SET slowlog-log-slower-than "
        "{threshold_us}' has it note these too."
    ),
    "slowlog-look": "- SLOWLOG GET shows which commands were slow.",
    "scheduler": (
        "- Commands that have little to do were slow: the process did not get the processor for a while. Lower the load"
        " of the machine, give the server a processor of its own, and compare with 'redis-cli --intrinsic-latency 100'."
    ),
    "hz": "- With 'CONFIG SET hz 100' expired keys are removed in smaller steps.",
    "large-objects": (
        "- Deleting a very large value, on expiry too, holds up everybody else. Split it into several smaller ones."
    ),
}


@attrs.define
class _Report:
    lines: list[str] = attrs.field(factory=list)
    advice: set[str] = attrs.field(factory=set)


@command("latency|doctor")
def latency_doctor(client: Session, argv: list[bytes]) -> bytes:
    server = client.server
    events = server.latency.events
    threshold_ms = server.settings.latency_monitor_threshold
    if not events:
        return client.proto.verbatim((_NO_SPIKES if threshold_ms else _DISABLED).encode())
    report = _Report()
    for number, (event, spikes) in enumerate(events.items(), start=1):
        _describe(report, server, number, event.decode("latin-1"), spikes)
    text = _SPIKES + "".join(f"{line}\n" for line in report.lines)
    if report.advice:
        chosen = [advice for name, advice in _ADVICE.items() if name in report.advice]
        text += "\nI have a few advices for you:\n\n" + "".join(
            advice.format(threshold_us=threshold_ms * 1000) + "\n" for advice in chosen
        )
    else:
        text += (
            "\nWhile there are latency events logged, I'm not able to suggest any easy fix. Please use the Redis "
            "community to get some help, providing this report in your help request.\n"
        )
    return client.proto.verbatim(text.encode())


def _describe(report: _Report, server: ServerContext, number: int, event: str, spikes: Any) -> None:
    """One event's figures, and what could be done about it."""
    values = [ms for _second, ms in spikes.samples]
    count = len(values)
    average = sum(values) // count
    deviation = sum(abs(value - average) for value in values) // count
    period = max(clock.unix_ms() // 1000 - spikes.samples[0][0], 1)
    line = (
        f"{number}. {event}: {count} latency spikes (average {average}ms, mean deviation {deviation}ms, period "
        f"{period / count:.2f} sec). Worst all time event {spikes.worst_ms}ms."
    )
    settings = server.settings
    advice = report.advice
    if event == "fork":
        rate = server.memory_overview().used * 1_000_000 / max(server.saving.saver.last_fork_us, 1) / (1 << 30)
        quality = next(
            (word for word, limit in (("terrible", 10), ("poor", 25), ("good", 100)) if rate < limit), "excellent"
        )
        if rate < 25:
            advice.add("better-vm")
        line += f" Fork rate is {rate:.2f} GB/sec ({quality})."
    elif event == "command":
        if settings.slowlog_log_slower_than < 0:
            advice.add("slowlog-enable")
        elif settings.slowlog_log_slower_than // 1000 > settings.latency_monitor_threshold:
            advice.add("slowlog-tune")
        advice |= {"slowlog-look", "large-objects"}
    elif event == "fast-command":
        advice.add("scheduler")
    elif event == "expire-cycle":
        advice.add("large-objects")
        if settings.hz < 100:
            advice.add("hz")
    report.lines.append(line)


@command("latency|help")
def latency_help(client: Session, argv: list[bytes]) -> bytes:
    return help_reply(
        b"LATENCY",
        [
            b"DOCTOR",
            b"    Return a human readable latency analysis report.",
            b"GRAPH <event>",
            b"    Return an ASCII latency graph for the <event> class.",
            b"HISTORY <event>",
            b"    Return time-latency samples for the <event> class.",
            b"LATEST",
            b"    Return the latest latency samples for all events.",
            b"RESET [<event> ...]",
            b"    Reset latency data of one or more <event> classes.",
            b"    (default: reset all data for all event classes)",
            b"HISTOGRAM [COMMAND ...]",
            b"    Return a cumulative distribution of latencies in the format of a histogram for the specified command"
            b" names.",
            b"    If no commands are specified then all histograms are replied.",
        ],
    )
