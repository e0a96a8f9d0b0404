"""Tables in Markdown."""

from collections.abc import Sequence


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]], numeric: Sequence[bool]) -> list[str]:
    r"""Return the lines of a table.

    Args:
        head: Titles of the columns.
        rows: Cells; `None` is an empty cell.
        numeric: Whether each column is aligned to the right.

    Example:
        >>> markdown_table(["method", "AUROC"], [["a|b", 0.9]], [False, True])
        ['| method | AUROC |', '|---|---:|', '| a\\|b | 0.9 |']
    """
    lines = ["| " + " | ".join(map(escape, cells)) + " |" for cells in (head, *rows)]
    lines.insert(1, "|" + "".join("---:|" if right else "---|" for right in numeric))
    return lines


def escape(text: object) -> str:
    """Return text escaped so that it stays within its cell and is never markup; `None` is empty."""
    return "" if text is None else " ".join(str(text).split()).replace("|", r"\|").replace("<", "&lt;")
