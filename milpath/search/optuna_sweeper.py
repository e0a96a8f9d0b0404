"""Compatibility of Hydra's Optuna sweeper with Hydra 1.3.

The version of the plugin that supports Optuna 4 expects its sampler as a configuration, as Hydra 1.4 passes it. Hydra 1.3
passes the sampler itself, and the plugin fails with "Cannot instantiate config of type TPESampler". The rest of the plugin
works with both.
"""

from typing import Any

NAME = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"


def take_samplers() -> None:
    """Patch the plugin's sweeper, in this process, to accept a sampler object."""
    from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl
    from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper

    def take(self: Any, sampler: Any, **options: Any) -> None:
        self.sweeper = OptunaSweeperImpl(sampler, **options)

    sweeper: Any = OptunaSweeper
    sweeper.__init__ = take
