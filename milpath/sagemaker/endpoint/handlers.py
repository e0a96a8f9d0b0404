"""The endpoint's network and SageMaker's handler functions. Needs torch, torchvision, numpy and Pillow."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from milpath.config.own_parts import OwnParts, import_own_parts
from milpath.models.card import features_of
from milpath.models.checkpoint import open_checkpoint
from milpath.models.devices import choose_device
from milpath.models.encoders.trained_encoder import TrainedEncoder, open_trained_encoder
from milpath.models.familiarity import joined
from milpath.models.familiarity.embeddings import judged_answer
from milpath.models.finite import finite_bags
from milpath.models.network_input import to_network_input
from milpath.models.stains import sampled_tiles, stains_in
from milpath.models.tile_maps import tile_maps
from milpath.records.plain_values import read_json
from milpath.sagemaker.endpoint.input_spec import InputSpec, TileBag
from milpath.sagemaker.endpoint.request_body import BodyReader
from milpath.sagemaker.endpoint.request_limits import BadRequestError, Limits
from milpath.sagemaker.endpoint.response import Answer, choose_writer, write_answers
from milpath.targets import target_of

NETWORK_FILE = "network.pt"
# Holds one file: the weights of the encoder as published.
ENCODER_DIR = "encoder"
# The user's own code, beside that of milpath, and the names of its classes.
CODE_DIR, PARTS_FILE = "code", "parts.json"
_TILES_AT_A_TIME = 64


class Endpoint:
    """A network that serves requests.

    Args:
        path: A checkpoint or an exported network.
        limits: Limits of requests.
        encoder_path: Weights of the encoder of a network trained on features, which then also takes pictures; `None` takes
            only features.
        parts: The user's own classes that the network needs.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a milpath network, or the weights are not those of its encoder.
    """

    def __init__(
        self,
        path: str | Path,
        limits: Limits | None = None,
        encoder_path: str | Path | None = None,
        parts: OwnParts | None = None,
    ) -> None:
        own = parts or OwnParts()
        network, self.card = open_checkpoint(path, own.networks, own.encoders)
        self.target = target_of(self.card)
        self.familiarity = joined([self.card.familiar])
        self.device = choose_device()
        self.network: nn.Module = network.to(self.device)
        # Bounds the memory for activations, regardless of the number of tiles in a bag.
        if (
            tile_encoder := getattr(self.network, "tile_encoder", None)
        ) is not None:  # the user's network may have none
            tile_encoder.tile_micro_batch = _TILES_AT_A_TIME
        self.encoder: TrainedEncoder | None = None
        self.stains = stains_in(self.network)
        spec, of_pictures = InputSpec.of(self.network, self.card), None
        if spec.num_features is not None and encoder_path is not None:
            encoder = open_trained_encoder(self.card.encoder, weights_path=str(encoder_path))
            self.encoder = TrainedEncoder(encoder, self.card.encoder).to(self.device)
            self.stains = stains_in(self.encoder)
            of_pictures = InputSpec(3, self.card.tiling.get("tile_size"), None)
        self.reader = BodyReader(spec, self.card, limits or Limits(), of_pictures)

    def answer(self, body: bytes, content_type: str, accept: str = "") -> tuple[bytes, str]:
        """Return body and content type of the response to a request.

        Raises:
            BadRequestError: With a one-line message and the status of the error.
        """
        kind = choose_writer(accept)
        return write_answers(self.predict(self.reader.read(body, content_type)), self.card, kind), kind

    @torch.inference_mode()
    def predict(self, bags: list[TileBag]) -> list[Answer]:
        """Return the predictions of bags."""
        return [self._predict(bag) for bag in bags]

    def _predict(self, bag: TileBag) -> Answer:
        """Return the prediction of one bag."""
        if self.stains is not None:
            self.stains.count_anew()
        given = torch.from_numpy(np.array(bag.tiles))
        if given.ndim == 2:  # features, rounded as those of the training and of `milpath predict`
            given = given.to(getattr(torch, features_of(self.card)))
        tiles = to_network_input(given.to(self.device))
        if self.encoder is not None and tiles.ndim == 4:
            with self.encoder.parts_of_bag(tiles[sampled_tiles(len(tiles))]):
                tiles = torch.cat([self.encoder(part[None])[0] for part in tiles.split(_TILES_AT_A_TIME)])
        try:
            output, judged = judged_answer(self.network, self.familiarity, tiles[None])
        except ValueError as error:
            # The encoder checks the shape itself if the card does not specify it.
            raise BadRequestError(str(error)) from None
        # Check logits, because an infinite logit has the finite probability 1.
        probabilities = self.target.answers(output.logits.float(), self.card.temperature)
        if not bool(finite_bags(output, probabilities).all()):
            raise BadRequestError(
                "the network gives no finite output for this bag; its values are far outside the training data"
            )
        maps = {
            name: rows[0].cpu().numpy()
            for name, rows in tile_maps(
                output, self.target.map_names(self.card.class_names), self.card.class_names
            ).items()
        }
        answer = Answer(
            probabilities[0].cpu().numpy(), output.attention[0].float().cpu().numpy(), bag, maps,
            stains_normalised=self.stains.num_unchanged == 0 if self.stains is not None and self.stains.num_bags else None,
        )  # fmt: skip
        return answer if judged is None else answer._replace(unfamiliarity=judged.table()[0], of_tiles=judged.tiles[0])


def model_fn(model_dir: str, context: Any = None) -> Endpoint:
    """Load the network of an unpacked `model.tar.gz`."""
    path = Path(model_dir) / NETWORK_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; write model.tar.gz with: python -m milpath.sagemaker.package")
    packaged = sorted((Path(model_dir) / ENCODER_DIR).glob("*"))
    parts = _packaged_parts(Path(model_dir) / CODE_DIR)
    return Endpoint(path, Limits.from_environment(), packaged[0] if packaged else None, parts)


def _packaged_parts(folder: Path) -> OwnParts:
    """Import the user's own classes that were named when the archive was packed."""
    path = folder / PARTS_FILE
    names = read_json(path) if path.is_file() else []
    return import_own_parts(names, folder)


def input_fn(body: bytes | bytearray | str, content_type: str, context: Any = None) -> tuple[bytes, str]:
    """Return body and content type; parsing is deferred because it depends on the network."""
    return (body.encode() if isinstance(body, str) else bytes(body)), content_type


def predict_fn(data: tuple[bytes, str], endpoint: Endpoint, context: Any = None) -> tuple[Endpoint, list[Answer]]:
    """Read the body and run the network."""
    return endpoint, endpoint.predict(endpoint.reader.read(*data))


def output_fn(prediction: tuple[Endpoint, list[Answer]], accept: str, context: Any = None) -> tuple[bytes, str]:
    """Write the predictions in the requested format."""
    endpoint, answers = prediction
    kind = choose_writer(accept)
    return write_answers(answers, endpoint.card, kind), kind
