"""Classes of the user's own, named in a command: `parts=[my_parts.MyNetwork]`.

They come from the command line or the user's configuration and never from a checkpoint, which knows a class by its bare name
and has no say in what is imported.
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
    """Classes by what they are; targets are registered, and not listed.

    Attributes:
        networks: Network classes, for `load_network`.
        encoders: Encoder classes, likewise: modules that declare what they take.
        sources: Data sets, for the data that a checkpoint describes.
    """

    networks: tuple[type, ...] = ()
    encoders: tuple[type, ...] = ()
    sources: tuple[type, ...] = ()


def import_own_parts(names: Iterable[str]) -> OwnParts:
    """Import the classes of the user's own that a command names, and register the targets among them.

    Args:
        names: Dotted: file without `.py`, class. Files are looked for in the working folder, after the installed packages.

    Raises:
        ValueError: If a name leads to nothing, or to something that is not a part.
    """
    from torch import nn  # commands that name no part wait for nothing

    from milpath.targets import Target, register_target

    networks: list[type] = []
    encoders: list[type] = []
    sources: list[type] = []
    for name in names:
        kind = _import_class(str(name))
        if issubclass(kind, Target):
            if inspect.isabstract(kind):
                raise ValueError(f"parts: {name} lacks {', '.join(sorted(kind.__abstractmethods__))} of a target")
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
    """Let files of the working folder be imported, as `python -m milpath.NAME` does and the command `milpath` would not.

    The folder comes last: no file in it takes the place of an installed package.
    """
    folder = str(Path.cwd())
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)


def _import_class(name: str) -> type:
    """Return a class by its dotted name."""
    module, _, attribute = name.rpartition(".")
    look_in_working_folder()
    try:
        found: Any = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        where = f"({type(error).__name__}: {error})"
        raise ValueError(
            f"parts: there is no {name!r} {where}; give file.Class, such as parts=[my_parts.MyNetwork] for the class "
            "MyNetwork in my_parts.py of the folder you are in"
        ) from None
    if not isinstance(found, type):
        raise ValueError(f"parts: {name} is a {type(found).__name__}; give the name of a class")
    return found
