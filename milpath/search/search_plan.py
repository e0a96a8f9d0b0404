"""Plan of a search: its parameters, its fixed overrides, and the configuration of an example trial."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import DictConfig, OmegaConf

from milpath.records.atomic_files import write_json

# Keys of a trial's configuration that affect where it is written, not what it computes.
_PLACES = ("paths", "run_name", "resume_from")


@dataclass(frozen=True)
class SearchPlan:
    """A search, as defined by its command line and its configuration file.

    Attributes:
        sweeper: Class that chooses the trials.
        parameters: Key to candidates, as typed.
        fixed: The other overrides of the command line.
        example: One value for each parameter, as overrides.
    """

    sweeper: str
    parameters: dict[str, str]
    fixed: tuple[str, ...]
    example: tuple[str, ...]

    @property
    def is_grid(self) -> bool:
        """Whether every combination is tried, so that adding candidates does not change the existing trials."""
        return self.sweeper.endswith(".BasicSweeper")

    @property
    def num_combinations(self) -> int:
        """Number of trials of a grid."""
        words = parse_words([f"{key}={candidates}" for key, candidates in self.parameters.items()])
        return math.prod(sum(1 for _ in word.sweep_string_iterator()) for word in words)

    def compose_example(self, config_name: str) -> DictConfig:
        """Return the configuration of one trial; a key that does not exist is an error here, before any training."""
        return compose(config_name, [*self.fixed, *self.example])


def plan_search(sweeper: DictConfig, words: Sequence[str]) -> SearchPlan:
    """Return the plan of a multirun.

    Args:
        sweeper: The node `hydra.sweeper`.
        words: Command-line overrides, without those of Hydra; a key given here replaces the same key in `params`.

    Raises:
        ValueError: If nothing is searched.
    """
    asked = [f"{key}={candidates}" for key, candidates in (sweeper.get("params") or {}).items()]
    overrides = {override.get_key_element(): override for override in parse_words([*asked, *words])}
    searched = {key: override for key, override in overrides.items() if override.is_sweep_override()}
    if not searched:
        raise ValueError(
            "the search has no parameter with more than one value; give one, such as optimizer.lr=1e-4,1e-3"
        )
    return SearchPlan(
        sweeper=str(sweeper.get("_target_")),
        parameters={key: _candidates(override) for key, override in searched.items()},
        fixed=tuple(_line(override) for key, override in overrides.items() if key not in searched),
        example=tuple(f"{key}={_first(override)}" for key, override in searched.items()),
    )


def parse_words(words: Sequence[str]) -> list[Override]:
    """Return overrides parsed with Hydra's grammar."""
    return OverridesParser.create().parse_overrides(list(words))


def keep_plan(plan: SearchPlan, config_name: str, path: Path) -> DictConfig:
    """Write the plan of a search, or refuse to mix two searches in one folder.

    Args:
        plan: The search.
        config_name: Root configuration.
        path: `search.json` in the folder of the search.

    Returns:
        The configuration of one trial.

    Raises:
        ValueError: If the folder holds another search, or its configuration has changed since.
    """
    config = plan.compose_example(config_name)
    if path.exists():
        kept = _read_plan(path)
        before = SearchPlan(kept["sweeper"], kept["parameters"], plan.fixed, tuple(kept["example"]))
        typed = [override.get_key_element().lstrip("+") for override in parse_words(plan.fixed)]
        now = _plain(before.compose_example(config_name))
        difference = _difference(before, plan) or _changed_key(_decisive(kept["trial"]), _decisive(now), typed)
        if difference:
            raise ValueError(
                f"{path.parent} holds another search ({difference}); give another run_name, or the same overrides as before"
            )
        return config
    content = {"sweeper": plan.sweeper, "parameters": plan.parameters, "example": plan.example, "trial": _plain(config)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)
    return config


def _read_plan(path: Path) -> dict[str, Any]:
    """Return the plan in a file; only the values of its parameters are composed.

    Its `trial` is a full configuration that names classes, so it is compared but never instantiated.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is not JSON, or is damaged; give another run_name, or remove it") from None
    kinds = {"sweeper": str, "parameters": dict, "example": list, "trial": dict}
    if not isinstance(kept, dict) or not all(isinstance(kept.get(name), kind) for name, kind in kinds.items()):
        raise ValueError(f"{path} is not the plan of a search; give another run_name, or remove it")
    keys = [override.get_key_element() for override in parse_words([str(word) for word in kept["example"]])]
    if unknown := [key for key in keys if key not in kept["parameters"]]:
        raise ValueError(f"{path} has a value for {unknown[0]}, which is not searched; remove the file")
    return kept


def _difference(before: SearchPlan, now: SearchPlan) -> str | None:
    """Return the first difference between two plans, or None."""
    if before.sweeper != now.sweeper:
        return f"its sweeper was {before.sweeper}"
    keys = sorted(before.parameters.keys() ^ now.parameters.keys())
    if keys:
        return f"{keys[0]} was {'searched' if keys[0] in before.parameters else 'not searched'}"
    changed = [key for key in before.parameters if before.parameters[key] != now.parameters[key]]
    return f"{changed[0]} was {before.parameters[changed[0]]}" if changed and not now.is_grid else None


def _plain(config: DictConfig) -> dict[str, Any]:
    """Return the settings of a trial as plain values, with interpolations unresolved."""
    content = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    kept = {key: value for key, value in content.items() if key not in _PLACES}
    return dict(json.loads(json.dumps(kept, default=str)))


def _decisive(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a trial without callbacks that only log, show progress or save checkpoints to resume from."""
    from milpath.runs.run_identity import decisive_callbacks

    return dict(trial) | {"callbacks": dict(decisive_callbacks(trial.get("callbacks") or {}))}


def _changed_key(before: Any, now: Any, typed: Sequence[str], key: str = "") -> str | None:
    """Return the first key whose value differs, with its earlier value, or None.

    A key that only exists now was added by a later version of the library, unless it is on the command line.
    """
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted(before.keys() | now.keys()):
            path = f"{key}.{name}".strip(".")
            if name not in before and not any(word == path or word.startswith(f"{path}.") for word in typed):
                continue
            if found := _changed_key(before.get(name), now.get(name), typed, path):
                return found
        return None
    return None if before == now else f"{key} was {before}"


def _line(override: Override) -> str:
    """Return an override as typed."""
    return str(override.input_line)


def _candidates(override: Override) -> str:
    """Return the part after the equals sign."""
    return _line(override).partition("=")[2]


def _first(override: Override) -> str:
    """Return one value of a parameter."""
    value = override.value()
    if isinstance(value, IntervalSweep):
        return str(value.start)
    return next(iter(override.sweep_string_iterator()))
