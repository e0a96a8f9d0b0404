"""The user's own classes, named in a command: `parts=[my_parts.MyNetwork]`.

They come from the command line, the user's configuration or a model archive that was packed with them, never from a
checkpoint: a checkpoint stores the bare name of a class and cannot cause an import.
"""

import inspect
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class OwnParts:
    """The user's own classes by kind; targets are registered instead.

    Attributes:
        networks: Network classes, for `load_network`.
        encoders: Encoder classes, for `load_network`: modules with an attribute `takes`.
        sources: Data sets, for the data described by a checkpoint.
    """

    networks: tuple[type, ...] = ()
    encoders: tuple[type, ...] = ()
    sources: tuple[type, ...] = ()


def import_own_parts(names: Iterable[str], folder: Path | None = None) -> OwnParts:
    """Import the user's own classes that a command or an archive names, and register the targets among them.

    Args:
        names: Dotted names: file without `.py`, class. Files are searched in the folder, after installed packages.
        folder: Where the files are; `None` is the working folder.

    Raises:
        ValueError: If a name does not exist, or is not a network, encoder, target or data set.
    """
    from torch import nn  # imported here, so that commands without parts start fast

    from milpath.targets import Target, register_target

    networks: list[type] = []
    encoders: list[type] = []
    sources: list[type] = []
    for name in names:
        kind = _import_class(str(name), folder)
        if issubclass(kind, Target):
            if inspect.isabstract(kind):
                raise ValueError(f"parts: target {name} must implement {', '.join(sorted(kind.__abstractmethods__))}")
            register_target(kind())
        elif issubclass(kind, nn.Module):
            (encoders if hasattr(kind, "takes") else networks).append(kind)
        elif callable(getattr(kind, "describe", None)) and callable(getattr(kind, "write", None)):
            sources.append(kind)
        else:
            raise ValueError(
                f"parts: {name} is neither a network or encoder (torch.nn.Module), nor a target "
                "(milpath.targets.Target), nor a data set (describe and write)"
            )
    return OwnParts(tuple(networks), tuple(encoders), tuple(sources))


def look_in_working_folder() -> None:
    """Make files of the working folder importable with the command `milpath`, as with `python -m milpath.NAME`.

    The folder is added last, so no file in it can shadow an installed package.
    """
    if "" not in sys.path:
        _look_in(Path.cwd())


def _look_in(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _import_class(name: str, folder: Path | None) -> type:
    """Return a class by its dotted name."""
    module, _, attribute = name.rpartition(".")
    if folder is None:
        look_in_working_folder()
    else:
        _look_in(folder)
    try:
        found: Any = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        where = f"({type(error).__name__}: {error})"
        raise ValueError(
            f"parts: cannot import {name!r} {where}; give file.Class, such as parts=[my_parts.MyNetwork] for the class "
            "MyNetwork in my_parts.py in the working folder"
        ) from None
    if not isinstance(found, type):
        raise ValueError(f"parts: {name} is a {type(found).__name__}; give the name of a class")
    return found
