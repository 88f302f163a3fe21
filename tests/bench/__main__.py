"""Benchmarks of the service: `python -m tests.bench [compare | bulk | growth]`."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.bench import bulk, compare, curves, growth, report, seed
from tests.bench.scenarios import SCENARIOS
from tests.bench.servers import database_server
from tests.bench.wrk import BenchError

MULTIPLIERS = {"k": 1_000, "m": 1_000_000}


def main() -> None:
    arguments = create_parser().parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    (out / ".gitignore").write_text("*\n")
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            text = BENCHMARKS[arguments.benchmark](arguments, Path(folder), out)
    except BenchError as error:
        sys.exit(f"bench: {error}")
    (out / f"{arguments.benchmark}.md").write_text(text, "utf-8")
    sys.stdout.write(f"{text}\n")


def _compare(arguments: argparse.Namespace, folder: Path, out: Path) -> str:
    rounds, seconds = (2, 1) if arguments.quick else (arguments.rounds or 5, arguments.seconds or 4)
    plan = compare.ComparePlan(arguments.scenarios, arguments.connections, rounds, seconds, arguments.workers)
    with database_server() as dsn:
        samples = compare.run(plan, dsn, folder)
        version = asyncio.run(seed.server_version(dsn))
    (out / "compare.json").write_bytes(msgspec.json.format(msgspec.json.encode(samples)))
    return report.comparison(plan, samples, version) + _embed_images(curves.draw_latency(samples, out))


def _bulk(arguments: argparse.Namespace, folder: Path, out: Path) -> str:
    rounds, seconds = (1, 1) if arguments.quick else (arguments.rounds or 3, arguments.seconds or 3)
    rows = 20_000 if arguments.quick else 100_000
    plan = bulk.BulkPlan(rows, rounds, seconds)
    with database_server() as dsn:
        samples = bulk.run(plan, dsn, folder)
        version = asyncio.run(seed.server_version(dsn))
    (out / "bulk.json").write_bytes(msgspec.json.format(msgspec.json.encode(samples)))
    return bulk.report(plan, samples, version)


def _growth(arguments: argparse.Namespace, folder: Path, out: Path) -> str:
    rounds, seconds = (1, 1) if arguments.quick else (arguments.rounds or 3, arguments.seconds or 2)
    sizes = [size for size in arguments.sizes if size <= 100_000] if arguments.quick else arguments.sizes
    plan = growth.GrowthPlan(sizes, rounds, seconds)
    with database_server(statement_times=True) as dsn:
        points = growth.run(plan, dsn, folder)
        version = asyncio.run(seed.server_version(dsn))
    (out / "growth.json").write_bytes(msgspec.json.format(msgspec.json.encode(points)))
    return growth.report(plan, points, version) + _embed_images(curves.draw_growth(points, out))


def _embed_images(images: Sequence[Path]) -> str:
    return "".join(f"\n![]({image.name})\n" for image in images)


BENCHMARKS = {"compare": _compare, "bulk": _bulk, "growth": _growth}


def create_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("benchmark", nargs="?", choices=BENCHMARKS, default="compare", help="default: compare")
    parser.add_argument("--rounds", type=int, help="measured rounds, after one warm-up (default: 5; bulk, growth: 3)")
    parser.add_argument(
        "--seconds", type=int, help="duration of a measurement of one server (default: 4; bulk: 3, growth: 2)"
    )
    parser.add_argument("--quick", action="store_true", help="a few short rounds, to check that the benchmark works")
    parser.add_argument(
        "--out", type=Path, default=Path("bench-results"), help="output folder (default: bench-results)"
    )
    compare_options = parser.add_argument_group("compare")
    names = list(SCENARIOS)
    compare_options.add_argument(
        "--scenarios",
        nargs="+",
        choices=names,
        default=names,
        metavar="NAME",
        help=f"scenarios to measure (default: all): {', '.join(names)}",
    )
    compare_options.add_argument(
        "--connections", nargs="+", type=int, default=[64, 1], help="numbers of connections (default: 64 1)"
    )
    compare_options.add_argument(
        "--workers", type=int, default=1, help="if above 1, also measure the service with this many processes"
    )
    growth_options = parser.add_argument_group("growth")
    growth_options.add_argument(
        "--sizes",
        nargs="+",
        type=parse_size,
        default=[10_000, 100_000, 1_000_000],
        help="numbers of alerts, such as 10k or 10m (default: 10k 100k 1m)",
    )
    return parser


def parse_size(text: str) -> int:
    """Parse a number with an optional suffix: 10k is 10,000 and 1m is 1,000,000."""
    multiplier = MULTIPLIERS.get(text[-1].lower())
    return int(text[:-1]) * multiplier if multiplier else int(text)


if __name__ == "__main__":
    main()
