"""The run that a folder or checkpoint already holds, and its comparison with a new one."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from milpath.config.kept_configuration import read_plain
from milpath.models.torch_file import load_plain
from milpath.records.digests import sha256_of_values
from milpath.reports.run_folder import IDENTITY_FILE
from milpath.runs.run_identity import (
    CHECKPOINT_KEY,
    RunIdentity,
    bags_of,
    digest_of_splits,
    origin_of,
    settings_of,
)

_NUM_SHOWN = 3
# Schedulers whose learning rate at an epoch does not depend on the number of epochs, and never rises.
_OPEN_ENDED = {
    "StepLR", "MultiStepLR", "ExponentialLR", "ConstantLR", "ReduceLROnPlateau",
}  # fmt: skip
_EARLY_STOPPING = "callbacks.early_stopping"
_CONTENT_NAMES = {
    "tiles_sha256": "the tiles or features",
    "bags_sha256": "the bags",
    "labels_sha256": "the labels",
    "splits_sha256": "the split",
}


def identity_in_folder(run_dir: Path) -> RunIdentity | None:
    """Return the identity of the run in a folder, or None if the folder holds no run.

    Version 0.1.0 wrote no `identity.json`; its `config.yaml`, `provenance.json` and `splits.csv` hold the same information.

    Raises:
        ValueError: If the folder holds an evaluation, or files that cannot be read.
    """
    path, config_path = run_dir / IDENTITY_FILE, run_dir / "config.yaml"
    try:
        if path.is_file():
            found: RunIdentity | None = _from_record(json.loads(path.read_text(encoding="utf-8")))
        elif config_path.is_file():
            # Interpolations of an untrusted file are not resolved.
            plain = read_plain(config_path)
            found = _from_old_folder(run_dir, plain) if "model" in plain else None
        else:
            return None
        bags = _bags_in(run_dir)
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(
            f"{run_dir} holds a run whose record cannot be read ({type(error).__name__}: {error}); give another run_name"
        ) from None
    if found is None:
        raise ValueError(f"{run_dir} holds an evaluation; give another run_name to train")
    return replace(found, bags=bags)


def identity_in_checkpoint(path: Path) -> RunIdentity | None:
    """Return the identity of the run that wrote a checkpoint, as far as the file or its folder records it."""
    content = load_plain(path, mapped=True)
    if isinstance(record := content.get(CHECKPOINT_KEY), Mapping):
        try:
            written, bags = _from_record(record), _bags_in(path.parent.parent)
            # A checkpoint may have been moved next to the files of another run.
            return (
                replace(written, bags=bags) if digest_of_splits(bags) == written.contents["splits_sha256"] else written
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: the record of its run cannot be read ({error})") from None
    if path.parent.name == "checkpoints" and (found := identity_in_folder(path.parent.parent)) is not None:
        return found
    # A checkpoint of version 0.1.0 outside its run folder: only the card has the options of the data.
    card = content.get("milpath")
    data = card.get("data") if isinstance(card, Mapping) else None
    if not isinstance(data, Mapping):
        return None
    known = {key: value for key, value in data.items() if key != "standardize"}  # cards always hold False
    return RunIdentity(settings_of({"data": known}), {}, origin_of({"data": known}), complete=False)


def require_same_run(
    before: RunIdentity, now: RunIdentity, where: Path, done: Mapping[str, int] | None = None
) -> str | None:
    """Refuse to resume a run with settings or data other than it was started with.

    A run may be continued with more epochs or steps (`trainer.max_epochs`, `trainer.max_steps`) or without early stopping:
    the result is that of a run which had these limits from the start. So is that of fewer epochs or steps, as long as no
    more are done. This holds only if the learning rate does not depend on the number of epochs. A cosine schedule that has
    reached its minimum would rise again, so a scheduler that depends on the length of the run is refused.

    Args:
        before: The run that was started.
        now: The run that is requested.
        where: Folder or checkpoint of the run that was started.
        done: Epochs and steps done so far, `trainer.max_epochs` and `trainer.max_steps`; None refuses lower limits.

    Returns:
        How the run is continued, for the log; None if all settings are equal.

    Raises:
        ValueError: With the first keys that differ, their values, and what to type.
    """
    changed = dict(_changes(before, now))
    longer = {key: values for key, values in changed.items() if _is_continuation(key, values, now, done or {})}
    limits = [key for key in longer if not key.startswith(_EARLY_STOPPING)]
    scheduler = str(now.settings.get("scheduler") or "").rpartition(".")[2]
    if limits and scheduler and scheduler not in _OPEN_ENDED and before.settings.get("scheduler"):
        was, wished = longer[limits[0]]
        change = "fall faster" if -1 < wished < was else "rise again"
        raise ValueError(
            f"{where} was trained with {limits[0]}={was} (now {wished}) and a {scheduler}, which depends on the length of "
            f"the run: the learning rate would {change}; give another run_name to train from the start (a run with "
            "scheduler=none or step can be continued)"
        )
    if other := {key: values for key, values in changed.items() if key not in longer}:
        raise ValueError(_refusal(other, where) + _already_done(other, done or {}))
    if not longer:
        return None
    return ", ".join(f"{key} was {was}, is now {wished}" for key, (was, wished) in longer.items())


def _already_done(changed: Mapping[str, tuple[Any, Any]], done: Mapping[str, int]) -> str:
    """Return what to add to a refusal of lower limits."""
    return "".join(
        f"; {done[key]:,} {key.removeprefix('trainer.max_')} are already done" for key in changed if key in done
    )


def _is_continuation(key: str, values: tuple[Any, Any], now: RunIdentity, done: Mapping[str, int]) -> bool:
    """Return whether a difference only moves the end of the run to a point that it has not passed."""
    if key == _EARLY_STOPPING:
        return key not in now.settings
    was, wished = values
    if key not in ("trainer.max_epochs", "trainer.max_steps") or not isinstance(was, int) or was < 0:
        return False
    return isinstance(wished, int) and (wished > was or wished == -1 or wished >= done.get(key, was))


def _changes(before: RunIdentity, now: RunIdentity) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield each difference with its values in both runs, settings of the data first, contents last."""
    keys = set(before.settings) | (set(now.settings) if before.complete else set())
    if "bags_per_step" not in now.settings or "bags_per_step" not in before.settings:
        keys.discard("bags_per_step")
    differing: list[str] = []
    for key in sorted(keys, key=lambda key: (not key.startswith("data."), key)):
        if any(key.startswith(f"{group}.") for group in differing):
            continue  # a different class has different arguments; its name is enough
        was = before.settings.get(key, now.defaults.get(key))
        wished = now.settings.get(key, now.defaults.get(key))
        if was != wished:
            differing.append(key)
            yield key, (was, wished)
    for name, said in _CONTENT_NAMES.items():
        if name not in before.contents or name not in now.contents:
            continue
        if before.contents[name] not in (now.contents[name], now.contents_with_excluded.get(name)):
            # Changed options of the data already explain changed bags, labels and splits.
            if name == "tiles_sha256" or not any(key.startswith("data.") for key in differing):
                yield said, _evidence(name, before, now)
            return


def _evidence(name: str, before: RunIdentity, now: RunIdentity) -> tuple[str, str]:
    """Return an example of how two contents differ: a bag, an option, or the digests."""
    column = {"splits_sha256": 0, "labels_sha256": 1}.get(name)
    if column is not None:
        for bag_id in sorted(before.bags.keys() & now.bags.keys()):
            was, wished = before.bags[bag_id][column], now.bags[bag_id][column]
            if was != wished:
                return f"{bag_id} {was}", wished
        if before.bags and (only := sorted(before.bags.keys() ^ now.bags.keys())):
            return (f"with {only[0]}", "without it") if only[0] in before.bags else (f"without {only[0]}", "with it")
    for key in sorted(before.origin.keys() & now.origin.keys()):
        if before.origin[key] != now.origin[key]:
            return f"{key}={_typed(before.origin[key])}", _typed(now.origin[key])
    return f"sha256 {before.contents[name][:12]}", now.contents[name][:12]


def _refusal(changed: Mapping[str, tuple[Any, Any]], where: Path) -> str:
    """Return the error message: what differs and what to type."""
    said = [_one_change(key, was, wished) for key, (was, wished) in list(changed.items())[:_NUM_SHOWN]]
    if len(changed) > _NUM_SHOWN:
        said.append(f"{len(changed) - _NUM_SHOWN} more")
    return f"{where} was trained with other values: {', '.join(said)}; give another run_name, or the original values"


def _one_change(key: str, was: Any, wished: Any) -> str:
    """Return a difference in the syntax of the command line."""
    if key in _CONTENT_NAMES.values():
        return f"{key} ({was}, now {wished})"
    return f"{'data.batch_size x processes' if key == 'bags_per_step' else key}={_typed(was)} (now {_typed(wished)})"


def _typed(value: Any) -> str:
    """Return a value in the syntax of the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return json.dumps(value).replace(" ", "") if isinstance(value, list | dict) else str(value)


def _from_record(record: Mapping[str, Any]) -> RunIdentity:
    """Return the identity in a record after checking its digest."""
    content = {key: record[key] for key in ("format_version", "settings", "contents")}
    if not all(
        isinstance(part, Mapping) for part in (content["settings"], content["contents"], record.get("origin", {}))
    ):
        raise ValueError("its settings, contents and origin must be mappings")
    if record["digest"] != sha256_of_values(content):
        raise ValueError("its settings do not match their digest")
    return RunIdentity(content["settings"], content["contents"], record.get("origin", {}))


def _bags_in(run_dir: Path) -> dict[str, tuple[str, str]]:
    """Return split and label of each bag of the run in a folder; empty without `splits.csv`."""
    path = run_dir / "splits.csv"
    return bags_of(pd.read_csv(path, dtype=str, keep_default_na=False)) if path.is_file() else {}


def _from_old_folder(run_dir: Path, plain: Mapping[str, Any]) -> RunIdentity:
    """Return the identity of a run from the files of version 0.1.0."""
    contents = {}
    if bags := _bags_in(run_dir):
        contents["splits_sha256"] = digest_of_splits(bags)
    if (run_dir / "provenance.json").is_file():
        data = json.loads((run_dir / "provenance.json").read_text(encoding="utf-8")).get("data", {})
        # With a frozen encoder the store holds features, and its parameters the digest of the tiles.
        source = data.get("source") or {}
        tiles = (source.get("parameters") or {}).get("tiles_sha256") if source.get("name") == "features" else None
        found = {"tiles_sha256": tiles or data.get("store_sha256"), "labels_sha256": data.get("labels_sha256")}
        contents |= {name: value for name, value in found.items() if value}
    devices, nodes = plain["trainer"].get("devices", 1), plain["trainer"].get("num_nodes", 1)
    count = devices * nodes if isinstance(devices, int) and isinstance(nodes, int) and devices > 0 else None
    return RunIdentity(settings_of(plain, count), contents, origin_of(plain))
