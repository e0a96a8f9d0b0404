"""Hydra's Optuna sweeper on Hydra 1.3.

The plugin that knows Optuna 4 takes its sampler as a configuration, as Hydra 1.4 hands it over. Hydra 1.3 hands over the
sampler itself, and the plugin ends with "Cannot instantiate config of type TPESampler". What it does with the sampler is the
same on both.
"""

from typing import Any

NAME = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"


def take_samplers() -> None:
    """Let the plugin's sweeper take a sampler, for this process."""
    from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl
    from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper

    def take(self: Any, sampler: Any, **options: Any) -> None:
        self.sweeper = OptunaSweeperImpl(sampler, **options)

    sweeper: Any = OptunaSweeper
    sweeper.__init__ = take
