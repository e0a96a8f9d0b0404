"""Maps of an output by name: the attention of each class and what each tile contributes to each logit."""

from collections.abc import Sequence

from torch import Tensor

from milpath.models.output import DetailedMILOutput, MILOutput

ATTENTION = "attention_"
CONTRIBUTION = "contribution_"


def tile_maps(output: MILOutput, class_names: Sequence[str], targets: Sequence[str] = ()) -> dict[str, Tensor]:
    """Return the maps of an output besides its attention; empty for a network with one weight per tile.

    Args:
        output: Output of a network.
        class_names: Names of the classes in the order of their indices.
        targets: Names of several targets, each of which may have its own attention.

    Returns:
        `attention_<class>` and `contribution_<class>`, each float32 `(bags, tiles)`, 0 on padding. Networks with a row for
        the second of two classes only have one map; ordered classes with a row per threshold have `attention_above <class>`.
        With one attention per target there is `attention_<target>`.

    Raises:
        ValueError: If the rows do not fit the classes.

    Example:
        >>> import torch
        >>> output = DetailedMILOutput(torch.zeros(1, 1), torch.ones(1, 1), contributions=torch.zeros(1, 1, 1))
        >>> list(tile_maps(output, ["benign", "malignant"]))
        ['contribution_malignant']
    """
    maps: dict[str, Tensor] = {}
    if not isinstance(output, DetailedMILOutput):
        return maps
    for prefix, rows in ((ATTENTION, output.class_attention), (CONTRIBUTION, output.contributions)):
        if rows is not None:
            names = _row_names(rows.shape[1], class_names)
            maps |= {prefix + name: row.float() for name, row in zip(names, rows.unbind(1), strict=True)}
    if output.target_attention is not None:
        rows = output.target_attention
        if rows.shape[1] != len(targets):
            raise ValueError(
                f"the network has {rows.shape[1]} attentions for {len(targets)} targets; give one per target"
            )
        maps |= {ATTENTION + name: row.float() for name, row in zip(targets, rows.unbind(1), strict=True)}
    return maps


def _row_names(num_rows: int, class_names: Sequence[str]) -> list[str]:
    """Return the name of each row of a map."""
    if num_rows == len(class_names):
        return list(class_names)
    if num_rows == len(class_names) - 1:
        return [class_names[1]] if num_rows == 1 else [f"above {name}" for name in class_names[:-1]]
    raise ValueError(
        f"the network gives {num_rows} maps of its tiles for {len(class_names)} classes; give one per class or per logit"
    )


def is_tile_map(name: str) -> bool:
    """Whether a name is that of a map."""
    return name.startswith((ATTENTION, CONTRIBUTION))


def is_signed(name: str) -> bool:
    """Whether the values of a map may be below 0."""
    return name.startswith(CONTRIBUTION)


def split_map_name(name: str) -> tuple[str, str]:
    """Return quantity and class of a map.

    Example:
        >>> split_map_name("contribution_grade_2")
        ('contribution', 'grade_2')
    """
    quantity, _, of_class = name.partition("_")
    return quantity, of_class
