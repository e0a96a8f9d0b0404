"""Predict uploaded slides in a browser: `python -m milpath.app checkpoint=PATH`."""

import sys

from omegaconf import DictConfig

from milpath.config.command import command


def run(config: DictConfig) -> None:
    """Serve the app until the process is stopped.

    Args:
        config: The composed root of the `app` command.
    """
    sys.stdout.write(f"loading the network {config.checkpoint} ...\n")
    sys.stdout.flush()
    # Imported here so that the line above is printed at once: torch takes seconds to load.
    from milpath.config.own_parts import import_own_parts
    from milpath.models.devices import choose_device
    from milpath.viewer.server import serve
    from milpath.viewer.upload_answer import Analyst
    from milpath.viewer.upload_check import Limits

    limits = Limits(config.max_upload_mb, config.max_tiles, config.max_seconds)
    serve(
        Analyst(
            config.checkpoint,
            limits,
            choose_device(config.device),
            import_own_parts(config.parts),
            encoder_weights_path=config.encoder_weights_path,
            weights_dir=config.paths.weights_dir,
            method=config.method,
        ),
        host=config.host,
        port=config.port,
        temporary_dir=config.temporary_dir,
        max_waiting=config.max_waiting,
        forget_after_minutes=config.forget_after_minutes,
    )


@command("app")
def main(config: DictConfig) -> None:
    """Run the command."""
    from milpath.serving.process_end import end_process
    from milpath.tiling.worker_pool import kill_workers

    run(config)
    # A worker that is still cutting a slide would keep the process alive for minutes.
    kill_workers()
    end_process()


if __name__ == "__main__":
    main()
