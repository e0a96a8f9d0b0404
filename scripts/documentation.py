"""The command-line reference, generated from the configuration while MkDocs builds the site.

One page per command: its options with types and defaults, explained by the comments of `configs/*.yaml`.
One page per config group: its options with their keys.
"""

import re
import typing
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import milpath.sagemaker.jobs.job_configs  # noqa: F401  (registers the roots of the SageMaker commands)
from milpath.__main__ import COMMANDS
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
    schema_of,
)
from milpath.config.roots import CONFIG_DIR
from milpath.models.encoders import encoder_card, encoder_names


def header_of(path: Path) -> str:
    """Return the comment at the top of a configuration file as Markdown."""
    return " ".join(line.strip() for line in header_lines(path))


def command_page(name: str) -> str:
    """Return the reference of a command."""
    path = root_path(name)
    typed = f"milpath {name.replace('.', ' ')}"
    schema = schema_of(path.stem)
    written = {key.name: key for key in keys_of(path)}
    chosen = defaults_of(path)
    inherits = extends_train(path)
    lines = [
        f"# {typed}",
        "",
        f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}.",
        "",
        "```text",
        *_usage(path),
        "```",
        "",
    ]
    if inherits:
        lines += ["Every option of [milpath train](train.md) also works with this command.", ""]
        for option in schema_of("train"):
            if option not in written:
                schema.pop(option, None)
    rows = []
    for option, (kind, default) in schema.items():
        key = written.get(option)
        if option in chosen or option in groups() or (key is None and default is None):
            continue
        nested = [item for item in written.values() if item.name.startswith(f"{option}.")]
        for item in nested or [key or Key(option, str(default), "")]:
            rows.append([f"`{item.name}`", kind, _value(item.value), _escape(item.comment)])
    if rows:
        lines += ["## Options", "", *_table(["option", "type", "default", "meaning"], rows), ""]
    if chosen:
        linked = {group: option for group, option in chosen.items() if group in groups()}
        rows = [
            [f"[`{group}`](../configuration/{_slug(group)}.md)", _value(option)] for group, option in linked.items()
        ]
        lines += [
            "## Groups",
            "",
            "`group=option` selects another option, `group.key=value` changes one of its keys.",
            "",
        ]
        lines += [*_table(["group", "default"], rows), ""]
    return "\n".join(lines)


def group_page(group: str) -> str:
    """Return the reference of a group: each option, its explanation and its keys."""
    key = f"{group.replace('/', '.')}.KEY=VALUE"
    lines = [f"# {group}", "", f"`{group}=OPTION` selects one of these; `{key}` changes one of its keys.", ""]
    if group == "model/encoder":
        lines += [
            "Every [pretrained encoder](encoder.md) is an option here too, with `pretrained: true`, `frozen: true` and "
            "`tile_micro_batch: 64`; `model.encoder.frozen=false` trains it with the network.",
            "",
        ]
    for path in sorted((CONFIG_DIR / group).glob("*.yaml"), key=lambda path: (path.stem != "options", path.stem)):
        lines += [f"## {path.stem}", ""]
        if header := header_of(path):
            lines += [as_typed(_escape(header)), ""]
        keys = {key.name: key for key in keys_of(path)}
        if target := keys.pop("_target_", None):
            lines += [f"Makes `{target.value}`.", ""]
        if parents := _parents(path):
            lines += [f"Builds on {', '.join(parents)}.", ""]
        shown = [key for key in keys.values() if key.value or key.comment]
        rows = [[f"`{key.name}`", _value(key.value), _escape(key.comment)] for key in shown]
        if rows:
            lines += [*_table(["key", "value", "meaning"], rows), ""]
    return "\n".join(lines)


def encoders_page() -> str:
    """Return the table of pretrained encoders, from the files of the group `encoder`."""
    rows = []
    for name in encoder_names():
        card = encoder_card(name)
        microns = "" if card.microns_per_pixel is None else f"{card.microns_per_pixel:g}"
        access = f"[{'on request' if card.gated else 'open'}]({card.access})"
        rows.append([
            f"[`{name}`](configuration/encoder.md#{name})", f"{card.embedding_dim:,}", f"{card.tile_size} px", microns,
            f"{(card.num_parameters or 0) / 1e6:,.0f} M", card.output.replace("_", " "), card.licence, access,
            f"[paper]({card.paper})",
        ])  # fmt: skip
    head = ["name", "features", "tile", "µm/px", "parameters", "output", "licence", "weights", "paper"]
    return "\n".join([
        "# Pretrained encoders",
        "",
        "`encoder=NAME` makes features with one, `model/encoder=NAME` trains a network on top of one or with it. The "
        "resolution is that of the tiles it was trained on; none is stated for encoders of natural images.",
        "[Pretrained encoders](../how-to/encoders.md) says where weights belong and how to use your own.",
        "",
        *_table(head, rows),
        "",
    ])  # fmt: skip


def pages() -> dict[str, str]:
    """Return the generated pages by their path below `docs`."""
    found = {f"reference/commands/{name.replace('.', '-')}.md": command_page(name) for name in COMMANDS}
    found["reference/encoders.md"] = encoders_page()
    return found | {f"reference/configuration/{_slug(group)}.md": group_page(group) for group in groups()}


class ExampleSections(griffe.Extension):
    """Render the section `Example:` of a docstring as code."""

    def on_instance(self, *, obj: griffe.Object, **_: typing.Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages; MkDocs calls this."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def _usage(path: Path) -> list[str]:
    """Return the command lines in the header of a root configuration."""
    return [as_typed(line.strip()) for line in header_lines(path)]


def _parents(path: Path) -> list[str]:
    """Return links to the options that an option extends."""
    links = [f"[{name}](#{name.replace('/', '')})" for name in parents_of(path)]
    return links + [f"[{group}={option}]({_slug(group)}.md)" for group, option in inner_groups(path).items()]


def _slug(group: str) -> str:
    return group.replace("/", "-")


def _value(text: str) -> str:
    return "**required**" if text == "???" else f"`{text}`".replace("|", "\\|") if text else ""


def _escape(text: str) -> str:
    """Return plain text escaped for Markdown."""
    return re.sub(r"([|<>*_\[\]])", r"\\\1", text)


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Return a table that the style sheet turns into paragraphs on a narrow screen."""
    table = [f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows]]
    return ['<div class="options" markdown>', "", *table, "", "</div>"]
