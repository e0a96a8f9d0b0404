"""Wrapper that runs any encoder on bags: it skips padding, bounds memory and freezes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from milpath.models.encoders.backbone import LITE0, TORCHVISION_BACKBONES, Backbone
from milpath.models.encoders.encoder_files import encoder_names
from milpath.models.encoders.lenet5 import LeNet5
from milpath.models.encoders.linear import LinearEncoder
from milpath.models.encoders.open_encoder import from_spec
from milpath.models.encoders.pretrained_encoder import PretrainedEncoder
from milpath.models.encoders.tile_cnn import TileCNN
from milpath.models.module_as_encoder import FOUND, describe_module, described, require_complete
from milpath.models.pooling import full_mask
from milpath.models.stains import StainNormalisation

# A name or a module, or a mapping of `name` (or an encoder class or a module instead) and arguments.
EncoderSpec = str | nn.Module | Mapping[str, Any]

ENCODERS: dict[str, Callable[..., nn.Module]] = {"tile_cnn": TileCNN, "lenet5": LeNet5, "linear": LinearEncoder}
BACKBONES = (*TORCHVISION_BACKBONES, LITE0)
_OF_EVERY_ENCODER = ("frozen", "activation_checkpointing", "tile_micro_batch", "stain_normalisation", "stain_target")


class TileEncoder(nn.Module):
    """Encode the real tiles of a batch of bags.

    Padding tiles are never computed and never affect the statistics of batch normalisation. `tile_micro_batch` bounds
    how many tiles are computed at a time. With `activation_checkpointing` the activations of each micro-batch are
    recomputed in the backward pass instead of stored, so that memory is bounded in training too. Gradients stay the
    same, with one unavoidable exception: batch normalisation in training mode takes its statistics from each
    micro-batch, as it would from a smaller batch.

    Args:
        spec: Name of an encoder, or a mapping of `name` and arguments: those of the encoder itself and `frozen` (always
            in evaluation mode and without gradients), `activation_checkpointing`, `tile_micro_batch`, and of encoders of
            tiles `stain_normalisation` ("none" or a method of `milpath.models.stains`) with its `stain_target`. The name
            can also be your own encoder class: a `torch.nn.Module` that maps `(tiles, channels, height, width)` in [0, 1] or
            `(tiles, features)` to `(tiles, embedding_dim)` and declares:

            - `takes`: "tiles" or "features".
            - `embedding_dim`: width of the embedding.
            - `tile_size`, `channels` (tiles) or `num_features` (features), if it takes only this value. An argument
              `tile_size` or `num_features` that is null in a configuration is set from the data.
            - `set_statistics(mean, std)`: needed for `data.standardize=true`.

            Any `torch.nn.Module` that maps tiles or features to `(tiles, embedding_dim)` is an encoder as well, itself or as
            `name`; what it takes and the width of its output are found by trying it (see `describe_module`).

    Attributes:
        spec: The specification in plain values, with the name of an encoder class instead of the class.
        stains: The normalisation of stains, which each bag goes through first; `None` without one.

    Raises:
        ValueError: If the name or an argument is unknown, or an encoder class does not declare what it takes.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        if not isinstance(spec, str | nn.Module | Mapping):
            raise ValueError(
                f"encoder must be a name or a mapping of name and arguments, or a torch.nn.Module, not {spec!r}"
            )
        arguments: dict[str, Any] = dict(spec) if isinstance(spec, Mapping) else {"name": spec}
        kind = arguments.pop("name", None)
        if isinstance(kind, type | nn.Module):
            own = kind if isinstance(kind, type) else type(kind)
            require_own_name(own, (*ENCODERS, *BACKBONES, *encoder_names()), "encoder")
        elif not isinstance(kind, str):
            raise ValueError(
                f"an encoder needs a name: one of {', '.join((*ENCODERS, *BACKBONES))} or timm/<architecture>"
            )
        if isinstance(kind, nn.Module) and FOUND not in arguments:
            arguments = describe_module(kind, arguments)
            del arguments["name"]
        self.name: str = kind if isinstance(kind, str) else (kind if isinstance(kind, type) else type(kind)).__name__
        self.spec: str | dict[str, Any] = spec if isinstance(spec, str) else {"name": self.name} | arguments
        found = {} if isinstance(kind, str) else dict(arguments.pop(FOUND, {}))
        self.frozen = bool(arguments.pop("frozen", False))
        self.activation_checkpointing = bool(arguments.pop("activation_checkpointing", False))
        self.tile_micro_batch: int | None = arguments.pop("tile_micro_batch", None)
        if self.tile_micro_batch is not None and self.tile_micro_batch < 1:
            raise ValueError(f"tile_micro_batch must be null or at least 1, not {self.tile_micro_batch}")
        method, target = arguments.pop("stain_normalisation", None), arguments.pop("stain_target", None)
        if isinstance(kind, type):
            require_complete(self.name, found)
        self.network = kind if isinstance(kind, nn.Module) else _build(kind, arguments)
        if isinstance(self.network, PretrainedEncoder):
            # With all facts, so that a checkpoint needs no other file to rebuild it.
            self.spec = self.network.card.to_dict() | {
                key: value
                for key, value in dict(self.spec if isinstance(self.spec, dict) else {}).items()
                if key in _OF_EVERY_ENCODER
            }
        self.takes, self.embedding_dim = described(self.name, self.network, found)
        self.stains = self._stains_of(method, target)
        # Set while parts of one bag are encoded: how the whole bag is changed, `(1, values)`.
        self._values_of_bag: Tensor | None = None
        if self.frozen:
            self.requires_grad_(False)
            self.eval()

    def _stains_of(self, method: Any, target: Any) -> StainNormalisation | None:
        """Return the stain normalisation of a specification."""
        if method in (None, "none"):
            if target is not None:
                raise ValueError("stain_target is set, but stain_normalisation is none; set macenko or reinhard")
            return None
        if self.takes != "tiles":
            raise ValueError(f"stain_normalisation={method} is for tiles, and the encoder {self.name} takes features")
        if target is None:
            raise ValueError(f"stain_normalisation={method} needs a stain_target, such as that of `fit_stain_target`")
        return StainNormalisation(method, target)

    @contextmanager
    def parts_of_bag(self, sample: Tensor) -> Iterator[None]:
        """Within this context all tiles are parts of one bag: its stains are those of the sample.

        Args:
            sample: `(tiles, channels, height, width)` in [0, 1]: the tiles of the bag that `sampled_tiles` names.
        """
        self._values_of_bag = None if self.stains is None else self.stains.values_of(sample[None])
        try:
            yield
        finally:
            self._values_of_bag = None

    def train(self, mode: bool = True) -> "TileEncoder":
        """Set the mode; a frozen encoder stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def forward(self, tiles: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return embeddings `(bags, tiles, embedding_dim)`, 0 on padding.

        Args:
            tiles: `(bags, tiles, channels, height, width)` in [0, 1], or `(bags, tiles, features)`. A frozen encoder of
                tiles also takes embeddings that it computed before, `(bags, tiles, embedding_dim)`, and returns them
                unchanged.
            mask: `(bags, tiles)`, True for a real tile; `None` if all are real.
        """
        if self.frozen and self.takes == "tiles" and tiles.ndim == 3 and tiles.shape[2] == self.embedding_dim:
            return tiles if mask is None else tiles.masked_fill(~mask[..., None], 0)
        expected = 5 if self.takes == "tiles" else 3
        if tiles.ndim != expected:
            form = "(bags, tiles, channels, height, width)" if expected == 5 else "(bags, tiles, features)"
            raise ValueError(f"the encoder {self.name} takes {form}, not a tensor of shape {tuple(tiles.shape)}")
        if mask is not None:
            full_mask(tiles, mask)
            # Checking whether all are real is free on the CPU but would synchronise with a GPU.
            if mask.device.type == "cpu" and bool(mask.all()):
                mask = None
        stains = self._stains_of_bags(tiles, mask)
        if mask is None:
            values = None if stains is None else stains.flatten(0, 1)
            embeddings: Tensor = self._encode(tiles.flatten(0, 1), values).unflatten(0, tiles.shape[:2])
            return embeddings
        if self.takes == "features" and mask.device.type != "cpu":
            # Gathering rows synchronises with the GPU, which costs more than a few multiplications on padding.
            padding = ~mask[..., None]
            embeddings = self._encode(tiles.masked_fill(padding, 0).flatten(0, 1)).unflatten(0, tiles.shape[:2])
            return embeddings.masked_fill(padding, 0)
        # By number of row: a mask would be turned into numbers once more for each use, and in the gradient.
        rows, flat = mask.flatten().nonzero().squeeze(1), tiles.flatten(0, 1)
        real = self._encode(
            flat.index_select(0, rows) if flat.ndim == 2 else flat[rows],  # which leaves pictures channels last
            None if stains is None else stains.flatten(0, 1)[rows],
        )
        embeddings = real.new_zeros(mask.numel(), self.embedding_dim)
        return embeddings.index_copy_(0, rows, real).view(*mask.shape, self.embedding_dim)

    def _stains_of_bags(self, tiles: Tensor, mask: Tensor | None) -> Tensor | None:
        """Return for each tile how its bag is changed, `(bags, tiles, values)`; `None` without normalisation."""
        if self.stains is None:
            return None
        values = self._values_of_bag
        if values is None:
            values = self.stains.values_of(tiles, mask)
        return values[:, None].expand(*tiles.shape[:2], -1)

    def _encode(self, tiles: Tensor, values: Tensor | None = None) -> Tensor:
        """Return embeddings `(tiles, embedding_dim)`, in micro-batches if a bound is set."""
        if tiles.ndim == 4:
            tiles = tiles.contiguous(memory_format=torch.channels_last)
        of_tiles = self._parts(tiles)
        of_values = [None] * len(of_tiles) if values is None else self._parts(values)
        batches = list(zip(of_tiles, of_values, strict=True))
        if self.frozen:
            with torch.no_grad():
                return torch.cat([self._run(*batch) for batch in batches])
        if self.activation_checkpointing and torch.is_grad_enabled():
            # Recomputation draws the same dropout as the first pass: checkpoint restores the state of the generator.
            parts = [checkpoint(self._run, *batch, use_reentrant=False, context_fn=self._contexts) for batch in batches]
        else:
            parts = [self._run(*batch) for batch in batches]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _run(self, tiles: Tensor, values: Tensor | None) -> Tensor:
        """Return embeddings of a micro-batch; `values` say how the bag of each tile is changed."""
        if self.stains is not None and values is not None:
            tiles = self.stains.recolour(tiles, values).contiguous(memory_format=torch.channels_last)
        embeddings: Tensor = self.network(tiles)
        return embeddings

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Return the contexts of the first pass and the recomputation of a micro-batch."""
        return nullcontext(), _statistics_kept(self.network)

    def _parts(self, tiles: Tensor) -> tuple[Tensor, ...]:
        """Split tiles into micro-batches of at most `tile_micro_batch`."""
        size = self.tile_micro_batch
        if size is None or size >= len(tiles):
            return (tiles,)
        if self.training:
            # Of nearly equal size, since batch statistics of a last micro-batch of one tile would be useless.
            return torch.tensor_split(tiles, -(-len(tiles) // size))
        return torch.split(tiles, size)


@contextmanager
def _statistics_kept(network: nn.Module) -> Iterator[None]:
    """Recompute batch normalisation without updating its running statistics a second time."""
    kept = [
        (module, name, value)
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for name, value in module.named_buffers(recurse=False)
    ]
    for module, name, value in kept:
        setattr(module, name, value.clone())
    try:
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)


def require_own_name(kind: type, taken: Iterable[str], what: str) -> None:
    """Refuse a user-defined class with the name of one of this library, since checkpoints identify it by name.

    Args:
        kind: The class.
        taken: Names of this library.
        what: Kind of the class in error messages: "encoder".

    Raises:
        ValueError: If the name is taken.
    """
    if kind.__name__ in taken:
        raise ValueError(f"milpath already has the {what} {kind.__name__}; give your class another name")


def _build(name: str | type, arguments: dict[str, Any]) -> nn.Module:
    """Return the encoder with the given name, or of a user-defined class."""
    if isinstance(name, type):
        return _build_own(name, arguments)
    if "architecture" in arguments or (name in encoder_names() and name not in BACKBONES):
        return from_spec({"name": name} | arguments)
    if name in BACKBONES or name.startswith("timm/"):
        constructor: Callable[..., nn.Module] = Backbone
        arguments = {"name": name} | arguments
    elif name in ENCODERS:
        constructor = ENCODERS[name]
    else:
        names = ", ".join(dict.fromkeys((*ENCODERS, *BACKBONES, *encoder_names())))
        known = f"encoder {name!r} must be one of {names} or timm/<architecture>"
        own = "; for your own give its class: encoders=[MyEncoder] in Python, parts=[my_parts.MyEncoder] in a command"
        raise ValueError(known + own)
    try:
        return constructor(**arguments)
    except TypeError as error:
        raise ValueError(f"encoder {name}: {error}") from None


def _build_own(kind: type, arguments: dict[str, Any]) -> nn.Module:
    """Return an encoder of a user-defined class."""
    try:
        network = kind(**arguments)
    except TypeError as error:
        raise ValueError(f"encoder {kind.__name__}: {error}") from None
    if not isinstance(network, nn.Module):
        raise ValueError(f"encoder {kind.__name__} is not a torch.nn.Module; derive it from torch.nn.Module")
    return network
