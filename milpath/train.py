"""Train a network: `milpath train [experiment=NAME] [group=option] [key=value]`."""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from milpath.config.command import command, is_sweep
from milpath.runs.training_run import run

__all__ = ["main", "run"]


@command("train")
def main(config: DictConfig) -> float | None:
    """Run the command; a sweep uses the returned value of the monitored metric."""
    # Processes started by Lightning compose the configuration again; all share the folder Hydra gave the first one.
    config.paths.run_dir = HydraConfig.get().runtime.output_dir
    try:
        metrics = run(config)
    except (KeyboardInterrupt, SystemExit) as stop:
        if not is_sweep():
            stop.add_note(f"continue with run_name={config.run_name} resume_from=auto")
        raise
    split, _, name = config.monitor.partition("/")
    return metrics.get(split, {}).get(name)


if __name__ == "__main__":
    main()
