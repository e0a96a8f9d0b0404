"""The endpoint: a network, and what SageMaker's toolkit calls to ask it. Needs torch, torchvision, numpy and Pillow."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from milpath.models.checkpoint import Card, load_card, load_network
from milpath.models.devices import choose_device
from milpath.models.finite import finite_bags
from milpath.models.network_input import to_network_input
from milpath.sagemaker.endpoint.input_spec import InputSpec, TileBag
from milpath.sagemaker.endpoint.request_body import BodyReader
from milpath.sagemaker.endpoint.request_limits import BadRequestError, Limits
from milpath.sagemaker.endpoint.response import Answer, choose_writer, write_answers
from milpath.targets import target_named

NETWORK_FILE = "network.pt"
_TILES_AT_A_TIME = 64


class Endpoint:
    """A network that answers requests.

    Args:
        path: A checkpoint or an exported network.
        limits: What is read at most.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no network of milpath.
    """

    def __init__(self, path: str | Path, limits: Limits | None = None) -> None:
        self.card: Card = load_card(path)
        self.device = choose_device()
        self.network = load_network(path).to(self.device)
        # However many tiles a bag has, memory holds the activations of a few.
        self.network.tile_encoder.tile_micro_batch = _TILES_AT_A_TIME
        self.reader = BodyReader(InputSpec.of(self.network, self.card), self.card, limits or Limits())

    def answer(self, body: bytes, content_type: str, accept: str = "") -> tuple[bytes, str]:
        """Return body and content type of the answer to a request.

        Raises:
            BadRequestError: With one line on what is wrong and the status that says so.
        """
        kind = choose_writer(accept)
        return write_answers(self.predict(self.reader.read(body, content_type)), self.card, kind), kind

    @torch.inference_mode()
    def predict(self, bags: list[TileBag]) -> list[Answer]:
        """Return what the network says of each bag."""
        return [self._predict(bag) for bag in bags]

    def _predict(self, bag: TileBag) -> Answer:
        """Return what the network says of one bag."""
        tiles = to_network_input(torch.from_numpy(np.array(bag.tiles)).to(self.device))
        try:
            output = self.network(tiles[None])
        except ValueError as error:
            # The encoder looks at the shape itself where the card does not tell it.
            raise BadRequestError(str(error)) from None
        # An infinite logit has the finite probability 1.
        if not bool(finite_bags(output).all()):
            raise BadRequestError(
                "the network has no finite answer to this bag; its numbers are far from what it knows"
            )
        probabilities = target_named(self.card.task).probabilities(output.logits.float(), self.card.temperature)
        return Answer(probabilities[0].cpu().numpy(), output.attention[0].float().cpu().numpy(), bag)


def model_fn(model_dir: str, context: Any = None) -> Endpoint:
    """Load the network of an unpacked `model.tar.gz`."""
    path = Path(model_dir) / NETWORK_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; write model.tar.gz with: python -m milpath.sagemaker.package")
    return Endpoint(path, Limits.from_environment())


def input_fn(body: bytes | bytearray | str, content_type: str, context: Any = None) -> tuple[bytes, str]:
    """Keep body and type together: reading it needs to know the network."""
    return (body.encode() if isinstance(body, str) else bytes(body)), content_type


def predict_fn(data: tuple[bytes, str], endpoint: Endpoint, context: Any = None) -> tuple[Endpoint, list[Answer]]:
    """Read the body and ask the network."""
    return endpoint, endpoint.predict(endpoint.reader.read(*data))


def output_fn(prediction: tuple[Endpoint, list[Answer]], accept: str, context: Any = None) -> tuple[bytes, str]:
    """Write the answers down as the client wishes."""
    endpoint, answers = prediction
    kind = choose_writer(accept)
    return write_answers(answers, endpoint.card, kind), kind
