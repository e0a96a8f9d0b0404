"""Hydra callback that turns a multirun into a search: checked before the first trial, resumable, ending with a table.

The state of a search is its folder: each trial has a folder named after its parameters, and a finished trial immediately
returns its recorded value. Repeating the command therefore goes through the same trials and trains the missing ones, and a
seeded sampler makes the same choices after an interruption as without one.
"""

import logging
import shlex
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markdown import Markdown

from milpath.config.command import USER_ERRORS, one_line, refuse_distributed_sweep, require_mandatory
from milpath.drawing.progress import duration
from milpath.records.atomic_files import write_json, write_text
from milpath.records.digests import sha256_of_text
from milpath.records.folder_lock import FolderLock
from milpath.runs.build import build_training_data
from milpath.runs.monitor import require_validation
from milpath.search import optuna_sweeper
from milpath.search.runnable_config import moved_command, run_command, runnable_config
from milpath.search.search_plan import keep_plan, parse_words, plan_search
from milpath.search.trials import FAILURE, TRIAL, Trial, read_trials, write_trials

logger = logging.getLogger(__name__)


def trial_folder(words: str) -> str:
    """Return the folder name of a trial: a hash, because values may contain characters special in Hydra's grammar.

    Args:
        words: The searched overrides, from `hydra.job.override_dirname`.

    Example:
        >>> trial_folder("optimizer.lr=0.001") == trial_folder("optimizer.lr=0.001")
        True
    """
    return "trial_" + sha256_of_text(words)[:10]


OmegaConf.register_new_resolver("trial_folder", trial_folder, replace=True)


def _or_stop(method: Callable[..., None]) -> Callable[..., None]:
    """Return a method that exits with a one-line error; Hydra would turn an error in a callback into a warning."""

    @wraps(method)
    def run(*arguments: Any, **named: Any) -> None:
        try:
            method(*arguments, **named)
        except (*USER_ERRORS, OSError, HydraException) as error:
            sys.stderr.write(one_line(error) + "\n")
            sys.exit(1)

    return run


class Search(Callback):
    """The callback of a search."""

    def __init__(self) -> None:
        self.num_ended = 0
        self.num_trials: int | None = None
        self.started = time.monotonic()
        self.lock: FolderLock | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Launchers that run jobs in other processes pickle this object; the lock stays in this process.
        return self.__dict__ | {"lock": None}

    @_or_stop
    def on_multirun_start(self, config: DictConfig, config_name: str, **kwargs: Any) -> None:
        """Check everything that can be checked before the first trial."""
        sweeper, search_dir = config.hydra.sweeper, Path(config.hydra.sweep.dir)
        if "[sweep]" in sweeper.get("_target_", ""):
            raise ImportError('this search needs Optuna, which is not installed; type: pip install "milpath[sweep]"')
        if sweeper.get("_target_") == optuna_sweeper.NAME:
            optuna_sweeper.take_samplers()
        plan = plan_search(sweeper, config.hydra.overrides.task)
        self.num_trials = plan.num_combinations if plan.is_grid else sweeper.get("n_trials")
        trial = plan.compose_example(config_name)
        require_mandatory(trial)
        refuse_distributed_sweep(trial)
        datamodule = build_training_data(trial)
        datamodule.setup()  # fails on bad data before the first trial, and builds the store once
        require_validation(trial.monitor, datamodule)
        self.lock = FolderLock(search_dir)
        self.lock.acquire()
        keep_plan(plan, config_name, search_dir / "search.json")
        # Every finished trial is reported to Optuna again in the original order, so its sampler repeats its choices.
        (search_dir / "study.db").unlink(missing_ok=True)
        fixed = [override.key_or_group for override in parse_words(plan.fixed)]
        config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys=[{','.join(fixed)}]")

    @_or_stop
    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the parameters and the configuration of the trial; a trial that failed before is run again."""
        folder, job = Path(config.hydra.runtime.output_dir), config.hydra.job
        fixed = set(job.config.override_dirname.exclude_keys)
        searched = [word for word in parse_words(config.hydra.overrides.task) if word.key_or_group not in fixed]
        parameters = {word.get_key_element(): word.get_value_element_as_str() for word in searched}
        (folder / FAILURE).unlink(missing_ok=True)
        write_json(folder / TRIAL, {"parameters": parameters})
        header = f"# {run_command(config, str(folder), 'trial')}\n"
        write_text(folder / "trial.yaml", header + runnable_config(config))

    @_or_stop
    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Record why a trial failed, let the search continue, and update the table."""
        # The property `return_value` of a failed job would print all of its overrides.
        value, failure = job_return._return_value, None
        if job_return.status is JobStatus.FAILED:  # the failure of a trial must not end the search
            failure = one_line(value)
            job_return.status, job_return.return_value = JobStatus.COMPLETED, None
        elif value is None:
            failure = f"{config.monitor} is undefined on these labels"
        folder = Path(config.hydra.runtime.output_dir)
        if failure:
            write_text(folder / FAILURE, failure + "\n")
            logger.warning("%s failed: %s", folder.name, failure)
        trials, _, _ = self._report(config)
        self.num_ended += 1
        self._say_how_far(folder.name, value, config)
        if self.num_ended == config.hydra.sweeper.get("n_trials") and all(trial.value is None for trial in trials):
            _give_up(trials)  # Optuna has no best trial and would fail with a traceback

    def _say_how_far(self, name: str, value: Any, config: DictConfig) -> None:
        """Write a line after each trial: a search may take days, and its trials print nothing."""
        spent = time.monotonic() - self.started
        count, left = f"{self.num_ended}", ""
        if self.num_trials is not None:
            rest = max(0, self.num_trials - self.num_ended)
            count = f"{count} of {self.num_trials}"
            left = f", about {duration(spent / self.num_ended * rest)} left" if rest else ""
        result = "failed" if isinstance(value, Exception) or value is None else f"{config.monitor} {value:.4f}"
        sys.stderr.write(f"trial {count} ({name}): {result}; {duration(spent)}{left}\n")

    @_or_stop
    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table and the next commands."""
        trials, text, commands = self._report(config)
        if self.lock is not None:
            self.lock.release()
        if all(trial.value is None for trial in trials):
            _give_up(trials)
        Console().print(Markdown(text))
        Console().print(*commands, sep="\n", soft_wrap=True, highlight=False, markup=False)

    def _report(self, config: DictConfig) -> tuple[list[Trial], str, list[str]]:
        """Write the table and the best trial's configuration; return trials, table and the next commands."""
        search_dir = Path(config.hydra.sweep.dir)
        monitor, mode = config.monitor, config.monitor_mode
        trials = read_trials(search_dir, monitor, mode)
        best = trials[0] if trials and trials[0].value is not None else None
        if best is None:
            return trials, write_trials(search_dir, trials, monitor, mode), []
        lines = (best.folder / "trial.yaml").read_text(encoding="utf-8").split("\n", 1)
        train = moved_command(lines[0].removeprefix("# "), config.hydra.sweep.dir, "best")
        checkpoint = f"checkpoint={config.hydra.sweep.dir}/{best.folder.name}/checkpoints/best.ckpt"
        test = shlex.join(["python", "-m", "milpath.evaluate", checkpoint])
        note = f"# The best of {len(trials)} trials: {monitor} {best.value:.4f} on the validation split."
        write_text(search_dir / "best.yaml", f"# {train}\n{note}\n{lines[1]}")
        commands = [
            "train the best configuration again and test it:",
            f"    {train}",
            "or test its checkpoint from the search:",
            f"    {test}",
        ]
        text = write_trials(search_dir, trials, monitor, mode)
        return trials, text, commands


def _give_up(trials: list[Trial]) -> None:
    """Raise the error of a search in which every trial failed."""
    first = next((trial for trial in trials if trial.failure), None)
    raise ValueError(f"none of the {len(trials)} trials succeeded" + (f"; first: {first.failure}" if first else ""))
