"""`python -m benchmarks`: measure everything, print it, and write benchmarks/RESULTS.md.

A complete run takes about seventeen minutes on two cores. With --only or --quick nothing is written, unless
--output says where.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    availability,
    commands,
    durability,
    footprint,
    formation,
    key_memory,
    pauses,
    persistence,
    report,
    throughput,
)
from benchmarks.figures import Progress, Section
from tests.support.servers import OurNode, real_redis_missing

RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    sections = measurements(quick=False)
    parser.add_argument("--only", metavar="NAME", nargs="+", choices=sections, help=f"some of: {', '.join(sections)}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests, fewer repetitions")
    parser.add_argument("--output", type=Path, help="write the report to this file")
    options = parser.parse_args()
    if reason := real_redis_missing():
        print(f"benchmarks compare with redis-server: {reason}", file=sys.stderr)
        return 1

    chosen = {name: run for name, run in measurements(options.quick).items() if name in (options.only or sections)}
    load_before, _, _ = os.getloadavg()
    measured = []
    for number, (name, run) in enumerate(chosen.items(), 1):
        measured.append(run(progress_for(f"[{number}/{len(chosen)} {name}]")))
    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    command = " ".join(["python -m benchmarks", *sys.argv[1:]]) if sys.argv[1:] else "make bench"
    with OurNode() as node:
        build = node.info("server")["hashslot_build"]
    text = report.markdown(measured, command, when, load_before, build)
    print(text)
    output = options.output or (None if options.only or options.quick else RESULTS)
    if output:
        output.write_text(text)
        print(f"written to {output}", file=sys.stderr)
    missed = [row.name for section in measured for row in section.rows if row.met is False]
    print(f"missed: {', '.join(missed)}" if missed else "all targets met", file=sys.stderr)
    return 0


def measurements(quick: bool) -> dict[str, Callable[[Progress], Section]]:
    """The sections by name."""
    scale, few, many = (0.1, 2, 3) if quick else (1.0, 5, 11)
    mixed = 0.05 if quick else 1.0
    return {
        "throughput": lambda progress: throughput.measure(few, scale, progress),
        "plain": lambda progress: throughput.measure_plain(2, scale, progress),
        "commands": lambda progress: commands.measure(1 if quick else 3, scale, progress),
        "key-memory": lambda progress: key_memory.measure(scale, progress),
        "pauses": lambda progress: pauses.measure(scale, progress),
        "persistence": lambda progress: persistence.measure(mixed, progress),
        "saving": lambda progress: durability.measure_saving(mixed, progress),
        "appendfsync": lambda progress: durability.measure_policies(1 if quick else 3, scale, progress),
        "outage": lambda progress: availability.measure(few if quick else 7, progress),
        "start": lambda progress: footprint.measure_start(many, progress),
        "memory": lambda progress: footprint.measure_memory(1 if quick else 3, progress),
        "formation": lambda progress: formation.measure(1 if quick else 3, progress),
    }


def progress_for(prefix: str) -> Progress:
    return lambda text: print(f"{prefix} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
