"""A user who may not read what was hidden: the superuser may read everything."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def hidden_from_user(path: Path) -> Iterator[None]:
    """Make a file or folder unreadable for the user of this process, who is nobody meanwhile if he is the superuser."""
    parents = path.absolute().parents
    modes = {entry: entry.stat().st_mode for entry in (path, *parents)}
    user = os.geteuid()
    path.chmod(0)
    try:
        if user == 0:
            for parent in parents:
                parent.chmod(modes[parent] | 0o555)
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(user)
        for entry, mode in modes.items():
            if user == 0 or entry == path:
                entry.chmod(mode)
