"""Paths and text on the command line, taken literally: Hydra's grammar reads commas, brackets and `${` as syntax."""

import itertools
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.utils import get_args_parser

# The last part of a key that holds a path, besides `path`, `*_path`, `*_dir` and `dirpath`.
_PATH_NAMES = frozenset(
    [
        *("archive", "checkpoint", "exclude", "file", "folder", "groups", "images", "labels", "masks", "output"),
        *("bag_column", "group_column", "id_column", "label_column", "patient_column", "slide_column", "split_column"),
        *("patients", "slides_table"),
        *(
            "requirements",
            "resolutions",
            "resume_from",
            "run",
            "run_name",
            "runs",
            "shard",
            "slides",
            "testing",
            "tiles",
        ),
        *("tissue_model", "training"),
    ]
)
_PATH_KEYS = frozenset(["data.splits"])  # `splits` of a root configuration is a list of names
_LIST_NAMES = frozenset(["checkpoint", "exclude", "runs", "searchpath"])  # each also takes [path,path]
_OF_EACH = re.compile(r"\{[^:{}]+:[^{}]*\}", re.DOTALL)  # label_column={time:days,event:dead} is syntax
_KEPT = ("", "null", "???")
_SHARDS = re.compile(r"\d+/\d+(?:,\d+/\d+)*")  # a launcher sweeps over them; anything else is a file of names
_QUOTED = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
_QUOTED_VALUE = re.compile(rf"{_QUOTED}(?:\s*,\s*{_QUOTED})*", re.DOTALL)
_ITEM = re.compile(rf"\s*({_QUOTED}|[^,]*)\s*(?:,|\Z)", re.DOTALL)
# A folder of the configuration stays a reference: `data.path='${paths.data_dir}/slides'`.
_REFERENCE = re.compile(r"\$\{(?:paths\.\w+|run_name)\}")
# Quoted strings, references and syntax pass; what remains is text.
_PIECE = re.compile(rf"""({_QUOTED}|\$\{{[^}}]*\}}|[\[\]{{}}(),:=])|([^\[\]{{}}(),:="'$]+|.)""", re.DOTALL)
# Hydra reads these as the same text without quotes. They stay as they are: the plan of a table keeps what was typed.
_PLAIN = re.compile(
    r"(?!(?:true|false|null|nan|inf)\Z)(?:[A-Za-z/]|\.\.?/)(?:[A-Za-z0-9_/.+\-@%:]| (?! |\Z))*", re.IGNORECASE
)
_UNREADABLE = re.compile(r"[^A-Za-z0-9_/\-\\+.$%*@?|:,=()\[\]{} \t\"']")


def literal_overrides(words: Sequence[str]) -> list[str]:
    """Quote command-line overrides, so that paths and text with any character reach the configuration as typed.

    The value of a key that holds a path (`is_path`) is text as a whole: commas, brackets, `=` and `${` included, also in a
    sweep (`-m`), where `'data.path="a","b"'` in quotes sweeps over two paths. Values that are already quoted, empty or
    `null` are unchanged, and `${paths.NAME}` and `${run_name}` stay references. In the values of other keys, words with
    characters that Hydra cannot read are quoted.

    Args:
        words: Command-line arguments.

    Returns:
        The arguments in Hydra's grammar.

    Raises:
        ValueError: If a list of paths is divided at a comma inside the name of a file or folder.

    Example:
        >>> literal_overrides(["slides=/data/Präparate, 2024", "level=-1", "labels=null"])
        ['slides="/data/Präparate, 2024"', 'level=-1', 'labels=null']
        >>> literal_overrides(["data.class_names=[gutartig,bösartig]", "optimizer.lr=1e-3,1e-4"])
        ['data.class_names=[gutartig,"bösartig"]', 'optimizer.lr=1e-3,1e-4']
    """
    return [_literal(word) for word in words]


def flags_first(words: Sequence[str]) -> list[str]:
    """Return a command line with its overrides together at the end, as Hydra's parser requires.

    Args:
        words: Command-line arguments.

    Raises:
        ValueError: If there is a flag that no command has.

    Example:
        >>> flags_first(["data=features", "-m", "seed=1,2"])
        ['-m', 'data=features', 'seed=1,2']
    """
    known, unread = get_args_parser().parse_known_args(list(words))
    if wrong := next((word for word in unread if word.startswith("-")), None):
        key, _, value = wrong.lstrip("-").partition("=")
        raise ValueError(
            f"unknown flag {wrong!r}; options are given as key=value, without hyphens: {key.replace('-', '_')}="
            f"{value or '...'}"
        )
    overrides = [*known.overrides, *unread]
    rest = Counter(overrides)
    flags = []
    for word in words:
        if rest[word] > 0:
            rest[word] -= 1
        else:
            flags.append(word)
    return [*flags, *overrides]


def folders_as(key: str, words: Sequence[str]) -> list[str]:
    """Return a command line on which folders without a key are the value of `key`.

    Args:
        key: An option that takes a list of paths.
        words: Command-line arguments.

    Example:
        >>> folders_as("runs", ["runs/a", "runs/b", "output=both"])
        ['output=both', 'runs=[runs/a,runs/b]']
    """
    known, unread = get_args_parser().parse_known_args(list(words))
    given = [word for word in (*known.overrides, *unread) if not word.startswith("-")]
    # The name of a folder may contain `=`, as those of a sweep do.
    folders = [word for word in given if "=" not in word or Path(word).is_dir()]
    rest = Counter(folders)
    kept = []
    for word in reversed(words):  # the value of a flag comes before the folders, if it is the same word
        if rest[word] > 0:
            rest[word] -= 1
        else:
            kept.append(word)
    return [*reversed(kept), override(key, folders)] if folders else list(words)


def is_path(key: str) -> bool:
    """Return whether a key of the configuration holds a path, or the name of a folder or column.

    Example:
        >>> [is_path(key) for key in ("data.path", "data.stores_dir", "checkpoint", "splits", "data.splits")]
        [True, True, True, False, True]
    """
    name = key.rpartition(".")[2]
    return key in _PATH_KEYS or name in _PATH_NAMES or name.endswith(("_path", "_dir")) or name in ("path", "dirpath")


def override(key: str, value: object) -> str:
    r"""Return an override that sets a key to a value; a string or a path is taken literally.

    Example:
        >>> print(override("data.path", 'a "b", ${c}'))
        data.path="a \"b\", \${c}"
        >>> override("model", "dsmil"), override("seed", 3)
        ('model=dsmil', 'seed=3')
    """
    return f"{key}={_value(value)}"


def quoted(text: str) -> str:
    """Return text as a quoted string of Hydra's grammar, in which `${` is text, too."""
    # OmegaConf reads a backslash as an escape only before ${, Hydra only before a quote.
    text = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", text)
    escaped = re.sub(r'(\\*)("|\Z)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), text)
    return f'"{escaped}"'


def _value(value: object) -> str:
    """Return a value in Hydra's grammar."""
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        return text if _PLAIN.fullmatch(text) else quoted(text)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_value, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_value(item)}" for key, item in value.items()) + "}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _literal(word: str) -> str:
    """Return one argument in Hydra's grammar."""
    typed, equals, value = word.partition("=")
    key = typed.lstrip("+")
    if not equals or typed.startswith(("-", "~")):
        return word
    if key == "hydra.run.dir" and "LOCAL_RANK" in os.environ and re.fullmatch('".+"', value, re.DOTALL):
        return f"{typed}={quoted(value[1:-1])}"  # Lightning starts its other processes with the folder in plain quotes
    name = key.rpartition(".")[2]
    if name in _LIST_NAMES and value[:1] == "[" and value[-1:] == "]":
        _require_whole_paths(typed, value[1:-1].split(","))
        return f"{typed}=[{','.join(_path(item) for item in _ITEM.findall(value[1:-1]) if item)}]"
    is_syntax = _SHARDS.fullmatch(value) if key == "shard" else name == "label_column" and _OF_EACH.fullmatch(value)
    if is_path(key) and not is_syntax:
        return f"{typed}={_path(value)}"
    return f"{typed}={_text(value)}" if _UNREADABLE.search(value) else word


def _require_whole_paths(typed: str, pieces: Sequence[str]) -> None:
    """Refuse a list that is divided within a path: one of its pieces does not exist, but does with those after it."""
    for start, end in itertools.combinations(range(len(pieces) + 1), 2):
        whole = ",".join(pieces[start:end]).strip()
        if end - start > 1 and not _exists(pieces[start].strip()) and _exists(whole):
            words = [*pieces[:start], f'"{whole}"', *pieces[end:]]
            raise ValueError(
                f"{typed} is a list, which commas divide, but {whole} has one in its name; quote it: "
                f"'{typed}=[{','.join(words)}]'"
            )


def _exists(path: str) -> bool:
    """Return whether there is such a file or folder; no name that is too long or odd for the disk exists."""
    try:
        return bool(path) and Path(path).exists()
    except (OSError, ValueError):
        return False


def _path(value: str) -> str:
    """Return a path as a quoted string, with references to other folders of the configuration."""
    if value in _KEPT or _QUOTED_VALUE.fullmatch(value) or _PLAIN.fullmatch(_REFERENCE.sub("/", value)):
        return value
    # No path holds the null character: it stands for the references while the text around them is quoted.
    text = re.sub(r"(\\*)\0", lambda found: found[1] * 2 + "\0", quoted(_REFERENCE.sub("\0", value)))
    references = iter(_REFERENCE.findall(value))
    return re.sub("\0", lambda _: next(references), text)


def _text(value: str) -> str:
    """Return a value of any other key with the words quoted that Hydra cannot read."""
    return "".join(
        syntax or (_word(text) if _UNREADABLE.search(text) else text) for syntax, text in _PIECE.findall(value)
    )


def _word(text: str) -> str:
    """Return a word in quotes, without the blanks around it."""
    inner = text.strip()
    return text.replace(inner, quoted(inner))
