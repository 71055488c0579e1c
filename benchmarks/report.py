"""Tables of figures, as Markdown."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

from benchmarks.figures import Row, Samples, Section

BUILDS = {"compiled": "hot path compiled by mypyc (`make compiled`)", "plain": "plain Python"}
WORDS = {True: "met", False: "**missed**", None: ""}


def markdown(sections: Iterable[Section], command: str, when: str, load_before: float, build: str) -> str:
    """The whole report. `load_before` is the machine's one-minute load when the run began, `build` our nodes' build."""
    parts = [
        "# Results",
        "",
        f"Written by `{command}` on {when}. Ours and redis-server are measured in turn, in one run, on one machine,",
        "with the same settings. Figures are medians; the spread (lowest to highest repetition) stands behind them.",
        "",
        *machine(),
        f"| our build | {BUILDS[build]} |",
        f"| load before | {load_before:.1f} |",
    ]
    for section in sections:
        parts += ["", f"## {section.title}", "", f"`{section.command}`", ""]
        if section.remark:
            parts += [section.remark, ""]
        parts += table(section)
    return "\n".join(parts) + "\n"


def machine() -> list[str]:
    """What it was measured on."""
    model = next(
        (line.partition(":")[2].strip() for line in lines_of("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    memory = next((line.split()[1] for line in lines_of("/proc/meminfo") if line.startswith("MemTotal")), "0")
    redis = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=False).stdout.split()
    version = next((word.partition("=")[2] for word in redis if word.startswith("v=")), "?")
    return [
        "| | |",
        "|---|---|",
        f"| CPU | {model}, {os.cpu_count()} cores |",
        f"| memory | {int(memory) / 2**20:.0f} GB |",
        f"| system | {platform.system()} {platform.release()}, {platform.machine()} |",
        f"| Python | {platform.python_implementation()} {platform.python_version()} |",
        f"| redis-server | {version} |",
    ]


def lines_of(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def table(section: Section) -> list[str]:
    """One section's rows."""
    titles = ["", f"ours ({section.unit})", f"redis-server ({section.unit})", "ours / redis-server"]
    titles += [*section.note_titles, "target", ""]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    lines += ["| " + " | ".join(cells(row, section.form)) + " |" for row in section.rows]
    return lines


def cells(row: Row, form: str) -> list[str]:
    spread = [spread_of(samples, form) for samples in (row.ours, row.real)]
    return [row.name, *spread, f"{row.ratio:.2f}", *row.notes, row.target, WORDS[row.met]]


def spread_of(samples: Samples, form: str) -> str:
    text = format(samples.median, form)
    if len(samples.values) == 1:
        return text
    return f"{text} ({format(samples.low, form)} – {format(samples.high, form)})"
