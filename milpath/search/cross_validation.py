"""Repeated cross-validation: every method on the same folds, each training in its own folder."""

import itertools
import logging
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from milpath.config.command import one_line
from milpath.config.command_line import override, quoted
from milpath.config.composition_errors import with_booleans
from milpath.drawing.progress import track
from milpath.records.atomic_files import write_json, write_text
from milpath.records.plain_values import read_json
from milpath.runs.build import build_training_data
from milpath.runs.chosen_parts.encoder_choice import let_encoder_follow
from milpath.runs.earlier_run import identity_in_folder, require_same_run
from milpath.runs.run_identity import identity_of
from milpath.runs.training_run import run
from milpath.search.composition import OF_ONE_TRAINING, compose_quiet_training, compose_training
from milpath.search.job_processes import process_pool
from milpath.search.trials import FAILURE

# The built-in rows of a table: the overrides that each method adds to the command line of milpath.train.
METHODS: Mapping[str, tuple[str, ...]] = {
    "attention": ("model=attention_mil",),
    "gated_attention": ("model=gated_attention_mil",),
    "instance_max": ("model=instance_pool_mil", "model.pooling=max"),
    "instance_mean": ("model=instance_pool_mil", "model.pooling=mean"),
    "instance_lse": ("model=instance_pool_mil", "model.pooling=log_sum_exp"),
    "embedding_max": ("model=embedding_pool_mil", "model.pooling=max"),
    "embedding_mean": ("model=embedding_pool_mil", "model.pooling=mean"),
    "embedding_lse": ("model=embedding_pool_mil", "model.pooling=log_sum_exp"),
    "dsmil": ("model=dsmil", "auxiliary_loss=dsmil_max_instance"),
    "clam_sb": ("model=clam_sb", "auxiliary_loss=clam_clustering"),
    "clam_mb": ("model=clam_mb", "auxiliary_loss=clam_clustering"),
    "trans_mil": ("model=trans_mil",),
    "attention_ensemble": ("model=attention_ensemble_mil",),
    "gated_attention_ensemble": ("model=attention_ensemble_mil", "model.gated=true"),
    "multi_head_attention": ("model=multi_head_attention_mil",),
    "acmil": ("model=acmil", "auxiliary_loss=acmil_branches"),
    "dtfd_mil": ("model=dtfd_mil", "auxiliary_loss=dtfd_pseudo_bags"),
    "ilra_mil": ("model=ilra_mil",),
    "additive_mil": ("model=additive_mil",),
    "feather_mil": ("model=feather_mil", "model/encoder=linear", "model.encoder.hidden_dims=[512]"),
}
# What a table sets in each training.
_OF_THE_TABLE = OF_ONE_TRAINING | {"data.num_folds", "paths.run_dir", "report"}
# An interrupted training repeats at most as much.
_CHECKPOINT_SECONDS = 10.0
# A method that is its weights: without them it would be another one under its name.
_PRETRAINED = {"feather_mil": "model.weights_path"}


@dataclass(frozen=True)
class Training:
    """One training of a table: a method on one fold of one repeat with one candidate of the search.

    Attributes:
        method: Name in `METHODS`, or of the user's own `model/NAME.yaml`.
        repeat: 0-based; repeats differ in their folds and seeds.
        fold: 0-based; the test split.
        candidate: The searched values, as overrides.
        run_dir: Folder of the training.
        overrides: All overrides of the command line.
    """

    method: str
    repeat: int
    fold: int
    candidate: tuple[str, ...]
    run_dir: Path
    overrides: tuple[str, ...]

    @property
    def name(self) -> str:
        """Method, repeat and fold, for messages."""
        return f"{self.method}, repeat {self.repeat}, fold {self.fold}"


def plan_trainings(
    words: Sequence[str],
    methods: Sequence[str],
    folds: int,
    repeats: int,
    output: Path,
    seed: int = 0,
    search: Mapping[str, Sequence[Any]] | None = None,
    config_dirs: Sequence[str] = (),
    method_options: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Training]:
    """Return every training of a table, ordered by method, repeat and fold.

    Args:
        words: Command-line overrides of `milpath.train` for every training.
        methods: Names in `METHODS`, or of `model/NAME.yaml` in the user's own folders.
        folds: Number of folds per repeat, at least 2.
        repeats: Number of repeats, at least 1.
        output: Folder of the table.
        seed: First seed; repeats and folds use consecutive seeds.
        search: Key to its candidates.
        config_dirs: The user's own configuration folders, as `file://` addresses.
        method_options: Method to the options that only it gets, such as the file of its weights.

    Raises:
        ValueError: If a method is unknown, given twice or lacks its weights, there are fewer than two folds or one repeat,
            or a searched key has no candidates or is one that the table sets itself.
    """
    if unknown := [name for name in methods if name not in METHODS and not _is_own(name, config_dirs)]:
        raise ValueError(
            f"unknown methods {', '.join(unknown)}; must be among {', '.join(METHODS)}, or the name of your own "
            "model/NAME.yaml in the folder given with --config-dir"
        )
    if len(set(methods)) != len(methods) or not methods:
        raise ValueError(f"methods={list(methods)} must name each method once")
    _require_keys(search, "search", "{optimizer.lr: [1e-4, 5e-4]}")
    _require_keys(method_options, "method_options", example := "{attention: {model.attention_dim: 64}}")
    for options in (method_options or {}).values():
        _require_keys(options, f"method_options={dict(method_options or {})}", example)
    own = {name: dict(options or {}) for name, options in (method_options or {}).items()}
    if unknown := [name for name in own if name not in methods]:
        raise ValueError(f"method_options has {', '.join(unknown)}, which is not in methods=[{','.join(methods)}]")
    for name, key in _PRETRAINED.items():
        if name in methods and key not in own.get(name, {}):
            raise ValueError(
                f"{name} starts from the weights of its authors; give method_options={{{name}:{{{key}:FILE}}}} "
                "(null: random weights)"
            )
    if folds < 2 or repeats < 1:
        raise ValueError(f"a table needs folds >= 2 and repeats >= 1, got folds={folds} repeats={repeats}")
    if search and not all(isinstance(values, Sequence) and values for values in search.values()):
        raise ValueError(f"search={dict(search)} must give each key a list, such as {{optimizer.lr: [1e-4, 5e-4]}}")
    given = [*(search or {}), *(key for options in own.values() for key in options)]
    if taken := sorted(_OF_THE_TABLE.intersection(key.lstrip("+") for key in given)):
        raise ValueError(
            f"{taken[0]} is set by the table itself for each training and can be neither searched nor an option of a "
            "method; leave it out"
        )
    if config_dirs:
        words = [f"hydra.searchpath=[{','.join(map(quoted, config_dirs))}]", *words]
    of_methods = {
        name: (
            *METHODS.get(name, (f"model={name}",)),
            *(override(key, value) for key, value in own.get(name, {}).items()),
        )
        for name in methods
    }
    of_methods = {name: tuple(with_booleans(overrides, "table")) for name, overrides in of_methods.items()}
    return list(_plan(words, of_methods, folds, repeats, output, seed, search or {}))


def _require_keys(given: Any, option: str, example: str) -> None:
    """Refuse an option that has no keys."""
    if given is not None and not isinstance(given, Mapping):
        value = "" if "=" in option else f"={given}"
        inner = ", without quotes within the option" if isinstance(given, str) else ""
        raise ValueError(f"{option}{value} must give values for keys, such as {example}{inner}")


def _plan(
    words: Sequence[str],
    methods: Mapping[str, tuple[str, ...]],
    folds: int,
    repeats: int,
    output: Path,
    seed: int,
    search: Mapping[str, Sequence[Any]],
) -> Iterator[Training]:
    first = next(iter(methods.values()))
    searched = [[with_booleans([*first, override(key, value)], "table")[-1] for value in search[key]] for key in search]
    candidates = list(itertools.product(*searched))
    for method, repeat, fold in itertools.product(methods, range(repeats), range(folds)):
        for number, candidate in enumerate(candidates):
            runs_dir = output / "runs" / method / f"repeat_{repeat}"
            name = f"fold_{fold}" + (f"_candidate_{number}" if search else "")
            overrides = (
                *words,
                *methods[method],
                *candidate,
                f"data.num_folds={folds}",
                f"data.fold={fold}",
                f"data.split_seed={seed + repeat}",
                f"seed={seed + repeat * folds + fold}",
                f"paths.runs_dir={quoted(str(runs_dir))}",
                f"run_name={name}",
                "report=false",
            )
            yield Training(method, repeat, fold, candidate, runs_dir / name, overrides)


def _is_own(method: str, config_dirs: Sequence[str]) -> bool:
    """Return whether the user has a network configuration of that name."""
    folders = [Path(address.removeprefix("file://")) for address in config_dirs]
    return method.isidentifier() and any((folder / "model" / f"{method}.yaml").is_file() for folder in folders)


def run_trainings(trainings: Sequence[Training], jobs: int = 1) -> list[Training]:
    """Run the trainings that are not finished; an interrupted one resumes from its last checkpoint.

    Args:
        trainings: The plan.
        jobs: Number of concurrent trainings, each in its own process.

    Returns:
        The trainings that failed; `failure.txt` in the folder of each gives the reason.

    Raises:
        ValueError: If a finished training used other data or settings.
    """
    waiting = [training for training in trainings if not (training.run_dir / "metrics.json").exists()]
    for training in trainings:
        if training not in waiting:
            _require_same_training(training)
    if jobs == 1:
        for training in track(waiting, "trainings", len(waiting)):
            _run_training(training)
    else:
        with process_pool(jobs) as pool:
            futures = [pool.submit(_run_training, training) for training in waiting]
            try:
                for future in track(as_completed(futures), "trainings", len(futures)):
                    future.result()
            except BaseException:  # including an interrupt: start nothing new; what runs now is resumed later
                pool.shutdown(wait=False, cancel_futures=True)
                for process in multiprocessing.active_children():
                    process.kill()
                raise
    return [training for training in trainings if not (training.run_dir / "metrics.json").exists()]


def _require_same_training(training: Training) -> None:
    """Refuse a finished training on other data, labels or settings, which the same command may refer to."""
    if (before := identity_in_folder(training.run_dir)) is not None:
        config = compose_training(training.overrides)
        datamodule = build_training_data(config)
        datamodule.setup()
        let_encoder_follow(config.model, datamodule.tile_shape)
        require_same_run(before, identity_of(config, datamodule), training.run_dir)


def _run_training(training: Training) -> None:
    """Train, and record a failure in a file, so that the other folds still run."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    training.run_dir.mkdir(parents=True, exist_ok=True)
    failure = training.run_dir / FAILURE
    failure.unlink(missing_ok=True)
    try:
        run(compose_quiet_training(training.overrides, training.name), checkpoint_seconds=_CHECKPOINT_SECONDS)
    except Exception as error:
        write_text(failure, one_line(error) + "\n")


def save_plan(trainings: Sequence[Training], output: Path) -> None:
    """Write `plan.json`, or refuse to mix two tables in one folder.

    Raises:
        ValueError: If the folder holds a table with other trainings.
    """
    plan, path = [list(training.overrides) for training in trainings], output / "plan.json"
    if path.exists() and read_json(path) != plan:
        raise ValueError(f"{output} holds another table; give another output folder, or the same overrides as before")
    output.mkdir(parents=True, exist_ok=True)
    write_json(path, plan)
