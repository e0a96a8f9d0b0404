"""Progress of long work on stderr: a bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

SECONDS_BETWEEN_LINES = 10.0
Item = TypeVar("Item")


def track(items: Iterable[Item], doing: str, total: int) -> Iterator[Item]:
    """Yield items and show how many are done and how long the others will take.

    Args:
        items: What is done, one after the other.
        doing: What they are, such as "slides".
        total: Their number.
    """
    from rich.console import Console
    from rich.progress import track as bar

    console = Console(stderr=True)
    if console.is_terminal:
        yield from bar(items, description=doing, total=total, console=console)
        return
    lines = ProgressLines(doing)
    for number, item in enumerate(items, start=1):
        yield item
        lines.show(number, total)


class ProgressLines:
    """Lines of a log such as `slides: 40 of 200 in 2 min, about 8 min left`, at most one per ten seconds.

    Args:
        doing: What is counted.
    """

    def __init__(self, doing: str) -> None:
        self.doing = doing
        self._started = self._said = time.monotonic()

    def show(self, done: int, total: int | None, also: str = "") -> None:
        """Write a line, unless the last one is recent.

        Args:
            done: Number done so far.
            total: Number of all; None if it is not known.
            also: What else there is to say, such as failures.
        """
        now = time.monotonic()
        if now - self._said < SECONDS_BETWEEN_LINES or not done:
            return
        self._said = now
        spent = now - self._started
        count = f"{done:,}" if total is None else f"{done:,} of {total:,}"
        left = "" if total is None else f", about {duration(spent / done * (total - done))} left"
        sys.stderr.write(f"{self.doing}: {count} in {duration(spent)}{also and f', {also}'}{left}\n")
        sys.stderr.flush()


def duration(seconds: float) -> str:
    """Return a time span as a person would say it.

    Example:
        >>> [duration(seconds) for seconds in (0.4, 42, 300, 8000)]
        ['0 s', '42 s', '5 min', '2 h 13 min']
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
