"""Run the bench: the gateway beside a bare Klein and treq relay, and beside others with --all.

    python bench/run.py [--all] [--short] [--json FILE] [--guard]

Same upstream, same load, same run.  CPU is that of the whole process tree by the kernel's account, divided by the
requests or events that were counted and found right; rounds alternate and ratios are taken pair by pair.  Exits 1
when an answer of the gateway or of the baseline was wrong or --guard fails, 2 when something did not start.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import attrs
import figures
import guard
import machine
import msgspec
import ours
import race
import relays
import report
import stages


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--all", action="store_true", help="all relays and all stages")
    parser.add_argument("--short", action="store_true", help="fewer rounds, requests and streams")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    names = ", ".join(one.name for one in relays.OTHERS)
    parser.add_argument("--only", metavar="NAME,...", help=f"of the other relays only these: {names}")
    parser.add_argument("--stages", metavar="STAGE,...", help="only these: " + ", ".join(stages.STAGES))
    parser.add_argument("--guard", action="store_true", help="fail when a ratio fell behind the recorded one")
    parser.add_argument("--record", action="store_true", help="record the ratios for --guard")
    parser.add_argument(
        "--self-check", action="store_true", help="measure the bare relay beside itself: ratios should be 1"
    )
    options = parser.parse_args()
    known = {one.name for one in relays.OTHERS}
    options.only = options.only.split(",") if options.only else sorted(known) if options.all else []
    options.stages = options.stages.split(",") if options.stages else list(stages.STAGES) if options.all else ["rounds"]
    if unknown := (set(options.only) - known) | (set(options.stages) - stages.STAGES.keys()):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    return options


def measure(options: argparse.Namespace, board: figures.Figures, size: stages.Size) -> None:
    """Start everybody and run the stages; raises one of race.PROBLEMS where upstream does not start."""
    began = time.monotonic()
    pair = [relays.BARE, relays.AGAIN] if options.self_check else [relays.GATEWAY, relays.BARE]
    contestants = [*pair, *(one for one in relays.OTHERS if one.name in options.only)]
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="antigravity-bench-")))
        upstream = ours.Upstream.start(directory)
        stack.callback(upstream.process.stop)
        run = stages.Run(contestants, upstream, size, directory, board, stack, with_tls=not options.self_check)
        run.enter_all()
        if any(board.subjects[one.name].problem for one in pair):
            return
        for name in options.stages:
            since = time.monotonic()
            stages.STAGES[name](run)
            print(f"{name}: {time.monotonic() - since:.0f} s", file=sys.stderr, flush=True)
            board.seconds = time.monotonic() - began
            save(options, board)
            if name == "rounds" and board.wrong():
                break
        if board.wrong():
            for entrant in run.plain:
                if entrant.name in (figures.OURS, figures.BASELINE):
                    print(f"--- {entrant.name} wrote at last:\n{entrant.process.tail()[-2000:]}", file=sys.stderr)


def save(options: argparse.Namespace, board: figures.Figures) -> None:
    """Write the figures so far, if they are asked for."""
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(board), indent=1) + b"\n")


def main() -> int:
    """Run everything and return the exit status."""
    # The processes are stopped on the way out, whoever ends this one.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    options = arguments()
    size = stages.size(short=options.short, many=len(options.only) > 2)
    ours.file_limit()
    board = figures.Figures(machine.machine(), attrs.asdict(size))
    try:
        measure(options, board, size)
    except race.PROBLEMS as error:
        print(error, file=sys.stderr)
        return 2
    print(", ".join(f"{name} {value}" for name, value in board.machine.items() if name != "versions"))
    print(f"{board.seconds:.0f} s\n")
    print(report.table(board))
    if wrong := board.wrong():
        for one in wrong:
            print(f"wrong: {one}", file=sys.stderr)
        return 2 if any(board.subjects[name].problem for name in board.subjects.keys() & figures.NEEDED) else 1
    if options.record:
        guard.record(board)
    return guard.check(board) if options.guard else 0


if __name__ == "__main__":
    sys.exit(main())
