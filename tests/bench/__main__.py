"""The command line: `python -m tests.bench [compare | bulk | growth]`."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.bench import bulk, compare, curves, growth, report, seed
from tests.bench.load import BenchError
from tests.bench.scenarios import SCENARIOS
from tests.bench.servers import postgres

UNITS = {"k": 1_000, "m": 1_000_000}


def main() -> None:
    arguments = parser().parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    (out / ".gitignore").write_text("*\n")
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            text = COMMANDS[arguments.part](arguments, Path(folder), out)
    except BenchError as error:
        sys.exit(f"bench: {error}")
    (out / f"{arguments.part}.md").write_text(text, "utf-8")
    sys.stdout.write(f"{text}\n")


def _compare(arguments: argparse.Namespace, folder: Path, out: Path) -> str:
    rounds, seconds = (2, 1) if arguments.quick else (arguments.rounds or 5, arguments.seconds or 4)
    plan = compare.Plan(arguments.scenarios, arguments.connections, rounds, seconds, arguments.workers)
    with postgres() as dsn:
        samples = compare.run(plan, dsn, folder)
        database = asyncio.run(seed.version(dsn))
    (out / "compare.json").write_bytes(msgspec.json.format(msgspec.json.encode(samples)))
    return report.comparison(plan, samples, database) + _shown(curves.draw_latency(samples, out))


def _bulk(arguments: argparse.Namespace, folder: Path, out: Path) -> str:
    rounds, seconds = (1, 1) if arguments.quick else (arguments.rounds or 3, arguments.seconds or 3)
    rows = 20_000 if arguments.quick else 100_000
    plan = bulk.Plan(rows, rounds, seconds)
    with postgres() as dsn:
        turns = bulk.run(plan, dsn, folder)
        database = asyncio.run(seed.version(dsn))
    (out / "bulk.json").write_bytes(msgspec.json.format(msgspec.json.encode(turns)))
    return bulk.report(plan, turns, database)


def _growth(arguments: argparse.Namespace, folder: Path, out: Path) -> str:
    rounds, seconds = (1, 1) if arguments.quick else (arguments.rounds or 3, arguments.seconds or 2)
    sizes = [size for size in arguments.sizes if size <= 100_000] if arguments.quick else arguments.sizes
    plan = growth.Plan(sizes, rounds, seconds)
    with postgres(watched=True) as dsn:
        points = growth.run(plan, dsn, folder)
        database = asyncio.run(seed.version(dsn))
    (out / "growth.json").write_bytes(msgspec.json.format(msgspec.json.encode(points)))
    return growth.report(plan, points, database) + _shown(curves.draw_growth(points, out))


def _shown(pictures: Sequence[Path]) -> str:
    return "".join(f"\n![]({picture.name})\n" for picture in pictures)


COMMANDS = {"compare": _compare, "bulk": _bulk, "growth": _growth}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("part", nargs="?", choices=COMMANDS, default="compare")
    parser.add_argument("--rounds", type=int, help="rounds that count, after one that warms up (5; bulk, growth: 3)")
    parser.add_argument("--seconds", type=int, help="length of each server's turn (4; bulk: 3, growth: 2)")
    parser.add_argument("--quick", action="store_true", help="few and short rounds, to see that all works")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder for tables, data and pictures")
    first = parser.add_argument_group("compare")
    names = list(SCENARIOS)
    first.add_argument("--scenarios", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    first.add_argument("--connections", nargs="+", type=int, default=[64, 1], help="64 and 1 unless told otherwise")
    first.add_argument("--workers", type=int, default=1, help="above 1: also the service with that many processes")
    second = parser.add_argument_group("growth")
    sizes = [10_000, 100_000, 1_000_000]
    second.add_argument("--sizes", nargs="+", type=size, default=sizes, help="10k 100k 1m unless told otherwise; 10m")
    return parser


def size(text: str) -> int:
    """Read 10k or 1m."""
    unit = UNITS.get(text[-1].lower())
    return int(text[:-1]) * unit if unit else int(text)


if __name__ == "__main__":
    main()
