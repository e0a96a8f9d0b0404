"""The model archive, `model.tar.gz`: the network, its card in readable form, and the serving code."""

import dataclasses
import tempfile
from pathlib import Path

from milpath.models import load_network, save_network
from milpath.models.checkpoint import load_card
from milpath.records.atomic_files import write_bytes, write_json
from milpath.sagemaker.endpoint.handlers import NETWORK_FILE
from milpath.sagemaker.jobs.source_archive import PACKAGE_DIR, archive, read_folder

# Everything that an endpoint imports; a test imports it without lightning, hydra and pandas.
_SERVING = (
    "__init__.py",
    "metrics",
    "models",
    "records",
    "serving",
    "slides",
    "targets",
    "sagemaker/__init__.py",
    "sagemaker/endpoint",
    "sagemaker/inference.py",
    "sagemaker/serve.py",
)
_INFERENCE = '''"""Called by SageMaker's inference toolkit."""

from milpath.sagemaker.inference import input_fn, model_fn, output_fn, predict_fn

__all__ = ["input_fn", "model_fn", "output_fn", "predict_fn"]
'''


def write_model_dir(checkpoint: str | Path, folder: Path) -> None:
    """Write the content of `model.tar.gz` into a folder.

    Args:
        checkpoint: A checkpoint or an exported network.
        folder: `/opt/ml/model` in a job; created if missing.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.
        ValueError: If it is not a milpath checkpoint.
    """
    card = load_card(checkpoint)
    network = load_network(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    save_network(network, folder / NETWORK_FILE, card)
    write_json(folder / "card.json", dataclasses.asdict(card))
    for name, data in serving_code().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data)


def write_model_archive(checkpoint: str | Path, path: Path) -> None:
    """Write `model.tar.gz` from a checkpoint, atomically."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model_dir(checkpoint, folder)
        data = archive(read_folder(folder))
    write_bytes(path, data)


def serving_code() -> dict[str, bytes]:
    """Return the files below `code/`: the part of this library that an endpoint needs."""
    files = {"code/inference.py": _INFERENCE.encode()}
    for name in _SERVING:
        path = PACKAGE_DIR / name
        found = {name: path.read_bytes()} if path.is_file() else read_folder(path, [".py"])
        prefix = "" if path.is_file() else f"{name}/"
        files |= {f"code/milpath/{prefix}{key}": data for key, data in found.items()}
    return files
