"""What a command reads is never among the files that it writes and deletes in its output folder."""

from collections.abc import Iterable, Mapping
from pathlib import Path


def require_kept(output: Path, written: Iterable[str], inputs: Mapping[str, str | Path | None]) -> None:
    """Refuse an output in which a command would replace or delete what it reads; links are followed.

    Args:
        output: The folder, which need not exist.
        written: Files and folders in it that the command writes, and deletes to overwrite them.
        inputs: How the user gave an input, such as `slides`, to its path; `None` if it was not given.

    Raises:
        ValueError: With the input and where it is.
    """
    home = output.resolve()
    places = {output / name: (output / name).resolve() for name in written}
    for option, path in inputs.items():
        if path is None:
            continue
        real = Path(path).resolve()
        if real == home:
            raise ValueError(
                f"output={output} is the folder of {option}={path}, whose files this command would replace; set another "
                "output"
            )
        if (
            place := next((place for place, target in places.items() if real.is_relative_to(target)), None)
        ) is not None:
            what = "is" if real == places[place] else "is in"
            raise ValueError(
                f"{option}={path} {what} {place}, which this command replaces itself (output={output}); set another output"
            )
