"""The command `milpath`: finds the command that was asked for and runs it as `python -m milpath.NAME` does."""

import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module

# One line each, so that help and version need no import of the command itself, which may load torch.
COMMANDS = {
    "tile": "cut whole slides into tiles",
    "train": "train and test a network, and write its report",
    "evaluate": "test a checkpoint, also on other data",
    "predict": "predict slides: tables, overlays and outlines for QuPath",
    "app": "answer uploaded slides in a browser",
    "table": "cross-validate methods and compare them",
    "sagemaker.launch": "train on Amazon SageMaker",
    "sagemaker.tune": "search hyperparameters on SageMaker",
    "sagemaker.package": "pack a checkpoint for an endpoint",
    "sagemaker.deploy": "make an endpoint",
    "sagemaker.score": "test an endpoint",
    "sagemaker.delete": "delete an endpoint and what belongs to it",
}
_COMPLETION = ("-sc", "--shell-completion")


def main() -> None:
    """Run the command that the command line names; an unknown one is an error with the nearest name."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(help_text())
        return
    if words[0] in ("-V", "--version"):
        from importlib.metadata import version

        sys.stdout.write(f"milpath {version('milpath')}\n")
        return
    if words[0] in _COMPLETION:
        _complete(words)
        return
    name, rest = split_command(words)
    if name not in COMMANDS:
        sys.stderr.write(_unknown(name))
        sys.exit(2)
    _run(name, rest)


def help_text() -> str:
    """Return how the command is called, with one line for each command."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name.replace('.', ' '):<{width}}  {line}" for name, line in COMMANDS.items()]
    return "\n".join(
        [
            "usage: milpath COMMAND [group=option] [key=value] ...",
            "",
            "Attention-based multiple-instance learning on histopathology. Research use only, not for diagnosis.",
            "",
            "commands:",
            *lines,
            "",
            "milpath COMMAND --help     the options of a command",
            "milpath --version          the version",
            'eval "$(milpath -sc install=bash)"    completion of commands, options and values in this shell',
            "",
        ]
    )


def split_command(words: Sequence[str]) -> tuple[str, list[str]]:
    """Split a command line into the name of the command and its overrides.

    Args:
        words: The command line without the program; `sagemaker launch` and `sagemaker.launch` are the same command.

    Example:
        >>> split_command(["sagemaker", "launch", "seed=1"])
        ('sagemaker.launch', ['seed=1'])
    """
    size = 2 if words[0] == "sagemaker" and len(words) > 1 else 1
    return ".".join(words[:size]), list(words[size:])


def _unknown(name: str) -> str:
    """Return the line that a mistyped command gets."""
    if name == "sagemaker":
        subcommands = ", ".join(command.partition(".")[2] for command in COMMANDS if "." in command)
        return f"milpath: sagemaker needs a second word: one of {subcommands}\n"
    shown = name.replace(".", " ") if name.startswith("sagemaker.") else name
    nearest = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
    meant = f"did you mean {nearest[0].replace('.', ' ')!r}? " if nearest else ""
    return f"milpath: there is no command {shown!r}; {meant}milpath --help lists the commands\n"


def _run(name: str, words: Sequence[str]) -> None:
    """Run a command; `sys.argv[0]` stays, so that the record of a run says what was typed."""
    module = import_module(f"milpath.{name}")
    sys.argv[1:] = words
    # Whoever starts this process again (Lightning for each further device) asks the main module what it is.
    sys.modules["__main__"].__spec__ = module.__spec__
    module.main()


def _complete(words: Sequence[str]) -> None:
    """Answer the shell: with names of commands here, with overrides from Hydra, which knows each command's options."""
    if not any(word.startswith("query=") for word in words):
        _run("train", words)  # the shell function that Hydra prints is the same for every command
        return
    program, *typed = os.environ.get("COMP_LINE", "").split(" ")
    before = [word for word in typed[:-1] if word]
    if not before or before == ["sagemaker"]:
        prefix = "sagemaker." if before else ""
        names = {name.removeprefix(prefix).split(".")[0] for name in COMMANDS if name.startswith(prefix)}
        sys.stdout.write(" ".join(sorted(names)) + "\n")
        return
    name, rest = split_command([*before, typed[-1]])
    if name in COMMANDS:
        os.environ["COMP_LINE"] = " ".join([program, *rest])
        _run(name, words)


if __name__ == "__main__":
    main()
