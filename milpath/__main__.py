"""The entry point `milpath`: dispatches to a command and runs it as `python -m milpath.NAME` does."""

import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module

# The help lines are kept here because importing a command may load torch.
COMMANDS = {
    "tile": "cut whole slides into tiles",
    "extract": "encode slides as features of a pretrained network",
    "check-data": "look for leaks and shortcuts in data before a training",
    "train": "train and test a network, and write its report",
    "evaluate": "test a checkpoint, on its own or on other data",
    "faithfulness": "does attention show what a network uses: remove tiles and watch the answer",
    "predict": "predict slides: tables, overlays and outlines for QuPath",
    "app": "predict uploaded slides in a browser",
    "encoders": "list pretrained encoders, or check one",
    "table": "cross-validate methods and compare them",
    "compare": "compare runs: metrics, curves, cases on which they disagree",
    "sagemaker.launch": "train on Amazon SageMaker",
    "sagemaker.tune": "search hyperparameters on SageMaker",
    "sagemaker.rehearse": "run a training job on this machine before it is paid for",
    "sagemaker.process": "cut or encode slides in S3 on SageMaker",
    "sagemaker.transform": "score thousands of slides in S3 on SageMaker",
    "sagemaker.package": "package a checkpoint for an endpoint",
    "sagemaker.register": "register a trained network with its card, metrics and approval",
    "sagemaker.deploy": "create an endpoint",
    "sagemaker.score": "test an endpoint",
    "sagemaker.delete": "delete an endpoint and its resources",
    "sagemaker.policy": "print the permissions that these commands need",
}
_COMPLETION = ("-sc", "--shell-completion")


def main() -> None:
    """Run the command named on the command line; for an unknown one, suggest the closest name."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(help_text())
        return
    if words[0] in ("-V", "--version"):
        from importlib.metadata import version

        sys.stdout.write(f"milpath {version('milpath')}\n")
        return
    if words[0] == "examples":
        from milpath.config.examples import EXAMPLES

        sys.stdout.write(EXAMPLES)
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
    """Return the usage text, with one line per command."""
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
            "milpath COMMAND --help     show the options of a command",
            "milpath COMMAND --cfg job  show the composed configuration",
            "milpath examples           show ready commands",
            "milpath --version          show the version",
            'eval "$(milpath -sc install=bash)"    complete commands, options and values in this shell',
            "",
        ]
    )


def split_command(words: Sequence[str]) -> tuple[str, list[str]]:
    """Split a command line into the name of the command and its overrides.

    Args:
        words: The command-line arguments; `sagemaker launch` and `sagemaker.launch` are the same command.

    Example:
        >>> split_command(["sagemaker", "launch", "seed=1"])
        ('sagemaker.launch', ['seed=1'])
    """
    size = 2 if words[0] == "sagemaker" and len(words) > 1 else 1
    return ".".join(words[:size]).replace("_", "-"), list(words[size:])


def _unknown(name: str) -> str:
    """Return the error message for an unknown command."""
    if name == "sagemaker":
        subcommands = ", ".join(command.partition(".")[2] for command in COMMANDS if "." in command)
        return f"milpath: sagemaker needs a subcommand, one of {subcommands}\n"
    shown = name.replace(".", " ") if name.startswith("sagemaker.") else name
    nearest = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
    meant = f"did you mean {nearest[0].replace('.', ' ')!r}? " if nearest else ""
    return f"milpath: unknown command {shown!r}; {meant}milpath --help lists the commands\n"


def _run(name: str, words: Sequence[str]) -> None:
    """Run a command; `sys.argv[0]` is kept, so that the provenance of a run records what was typed."""
    from milpath.config.module_loading import collecting_later

    try:
        if name == "table":
            from milpath.search.job_processes import prepare_processes

            prepare_processes(words)
        with collecting_later():
            module = import_module(f"milpath.{name.replace('-', '_')}")
    except KeyboardInterrupt:  # the seconds before a command handles signals itself
        sys.stderr.write("stopped\n")
        sys.exit(130)
    sys.argv[1:] = words
    # Lightning relaunches this process for each additional device by the spec of the main module.
    sys.modules["__main__"].__spec__ = module.__spec__
    module.main()


def _complete(words: Sequence[str]) -> None:
    """Complete the names of commands; overrides are completed by Hydra, which knows each command's options."""
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
