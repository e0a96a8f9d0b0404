"""The text of `milpath COMMAND --help`: every option with its default and the comment of the configuration."""

import re
from collections.abc import Iterator, Mapping, Sequence

from milpath.config.option_reference import (
    Key,
    as_typed,
    defaults_of,
    extends_train,
    groups,
    header_lines,
    inner_groups,
    keys_of,
    parents_of,
    root_path,
)
from milpath.config.roots import CONFIG_DIR

# Keys of the Trainer that only `Trainer.fit` reads.
ONLY_TRAINING = (
    "sync_batchnorm", "max_epochs", "min_epochs", "max_steps", "max_time", "gradient_clip_val", "accumulate_grad_batches",
    "check_val_every_n_epoch", "limit_train_batches", "limit_val_batches", "num_sanity_val_steps", "log_every_n_steps",
    "enable_model_summary",
)  # fmt: skip
_WIDEST = 44  # a longer option takes more room, and its comment follows


def help_text(command: str, words: Sequence[str] = ()) -> str:
    """Return usage, options and groups of a command.

    Args:
        command: Its name, such as `train` or `sagemaker.launch`.
        words: What was typed; the keys of `group=OPTION` are shown instead of those of the default of the group.
    """
    path, typed = root_path(command), f"milpath {command.replace('.', ' ')}"
    given = dict(word.split("=", 1) for word in words if "=" in word and word.split("=", 1)[0] in groups())
    chosen = {group: given.get(group, option) for group, option in defaults_of(path).items() if group in groups()}
    lines = [as_typed(line) for line in header_lines(path)]
    options = [key for key in keys_of(path) if key.value or key.comment]
    lines += ["", "Options, key=value (??? must be given):", *map(_line, options)]
    if extends_train(path):
        lines += ["", "Every option of milpath train also works: milpath train --help"]
    if chosen:
        lines += ["", "Groups, group=OPTION; below each group the keys of its default, group.key=value."]
        lines.append(f"The keys of another option: {typed} --help {next(iter(chosen))}=OPTION")
        for group, option in chosen.items():
            # A command that composes no callbacks only predicts.
            unread = ONLY_TRAINING if group == "trainer" and "callbacks" not in chosen else ()
            lines += ["", *_group(group, option, given, unread)]
            if unread:
                lines.append(f"  # without effect here, only in training: {', '.join(unread)}")
    lines += ["", f"{typed} ... --cfg job    print the composed configuration and stop"]
    if chosen or extends_train(path):
        lines.append(f"{typed} ... --info defaults-tree    print which files it is composed of")
    return "\n".join([*lines, ""])


def _group(group: str, option: str, given: Mapping[str, str], unread: Sequence[str] = ()) -> Iterator[str]:
    """Yield the lines of a group: its choices, then the keys of the chosen options without those that are not read."""
    choices = sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml") if path.stem != "options")
    # The choice of no option may have a file of its own or none.
    yield _line(Key(group, option, " | ".join(choices)), indent="")
    for name in re.split(r"[\s,]+", option.strip("[]")):
        path = CONFIG_DIR / group / f"{name}.yaml"
        if not path.is_file():
            continue
        # The keys of an experiment are those of other groups.
        prefix = "" if "@package _global_" in path.read_text(encoding="utf-8") else f"{group.replace('/', '.')}."
        for key in _keys(group, name).values():
            if key.name.rpartition(".")[2] not in ("_target_", *unread) and (key.value or key.comment):
                yield _line(Key(f"{prefix}{key.name}", key.value, key.comment))
        for inner, chosen in inner_groups(path).items() if prefix else ():
            yield ""
            yield from _group(inner, given.get(inner, chosen), given)


def _keys(group: str, option: str) -> dict[str, Key]:
    """Return the keys of an option with those of the options that it extends."""
    path = CONFIG_DIR / group / f"{option}.yaml"
    keys: dict[str, Key] = {}
    for parent in parents_of(path):
        keys |= _keys(group, parent)
    for key in keys_of(path):
        # A value that replaces one of `options` is explained there.
        keys[key.name] = (
            key if key.comment or key.name not in keys else Key(key.name, key.value, keys[key.name].comment)
        )
    return keys


def _line(key: Key, indent: str = "  ") -> str:
    """Return the line of an option."""
    text = f"{indent}{key.name}: {key.value}".rstrip()
    return f"{text:<{_WIDEST}}  # {key.comment}" if key.comment else text
