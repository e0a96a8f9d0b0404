"""Identity of a run: the settings, data and split that determine the trained network.

Paths, loggers, devices and options that only affect display or speed are not part of it. Data are identified by content:
the digests of tiles, bags, labels and splits. A run can therefore be resumed in another folder, on another machine or from
a rebuilt store, but not with another fold, other labels or another learning rate.
"""

import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, cast

import pandas as pd
from hydra.errors import HydraException
from hydra.utils import get_object
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig, OmegaConf
from typing_extensions import override

from milpath.config.roots import Decision, TrainConfig
from milpath.data.datamodule import BagDataModule
from milpath.models.checkpoint import RUN_KEY
from milpath.models.encoders import ENCODERS
from milpath.records.digests import sha256_of_file, sha256_of_splits, sha256_of_values

# Key of the identity in a checkpoint.
CHECKPOINT_KEY = RUN_KEY
FORMAT_VERSION = 1

# Where a run is written and how its result is used; does not affect training.
_ROOT = {
    "paths",
    "logger",
    "profiler",
    "sagemaker",
    "run_name",
    "resume_from",
    "compile",
    "test",
    "report",
    "report_pdf",
}
# How bags are read, not which; files are identified by content, not by name.
_DATA = {
    "stores_dir", "verify", "num_workers", "device_cache", "eval_batch_size", "batch_size", "splits", "groups", "exclude",
    "patients", "slides", "slide_column", "aggregate",
}  # fmt: skip
# Trade memory for time.
_ENCODER = {"activation_checkpointing", "tile_micro_batch"}
_TRAINER = {
    "accelerator", "devices", "num_nodes", "strategy", "plugins", "logger", "callbacks", "profiler", "default_root_dir",
    "enable_progress_bar", "enable_model_summary", "enable_checkpointing", "log_every_n_steps", "deterministic",
    "benchmark", "detect_anomaly", "num_sanity_val_steps", "max_time", "limit_test_batches", "inference_mode",
}  # fmt: skip
# Callbacks that do not affect training. Callbacks unknown to this library are part of the identity.
_ONLOOKERS = {
    "LearningRateMonitor", "RichProgressBar", "TQDMProgressBar", "ModelSummary", "RichModelSummary", "DeviceStatsMonitor",
    "Timer", "AttentionMontages", "epoch_progress", "EpochLines", "EpochLine", "StayStopped", "TrainingLines",
}  # fmt: skip
_CHECKPOINTS = {"ModelCheckpoint", "BestCheckpoint", "TimedCheckpoint"}
_LIGHTNINGS_CHECKPOINT = "lightning.pytorch.callbacks.ModelCheckpoint"
_CALLBACK_PATHS = {"dirpath", "run_dir", "trials_dir"}


@dataclass(frozen=True)
class RunIdentity:
    """Identity of a run.

    Attributes:
        settings: Dotted key to value; a `_target_` or the name of an encoder has the key of its group.
        contents: Digests of tiles, bags, labels and splits, as far as they are known.
        origin: Where the data came from; used to explain a difference, never compared.
        complete: Whether a missing setting means that it was not set; False for runs read from old files.
        defaults: Default values of missing settings; not written to disk.
        bags: Bag name to split and label, to name a bag that differs; stored as `splits.csv`.
        contents_with_excluded: The contents as recorded by earlier versions, whose stores held excluded bags as well; not
            written to disk.
    """

    settings: Mapping[str, Any]
    contents: Mapping[str, str]
    origin: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = True
    defaults: Mapping[str, Any] = field(default_factory=dict)
    bags: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    contents_with_excluded: Mapping[str, str] = field(default_factory=dict)

    def as_record(self, origin: bool = True) -> dict[str, Any]:
        """Return plain values for `identity.json` or, without the paths in `origin`, for a checkpoint."""
        record = {
            "format_version": FORMAT_VERSION, "settings": dict(self.settings), "contents": dict(self.contents),
        }  # fmt: skip
        return record | {"digest": sha256_of_values(record)} | ({"origin": dict(self.origin)} if origin else {})


def identity_of(config: DictConfig, datamodule: BagDataModule, num_processes: int | None = None) -> RunIdentity:
    """Return the identity of the run of a configuration.

    Args:
        config: Root of the `train` command.
        datamodule: The data, after `setup`.
        num_processes: Number of training processes; None leaves out the number of bags per step.
    """
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    store, bags = datamodule.tile_store, bags_of(datamodule.split_frame())
    contents = {
        "tiles_sha256": str(store.description["sha256"]),
        "bags_sha256": _digest_of_bags(store.bags),
        "labels_sha256": str(datamodule.description["labels_sha256"]),
        "splits_sha256": digest_of_splits(bags),
    }  # fmt: skip
    return RunIdentity(
        settings_of(plain, num_processes), contents, origin_of(plain),
        defaults=_defaults_of(plain), bags=bags,
        contents_with_excluded={
            "tiles_sha256": store.array_sha256, "bags_sha256": _digest_of_bags(store.stored_bags),
        } if datamodule.left_out else {},
    )  # fmt: skip


def _digest_of_bags(bags: pd.DataFrame) -> str:
    """Return a digest of the names and numbers of tiles of all bags, in their order."""
    return sha256_of_values(
        [[str(name), int(count)] for name, count in zip(bags["bag_id"], bags["num_tiles"], strict=True)]
    )


def bags_of(frame: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Return bag name to split and label."""
    rows = zip(frame["id"].astype(str), frame["split"].astype(str), frame["label"].astype(str), strict=True)
    return {name: (split, label) for name, split, label in rows}


def digest_of_splits(bags: Mapping[str, tuple[str, str]]) -> str:
    """Return a digest of the assignment of bags to splits, independent of their order."""
    return sha256_of_splits({name: split for name, (split, _) in bags.items()})


def settings_of(plain: Mapping[str, Any], num_processes: int | None = None) -> dict[str, Any]:
    """Return the settings that determine training, dotted key to value."""
    content = {key: value for key, value in plain.items() if key not in _ROOT}
    data = content.get("data") or {}
    content["data"] = {key: value for key, value in data.items() if key in _data_options() and key not in _DATA}
    content["trainer"] = {key: value for key, value in (content.get("trainer") or {}).items() if key not in _TRAINER}
    content["callbacks"] = dict(decisive_callbacks(content.get("callbacks") or {}))
    settings = dict(_flat(content))
    settings.pop("trainer", None)
    if num_processes is not None and "batch_size" in data:
        # n processes with batch size b train as one process with batch size n*b.
        settings["bags_per_step"] = int(data["batch_size"]) * num_processes
    return dict(json.loads(json.dumps(settings, default=str)))


def origin_of(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that say where bags, labels and splits came from, dotted key to value."""
    data = plain.get("data") or {}
    named = {"splits", "groups", "exclude", "patients", "slides"}
    kept = {key: value for key, value in data.items() if key in named or key not in _data_options()}
    return dict(json.loads(json.dumps(dict(_flat({"data": kept})), default=str)))


def decisive_callbacks(entries: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the callbacks that affect training, its end or the choice of the best epoch."""
    for name, entry in entries.items():
        kind = str((entry or {}).get("_target_", "")).rpartition(".")[2]
        # Only the best checkpoint is tested; the others are for resuming.
        if not entry or kind in _ONLOOKERS or (kind in _CHECKPOINTS and entry.get("filename") != "best"):
            continue
        kept = {key: value for key, value in entry.items() if key not in _CALLBACK_PATHS}
        # The best epoch of runs of earlier versions was chosen by Lightning's own class; they can be continued.
        yield name, kept | ({"_target_": _LIGHTNINGS_CHECKPOINT} if kind in _CHECKPOINTS else {})


def _flat(content: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of every leaf; a weights file is replaced by its digest."""
    if not isinstance(content, Mapping):
        if key.endswith("_path") and isinstance(content, str) and Path(content).is_file():
            content = sha256_of_file(content)
        # Encoders are identified by name, everything else by class.
        yield key.removesuffix("._target_").replace("model.encoder.name", "model.encoder"), content
        return
    for name, value in content.items():
        if not (key.endswith(".encoder") and name in _ENCODER) and name not in ("_partial_", "_convert_"):
            yield from _flat(value, f"{key}.{name}".strip("."))


def _data_options() -> list[str]:
    """Return the options of `data` shared by every data set."""
    return [item.name for item in _parameters(BagDataModule) if item.name != "source"]


def _defaults_of(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the default values of all settings, so that an option added in a later version changes no earlier run."""
    defaults = {item.name: item.default for item in fields(TrainConfig)}
    defaults |= {f"decision.{item.name}": item.default for item in fields(Decision)}
    defaults |= {f"data.{key}": value for key, value in _signature(BagDataModule).items()}
    encoder = (plain.get("model") or {}).get("encoder")
    own = ENCODERS.get(str(encoder.get("name"))) if isinstance(encoder, Mapping) else None
    if own is not None:
        defaults |= {f"model.encoder.{key}": value for key, value in _signature(own).items()}
    defaults |= {"model.encoder.stain_normalisation": "none"}
    callbacks = {f"callbacks.{key}": value for key, value in (plain.get("callbacks") or {}).items()}
    for group, content in {**plain, **callbacks}.items():
        if isinstance(content, Mapping) and "_target_" in content and group != "data":
            defaults |= {f"{group}.{key}": value for key, value in _signature(content["_target_"]).items()}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in defaults.items()}


def _signature(target: Any) -> dict[str, Any]:
    """Return the default arguments of a callable, or of one named in the user's configuration."""
    try:
        made = get_object(target) if isinstance(target, str) else target
        parameters = _parameters(made)
    except (TypeError, ValueError, ImportError, AttributeError, HydraException):
        return {}  # some built-in classes have no signature, and a missing class is refused when instantiated
    return {item.name: item.default for item in parameters if item.default is not inspect.Parameter.empty}


@cache
def _parameters(made: Any) -> tuple[inspect.Parameter, ...]:
    """Return the parameters of a callable."""
    return tuple(inspect.signature(made).parameters.values())


class IdentityInCheckpoint(Callback):
    """Write the identity of the run into its checkpoints, so that a moved checkpoint is still recognized."""

    def __init__(self, identity: RunIdentity) -> None:
        self.record = identity.as_record(origin=False)

    @override
    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[CHECKPOINT_KEY] = self.record

    @override
    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # Lightning drops the best score so far if the folder has moved, and would overwrite the best checkpoint.
        states = checkpoint.get("callbacks", {})
        for callback in trainer.checkpoint_callbacks:
            state = states.get(callback.state_key)
            folder = getattr(callback, "dirpath", None)
            if not state or not folder:
                continue
            _require_state(state)
            if state.get("dirpath") not in (None, folder):
                if all((Path(folder) / Path(path).name).is_file() for path in state["best_k_models"]):
                    state = _moved(state, Path(folder))
                else:  # Lightning would take over the path of the best, wherever it is, and nothing else
                    state = {**state, "best_model_path": ""}
                states[callback.state_key] = state
            if state.get("dirpath") in (None, folder):
                _require_inside(_paths_of(state), Path(folder))


_PATHS = ("best_model_path", "last_model_path", "kth_best_model_path")


def _paths_of(state: Mapping[str, Any]) -> list[str]:
    """Return the paths of checkpoints in the state of a ModelCheckpoint."""
    return [path for path in (*state["best_k_models"], *(state[name] for name in _PATHS)) if path]


def _require_state(state: Any) -> None:
    """Refuse what is not the state of a ModelCheckpoint."""
    best = state.get("best_k_models") if isinstance(state, Mapping) else None
    paths = [*best, *(state.get(name) for name in _PATHS)] if isinstance(best, Mapping) else [None]
    if not all(isinstance(path, str) and "\0" not in path for path in paths):
        raise ValueError(
            "the checkpoint has a damaged list of the best checkpoints; give another run_name to start over"
        )


def _require_inside(paths: Iterable[str], folder: Path) -> None:
    """Refuse paths outside of a folder: Lightning deletes what it replaces by a better checkpoint, folders as well."""
    for path in paths:
        if not Path(path).resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f"the checkpoint names {path} as one of its best checkpoints, which training would delete, but it is not in "
                f"{folder}; give another run_name to start over"
            )


def _moved(state: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the state of a ModelCheckpoint whose files are now in another folder."""

    def path_of(old: str) -> str:
        return str(folder / Path(old).name) if old else old

    best = {path_of(path): score for path, score in state["best_k_models"].items()}
    return {**state, "dirpath": str(folder), "best_k_models": best} | {name: path_of(state[name]) for name in _PATHS}
