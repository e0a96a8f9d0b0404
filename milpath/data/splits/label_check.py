"""What is wrong with labels is said before the bags are read, which may take an hour and gigabytes."""

from collections.abc import Sequence

from milpath.data.sources.bag_source import BagSource, LabelledSource
from milpath.data.splits.assign_splits import require_columns
from milpath.data.splits.bag_lists import excluded_bags
from milpath.data.splits.bag_table import SplitOptions
from milpath.targets.label_columns import bag_labels


def require_labels(source: BagSource, target: str, class_names: Sequence[str] | None, options: SplitOptions) -> None:
    """Refuse a source whose labels or columns `label_and_split` would refuse; one without a label table is not looked at.

    Raises:
        ValueError: If labels are missing, no whole numbers or out of range, or a column is missing.
    """
    if not isinstance(source, LabelledSource):
        return
    bags = source.label_table()
    table = bags[~bags["bag_id"].isin(excluded_bags(options.exclude, bags["bag_id"].tolist()))]
    bag_labels(table.reset_index(drop=True), target, class_names)
    require_columns(table, options.stratify_by)
