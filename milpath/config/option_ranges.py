"""Ranges of the numbers of a configuration whose errors would come late or name no option, checked before any work."""

from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

# Lightning seeds NumPy, whose seeds end here.
_MOST_SEED = 2**32 - 1
_Holds = Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(least: int, or_else: int | None = None) -> _Holds:
    """Return whether a value is a whole number of at least `least`, or the one that has a meaning of its own."""
    return lambda value: _is_number(value) and value % 1 == 0 and (value >= least or value == or_else)


def _batches(value: Any) -> bool:
    """Return whether a value is a number of batches, 1 or more, or a fraction of them above 0."""
    return _is_number(value) and (0 < value <= 1 or (value > 1 and value % 1 == 0))


def _batches_or_none(value: Any) -> bool:
    return _is_number(value) and (value == 0 or _batches(value))


def _devices(value: Any) -> bool:
    """Return whether a value may say which devices; a name, such as auto, and an entry are left to Lightning and Hydra."""
    return bool(value) if isinstance(value, str | list | dict) else _whole(1, -1)(value)


_FROM_ONE = (_whole(1), "a whole number of at least 1")
_FROM_ZERO = (_whole(0), "a whole number of at least 0")
_SOME_BATCHES = (_batches, "a number of batches of at least 1, or a fraction above 0 and up to 1.0")
_ALL_BATCHES = (
    lambda value: value == 1 and isinstance(value, float),
    "1.0 or left out: splits are predicted as a whole",
)
_ANY_BATCHES = (_batches_or_none, "a number of batches of at least 0, or a fraction from 0 to 1.0")
# `null` is left to Lightning. Zero epochs, steps or batches would test a network that was never trained.
_OF_TRAINER: Mapping[str, tuple[_Holds, str]] = {
    "max_epochs": (_whole(1, -1), "a whole number of at least 1, or -1 for no limit"),
    "min_epochs": _FROM_ZERO,
    "max_steps": (_whole(1, -1), "a whole number of at least 1, or -1 for no limit"),
    "min_steps": _FROM_ZERO,
    "accumulate_grad_batches": _FROM_ONE,
    "check_val_every_n_epoch": _FROM_ONE,
    "limit_train_batches": _SOME_BATCHES,
    "limit_val_batches": _ANY_BATCHES,
    "limit_test_batches": _ALL_BATCHES,
    "limit_predict_batches": _ALL_BATCHES,
    "overfit_batches": _ANY_BATCHES,
    "val_check_interval": (
        lambda value: isinstance(value, str | dict) or _batches(value), f"{_SOME_BATCHES[1]}, or dd:hh:mm:ss",
    ),
    "fast_dev_run": (lambda value: isinstance(value, bool) or _whole(0)(value), "true, false or a number of batches"),
    "num_sanity_val_steps": (_whole(0, -1), "a whole number of at least 0, or -1 for all validation batches"),
    "log_every_n_steps": _FROM_ZERO,
    "reload_dataloaders_every_n_epochs": _FROM_ZERO,
    "gradient_clip_val": (lambda value: _is_number(value) and value >= 0, "a number of at least 0"),
    "devices": (_devices, "auto, a number of processes of at least 1, -1 for all devices, or a list of devices"),
    "num_nodes": (lambda value: isinstance(value, dict) or _whole(1)(value), "a whole number of machines of at least 1"),
}  # fmt: skip
_COUNT = (lambda value: _is_number(value) and value % 1 == 0, "a whole number")
_NUMBER = (_is_number, "a number")
# Their ranges depend on the data.
_OF_DATA: Mapping[str, tuple[_Holds, str]] = {
    "fold": _COUNT,
    "num_folds": _COUNT,
    "val_fraction": _NUMBER,
    "batch_size": _COUNT,
    "eval_batch_size": _COUNT,
    "num_workers": _COUNT,
    "max_bags": _COUNT,
    "max_bags_per_class": _COUNT,
    "max_tiles": _COUNT,
    "class_names": (lambda value: isinstance(value, list), "a list, such as [benign,malignant]"),
}
_OF_DECISION: Mapping[str, tuple[_Holds, str]] = {
    "sensitivity": (lambda value: _is_number(value) and 0 < value <= 1, "a number above 0 and up to 1, such as 0.95"),
    "defer_fraction": (
        lambda value: _is_number(value) and 0 <= value < 1,
        "a number of at least 0 and below 1, such as 0.1",
    ),
}
_COUNTS_OF_COMMANDS = {"jobs", "max_bags", "num_resamples"}
_SEED = (lambda value: _whole(0)(value) and value <= _MOST_SEED, f"a whole number from 0 to {_MOST_SEED}")


def require_ranges(config: DictConfig) -> None:
    """Refuse seeds and settings of the Trainer, the data, the network and the decision out of their range, of any command.

    Raises:
        ValueError: With the option and its range.

    Example:
        >>> require_ranges(OmegaConf.create({"trainer": {"max_epochs": 0}}))
        Traceback (most recent call last):
        ValueError: trainer.max_epochs=0 must be a whole number of at least 1, or -1 for no limit
    """
    content = OmegaConf.to_container(config)
    groups = (
        {name: part for name, part in content.items() if isinstance(part, dict)} if isinstance(content, dict) else {}
    )
    # What parts of somebody else mean with a name is theirs.
    for group in ("data", "model"):
        if not str(groups.get(group, {}).get("_target_")).startswith("milpath."):
            groups.pop(group, None)
    _require(config, "seed", _SEED)
    for name in groups.get("data", {}):
        if str(name) == "seed" or str(name).endswith("_seed"):
            _require(config, f"data.{name}", _FROM_ZERO)
    for group, known in (("trainer", _OF_TRAINER), ("data", _OF_DATA), ("decision", _OF_DECISION)):
        for name in known.keys() & groups.get(group, {}).keys():
            _require(config, f"{group}.{name}", known[name])
    for name in groups.get("model", {}):
        if str(name).endswith("_dim"):
            _require(config, f"model.{name}", _FROM_ONE)
    for name in _COUNTS_OF_COMMANDS & (content.keys() if isinstance(content, dict) else set()):
        _require(config, name, _FROM_ONE)


def _require(config: DictConfig, key: str, allowed: tuple[_Holds, str]) -> None:
    """Refuse a value that is not in a range; what cannot be resolved is told where it is used."""
    try:
        value = OmegaConf.select(config, key)
    except OmegaConfBaseException:
        return
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value)
    holds, words = allowed
    if value is not None and not holds(value):
        raise ValueError(f"{key}={value} must be {words}")
