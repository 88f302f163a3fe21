"""Draws the growth as pictures. Only this module needs matplotlib, and only when it draws."""

from collections.abc import Sequence
from math import isnan
from pathlib import Path

from tests.bench.growth import OPERATIONS, Point

PICTURES = {
    "growth": ("Time in PostgreSQL by the number of alerts", {"database_ms": "-"}),
    "latency": ("Time over HTTP by the number of alerts: p50, and p99 dashed", {"p50_ms": "-", "p99_ms": "--"}),
}


def draw(points: Sequence[Point], folder: Path) -> list[Path]:
    """Both axes are logarithmic: a flat line does not grow, a diagonal one grows with the table.

    What could not be measured is not drawn.
    """
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and only pictures need it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - slow to import, and only pictures need it

    pictures = []
    for name, (title, fields) in PICTURES.items():
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
        pictures.append(folder / f"{name}.svg")
        figure.savefig(pictures[-1])
        plt.close(figure)
    return pictures
