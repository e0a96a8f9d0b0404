"""Callback that keeps freed memory in the allocator while a Trainer runs."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from milpath.records.kept_memory import kept_memory


class KeptMemory(Callback):
    """Apply `kept_memory` while a Trainer fits, validates, tests or predicts on a CPU."""

    def __init__(self) -> None:
        self._block: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.strategy.root_device.type == "cpu" and self._block is None:
            self._block = kept_memory()
            self._block.__enter__()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._leave()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._leave()

    def _leave(self) -> None:
        block, self._block = self._block, None
        if block is not None:
            block.__exit__(None, None, None)
