"""The model archive, `model.tar.gz`: the network, its card in readable form, and the serving code."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from milpath.config.own_files import own_files
from milpath.config.own_parts import import_own_parts
from milpath.models import load_network, save_network
from milpath.models.card import plain_card
from milpath.models.checkpoint import RUN_KEY, load_card, read_checkpoint
from milpath.models.encoders.trained_encoder import open_trained_encoder
from milpath.records.atomic_files import write_bytes, write_json
from milpath.records.plain_values import require_plain
from milpath.reports.run_folder import IDENTITY_FILE
from milpath.sagemaker.endpoint.handlers import CODE_DIR, ENCODER_DIR, NETWORK_FILE, PARTS_FILE
from milpath.sagemaker.jobs.source_archive import PACKAGE_DIR, archive, read_folder

CARD_FILE = "card.json"
# Everything that an endpoint imports; a test imports it without lightning, hydra and pandas.
_SERVING = (
    "__init__.py",
    "config/__init__.py",
    "config/own_parts.py",
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
# What an encoder needs beside torch; SageMaker's toolkit installs it when the endpoint starts.
_ENCODER_PACKAGES = ("timm>=1.0.12", "safetensors>=0.4")
_INFERENCE = '''"""Called by SageMaker's inference toolkit."""

from milpath.sagemaker.inference import input_fn, model_fn, output_fn, predict_fn

__all__ = ["input_fn", "model_fn", "output_fn", "predict_fn"]
'''


def write_model_dir(
    checkpoint: str | Path,
    folder: Path,
    encoder_path: Path | None = None,
    parts: Sequence[str] = (),
    parts_dir: Path | None = None,
) -> None:
    """Write the content of `model.tar.gz` into a folder.

    Args:
        checkpoint: A checkpoint or an exported network.
        folder: `/opt/ml/model` in a job; created if missing.
        encoder_path: Weights of the encoder of a network trained on features, so that the endpoint takes tiles.
        parts: Names of the user's own classes that the network needs; their files are packed as well.
        parts_dir: Folder of these files; `None` is the working folder.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.
        ValueError: If it is not a milpath checkpoint, or it needs classes that `parts` does not name.
    """
    own = import_own_parts(parts, parts_dir)
    card = load_card(checkpoint)
    network = load_network(checkpoint, own.networks, own.encoders)
    files = serving_code() | _own_code(parts, parts_dir or Path.cwd())
    folder.mkdir(parents=True, exist_ok=True)
    save_network(network, folder / NETWORK_FILE, card)
    write_json(folder / CARD_FILE, plain_card(card))
    # Settings and digests of the data of the run, by which a registration knows the results of this network.
    if identity := read_checkpoint(checkpoint).get(RUN_KEY):
        write_json(folder / IDENTITY_FILE, require_plain(identity, f"identity of the run in {checkpoint}"))
    if encoder_path is not None:
        open_trained_encoder(
            card.encoder, weights_path=str(encoder_path)
        )  # refuses other weights than those of the training
        files |= {f"{ENCODER_DIR}/{encoder_path.name}": encoder_path.read_bytes()}
        files |= {f"{CODE_DIR}/requirements.txt": "".join(f"{line}\n" for line in _ENCODER_PACKAGES).encode()}
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data)


def write_model_archive(
    checkpoint: str | Path, path: Path, encoder_path: Path | None = None, parts: Sequence[str] = ()
) -> None:
    """Write `model.tar.gz` from a checkpoint, atomically; see `write_model_dir`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model_dir(checkpoint, folder, encoder_path, parts)
        data = archive(read_folder(folder))
    write_bytes(path, data)


def serving_code() -> dict[str, bytes]:
    """Return the files below the folder `code`: the part of this library that an endpoint needs."""
    files = {f"{CODE_DIR}/inference.py": _INFERENCE.encode()}
    for name in _SERVING:
        path = PACKAGE_DIR / name
        found = {name: path.read_bytes()} if path.is_file() else read_folder(path, [".py"])
        prefix = "" if path.is_file() else f"{name}/"
        files |= {f"{CODE_DIR}/milpath/{prefix}{key}": data for key, data in found.items()}
    return files


def _own_code(parts: Sequence[str], folder: Path) -> dict[str, bytes]:
    """Return the user's own files below the folder `code`, and the names that the endpoint imports.

    A checkpoint never names code: only what the user names here is imported by the endpoint.
    """
    if not parts:
        return {}
    files: dict[str, bytes] = {}
    for name in parts:
        module = name.rpartition(".")[0]
        if not (found := own_files([module], folder)):
            raise ValueError(
                f"parts: {name} is not in a file of the folder {folder}, so it cannot be packed; go to the "
                "folder of the file, or copy it there"
            )
        files |= {f"{CODE_DIR}/{key}": data for key, data in found.items()}
    if taken := sorted(files.keys() & {f"{CODE_DIR}/inference.py", f"{CODE_DIR}/requirements.txt"}):
        raise ValueError(f"parts: SageMaker needs a {taken[0]} of its own; rename your file")
    return files | {f"{CODE_DIR}/{PARTS_FILE}": (json.dumps(list(parts)) + "\n").encode()}
