"""A callback that records when the first training step is done, and then ends the process."""

import os
import time
from pathlib import Path

from lightning.pytorch import Callback


class FirstStep(Callback):
    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_train_batch_end(self, *_: object, **__: object) -> None:
        self.path.write_text(str(time.time()))
        os._exit(0)
