"""Draws what was measured as pictures. Only this module needs matplotlib, and only when it draws."""

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

from tests.bench.compare import Sample
from tests.bench.growth import OPERATIONS, Point
from tests.bench.report import median_of

GROWTH = {
    "growth": ("Time in PostgreSQL by the number of alerts", {"database_ms": "-"}),
    "growth_http": ("Time over HTTP by the number of alerts: p50, and p99 dashed", {"p50_ms": "-", "p99_ms": "--"}),
}


def draw_growth(points: Sequence[Point], folder: Path) -> list[Path]:
    """Both axes are logarithmic: a flat line does not grow, a diagonal one grows with the table.

    What could not be measured is not drawn.
    """
    plt = _pyplot()
    pictures = []
    for name, (title, fields) in GROWTH.items():
        if all(isnan(getattr(point, field)) for point in points for field in fields):
            continue
        figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
        for index, (operation, label) in enumerate(OPERATIONS.items()):
            mine = [point for point in points if point.operation == operation]
            for field, line in fields.items():
                axes.plot(
                    [point.size for point in mine],
                    [getattr(point, field) for point in mine],
                    line,
                    color=f"C{index}",
                    marker="o" if line == "-" else None,
                    label=label if line == "-" else None,
                )
        axes.set(xscale="log", yscale="log", title=title, xlabel="alerts in the table", ylabel="milliseconds")
        axes.grid(visible=True, which="both", alpha=0.25)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        pictures.append(_save(figure, folder / f"{name}.svg"))
    return pictures


def draw_latency(samples: Sequence[Sample], folder: Path) -> list[Path]:
    """A panel a scenario: p50, and p99 dashed, by the number of connections that ask as fast as they are answered."""
    scenarios, connections, servers = (
        list(dict.fromkeys(getattr(sample, field) for sample in samples))
        for field in ("scenario", "connections", "server")
    )
    if len(connections) == 1:
        return []
    connections.sort()
    figure, panels = _pyplot().subplots(
        -(-len(scenarios) // 4), 4, figsize=(13, 6), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for panel, scenario in zip(panels.flat, scenarios, strict=False):
        for index, server in enumerate(servers):
            for field, line in {"p50_ms": "-", "p99_ms": "--"}.items():
                values = [median_of(samples, scenario, server, number, field) for number in connections]
                panel.plot(connections, values, line, color=f"C{index}", label=server if line == "-" else None)
        panel.set(xscale="log", yscale="log", title=scenario)
        panel.grid(visible=True, which="both", alpha=0.25)
    for panel in panels.flat[len(scenarios) :]:
        panel.set_axis_off()
    figure.supxlabel("connections")
    figure.supylabel("milliseconds")
    figure.legend(*panels.flat[0].get_legend_handles_labels(), loc="lower right", frameon=False)
    return [_save(figure, folder / "latency.svg")]


def _pyplot() -> Any:
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and only pictures need it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - slow to import, and only pictures need it

    return plt


def _save(figure: Any, file: Path) -> Path:
    figure.savefig(file)
    _pyplot().close(figure)
    return file
