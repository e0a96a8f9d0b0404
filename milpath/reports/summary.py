"""Summary of the metrics of a run for the terminal."""

from collections.abc import Mapping

from rich.table import Table


def summary_table(metrics: Mapping[str, Mapping[str, float | None]], title: str = "") -> Table:
    """Return a table of metrics by split.

    Args:
        metrics: Split to metric to value, as in `metrics.json`; None if a metric is undefined on the split.
        title: Printed above, usually the run folder.
    """
    table = Table(title=title)
    table.add_column("metric")
    for split in metrics:
        table.add_column(split, justify="right")
    names = list(dict.fromkeys(name for values in metrics.values() for name in values))
    for name in names:
        values = [values.get(name) for values in metrics.values()]
        table.add_row(name, *("undefined" if value is None else f"{value:.4f}" for value in values))
    return table
