"""The model of familiar slides of a run: fitted at the end of training, asked by an evaluation, said in words."""

from omegaconf import DictConfig

from milpath.data.datamodule import BagDataModule
from milpath.models.familiarity import Familiarity, say_unknown
from milpath.training.embedding_probe import EmbeddingProbe, FittingProbe


def require_familiarity(config: DictConfig) -> None:
    """Refuse options of the model of familiar slides that mean nothing, before the training rather than after it.

    Args:
        config: Root of the `train` command.

    Raises:
        ValueError: If the share of referred slides is out of range.
    """
    share = (config.get("decision") or {}).get("refer_unfamiliar")
    if share is not None and not 0 < share < 1:
        raise ValueError(
            f"decision.refer_unfamiliar={share:g} must be above 0 and below 1, such as 0.01, or null to refer no slide "
            "for being unfamiliar"
        )


def fitting_probe(config: DictConfig, datamodule: BagDataModule) -> FittingProbe | None:
    """Return what fits the model of familiar slides; `None` if the configuration wants none.

    Args:
        config: Root of the `train` command.
        datamodule: The data, after `setup`.
    """
    wished = config.get("decision") or {}
    if not wished.get("familiarity", True):
        return None
    share = wished.get("refer_unfamiliar")
    groups, num_groups, compares = datamodule.split_groups, 0, "val" in datamodule.splits
    if groups is not None and compares:
        num_groups = len({groups[bag_id] for bag_id in datamodule.bag_ids("val")})
    num_bags = len(datamodule.bag_ids("train"))
    return FittingProbe(num_bags, None if share is None else float(share), num_groups, compares)


def asking_probe(familiarity: Familiarity | None) -> EmbeddingProbe | None:
    """Return what asks the model of a checkpoint; `None` for a checkpoint without one."""
    return None if familiarity is None else EmbeddingProbe(familiarity)


def say_familiarity(probe: EmbeddingProbe | None) -> str:
    """Return a line on the model of familiar slides of a run or a checkpoint, or on why there is none."""
    if probe is None:
        return say_unknown()
    if isinstance(probe, FittingProbe) and probe.reason:
        return f"no model of familiar slides: {probe.reason}"
    assert probe.familiarity is not None
    return f"unfamiliar slides: {probe.familiarity.say_bound()}"
