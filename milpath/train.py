"""Train a network: `milpath train [experiment=NAME] [group=option] [key=value]`."""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from milpath.config.command import command, is_sweep
from milpath.runs.training_run import run

__all__ = ["main", "run"]


@command("train")
def main(config: DictConfig) -> float | None:
    """Run the command; a sweep reads the monitored metric from what it returns."""
    # Processes that Lightning starts compose the configuration again; the folder is the one Hydra gave the first.
    config.paths.run_dir = HydraConfig.get().runtime.output_dir
    try:
        metrics = run(config)
    except (KeyboardInterrupt, SystemExit) as stop:
        if not is_sweep():
            stop.add_note(f"go on with run_name={config.run_name} resume_from=auto")
        raise
    split, name = config.monitor.split("/")
    return metrics.get(split, {}).get(name)


if __name__ == "__main__":
    main()
