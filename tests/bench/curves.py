"""Draws results as SVG images. Only this module needs matplotlib, and imports it when it draws."""

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

from tests.bench.compare import Sample
from tests.bench.growth import OPERATIONS, Point
from tests.bench.report import median_of

COLUMNS = 4  # of the panels by scenario
GROWTH_IMAGES = {
    "growth": ("Time in PostgreSQL by the number of alerts", {"database_ms": "-"}),
    "growth_http": ("Time over HTTP by the number of alerts: p50, and p99 dashed", {"p50_ms": "-", "p99_ms": "--"}),
}


def draw_growth(points: Sequence[Point], folder: Path) -> list[Path]:
    """Draw the time of each operation by the number of alerts.

    Both axes are logarithmic: a horizontal line does not grow, and a diagonal one grows in proportion to the table. An
    image without any measured value is left out.
    """
    plt = _import_pyplot()
    images = []
    for name, (title, fields) in GROWTH_IMAGES.items():
        if all(isnan(getattr(point, field)) for point in points for field in fields):
            continue
        figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
        for index, (operation, label) in enumerate(OPERATIONS.items()):
            of_operation = [point for point in points if point.operation == operation]
            for field, line_style in fields.items():
                axes.plot(
                    [point.size for point in of_operation],
                    [getattr(point, field) for point in of_operation],
                    line_style,
                    color=f"C{index}",
                    marker="o" if line_style == "-" else None,
                    label=label if line_style == "-" else None,
                )
        axes.set(xscale="log", yscale="log", title=title, xlabel="alerts in the table", ylabel="milliseconds")
        axes.grid(visible=True, which="both", alpha=0.25)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        images.append(_save(figure, folder / f"{name}.svg"))
    return images


def draw_latency(samples: Sequence[Sample], folder: Path) -> list[Path]:
    """Draw a panel per scenario: p50, and p99 dashed, by the number of connections."""
    scenarios, connections, servers = (
        list(dict.fromkeys(getattr(sample, field) for sample in samples))
        for field in ("scenario", "connections", "server")
    )
    if len(connections) == 1:
        return []
    connections.sort()
    rows = -(-len(scenarios) // COLUMNS)
    figure, panels = _import_pyplot().subplots(
        rows, COLUMNS, figsize=(13, 6), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for panel, scenario in zip(panels.flat, scenarios, strict=False):
        for index, server in enumerate(servers):
            for field, line_style in {"p50_ms": "-", "p99_ms": "--"}.items():
                values = [median_of(samples, scenario, server, number, field) for number in connections]
                label = server if line_style == "-" else None
                panel.plot(connections, values, line_style, color=f"C{index}", label=label)
        panel.set(xscale="log", yscale="log", title=scenario)
        panel.grid(visible=True, which="both", alpha=0.25)
    for panel in panels.flat[len(scenarios) :]:
        panel.set_axis_off()
    figure.supxlabel("connections")
    figure.supylabel("milliseconds")
    figure.legend(*panels.flat[0].get_legend_handles_labels(), loc="lower right", frameon=False)
    return [_save(figure, folder / "latency.svg")]


def _import_pyplot() -> Any:
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and only images need it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - slow to import, and only images need it

    return plt


def _save(figure: Any, file: Path) -> Path:
    figure.savefig(file)
    _import_pyplot().close(figure)
    return file
