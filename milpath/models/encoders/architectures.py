"""Networks of pretrained encoders, built from the card: those of timm, and those that only pathology encoders use."""

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from milpath.models.encoders.encoder_card import EncoderCard
from milpath.models.encoders.weights_file import import_extra
from milpath.records.error_text import reason_of

# Trunk and pooling of the image tower; the second name is the class of the pooling.
_CONCH = {"conch_v1": "vit_base_patch16_224", "conch_v1_5": "vit_large_patch16_224"}


def build_architecture(card: EncoderCard) -> nn.Module:
    """Return the network of a card with random weights, on the default device; nothing is read or fetched.

    Raises:
        ImportError: If timm is missing.
        ValueError: If timm has no such architecture, or it has another width than the card says.
    """
    if card.library == "conch":
        if card.architecture not in _CONCH:
            raise ValueError(f"{card.name}: architecture must be one of {', '.join(_CONCH)}, not {card.architecture!r}")
        trunk = _of_timm(_CONCH[card.architecture], card)
        pool = AttentionalPool if card.architecture == "conch_v1" else BiaslessAttentionalPool
        return ConchTower(trunk, pool(card.embedding_dim, int(trunk.num_features)), card.embedding_dim)
    if card.library != "timm":
        raise ValueError(
            f"the encoder {card.name} is {card.library}: it computes features and cannot be part of a network"
        )
    network: nn.Module = _of_timm(card.architecture, card)
    width = cast(int, network.num_features) * (2 if card.output == "class_and_mean" else 1)
    if width != card.embedding_dim:
        raise ValueError(
            f"{card.name} gives {width} features with output={card.output}, its card says {card.embedding_dim}"
        )
    if card.output != "pooled" and not getattr(network, "num_prefix_tokens", 0):
        raise ValueError(f"{card.name} has no class token; its output must be pooled")
    return network


def _of_timm(architecture: str, card: EncoderCard) -> Any:
    """Return an architecture of timm with the arguments of a card."""
    timm = import_extra("timm")
    # Only names that timm lists: "hf-hub:..." and "local-dir:..." would load a network from a place that a card names.
    if ":" in architecture or "." in architecture or not timm.is_model(architecture):
        raise ValueError(f"timm {timm.__version__} has no architecture {architecture!r}, which {card.name} needs")
    arguments = dict(card.arguments)
    if "mlp_layer" in arguments:
        arguments["mlp_layer"] = getattr(timm.layers, arguments["mlp_layer"])
    if "act_layer" in arguments:
        arguments["act_layer"] = getattr(nn, arguments["act_layer"])
    if "norm_eps" in arguments:
        arguments["norm_layer"] = partial(nn.LayerNorm, eps=arguments.pop("norm_eps"))
    if "embed_layer" in arguments:
        arguments["embed_layer"] = ConvStem
    try:
        network = timm.create_model(architecture, pretrained=False, num_classes=0, **arguments)
    except (TypeError, RuntimeError, ValueError, AssertionError, ArithmeticError) as error:
        raise ValueError(f"{card.name}: timm's {architecture} cannot be built ({reason_of(error)})") from None
    if network.num_features is None:
        raise ValueError(f"{card.name}: timm's {architecture} does not say how many features it has")
    return network


class ConvStem(nn.Module):
    """Two strided convolutions and a projection in place of the patch embedding of a Swin transformer, as in CTransPath.

    Wang et al., "Transformer-based unsupervised contrastive learning for histopathological image classification", Medical
    Image Analysis 2022. The arguments are those that timm gives to a patch embedding.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int],
        patch_size: int = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        norm_layer: type[nn.Module] | None = None,
        **_: Any,
    ) -> None:
        super().__init__()
        if patch_size != 4 or embed_dim % 8:
            raise ValueError(
                f"ConvStem takes patch_size=4 and a multiple of 8 as embed_dim, not {patch_size}, {embed_dim}"
            )
        layers: list[nn.Module] = []
        for out_chans in (embed_dim // 8, embed_dim // 4):
            convolution = nn.Conv2d(in_chans, out_chans, 3, stride=2, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(out_chans), nn.ReLU()]
            in_chans = out_chans
        self.proj = nn.Sequential(*layers, nn.Conv2d(in_chans, embed_dim, 1))
        self.norm = nn.Identity() if norm_layer is None else norm_layer(embed_dim)
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.grid_size = (height // 4, width // 4)

    def forward(self, tiles: Tensor) -> Tensor:
        """Return patches `(tiles, height / 4, width / 4, embed_dim)`."""
        patches: Tensor = self.norm(self.proj(tiles).permute(0, 2, 3, 1))
        return patches


class AttentionalPool(nn.Module):
    """One learned query that attends to all tokens (CoCa, Yu et al. 2022), as in CONCH v1."""

    def __init__(self, embedding_dim: int, token_dim: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, embedding_dim))
        self.attn = nn.MultiheadAttention(embedding_dim, 8, kdim=token_dim, vdim=token_dim, batch_first=True)
        self.ln_q = nn.LayerNorm(embedding_dim)
        self.ln_k = nn.LayerNorm(token_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return `(tiles, embedding_dim)` of tokens `(tiles, tokens, token_dim)`."""
        keys = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)
        pooled: Tensor = self.attn(query, keys, keys, need_weights=False)[0]
        return pooled[:, 0]


class BiaslessAttentionalPool(nn.Module):
    """The same with linear layers without bias, as in CONCH v1.5."""

    def __init__(self, embedding_dim: int, token_dim: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, embedding_dim))
        self.ln_k = nn.LayerNorm(token_dim)
        self.ln_q = nn.LayerNorm(embedding_dim)
        self.to_q = nn.Linear(embedding_dim, embedding_dim, bias=False)
        self.to_kv = nn.Linear(token_dim, 2 * embedding_dim, bias=False)
        self.to_out = nn.Linear(embedding_dim, embedding_dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return `(tiles, embedding_dim)` of tokens `(tiles, tokens, token_dim)`."""
        query = self.to_q(self.ln_q(self.query)).expand(len(tokens), -1, -1)
        keys, values = self.to_kv(self.ln_k(tokens)).chunk(2, dim=-1)
        heads = [part.unflatten(2, (8, -1)).transpose(1, 2) for part in (query, keys, values)]
        pooled = nn.functional.scaled_dot_product_attention(*heads)
        features: Tensor = self.to_out(pooled.transpose(1, 2).flatten(2))
        return features[:, 0]


class ConchTower(nn.Module):
    """The image tower of CONCH: a ViT, an attentional pool over all its tokens, a normalisation.

    Lu et al., "A visual-language foundation model for computational pathology", Nature Medicine 2024.
    """

    def __init__(self, trunk: nn.Module, pool: nn.Module, embedding_dim: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.attn_pool_contrast = pool
        self.ln_contrast = nn.LayerNorm(embedding_dim)
        self.pretrained_cfg: dict[str, Any] = {}

    def forward(self, tiles: Tensor) -> Tensor:
        """Return features `(tiles, embedding_dim)` of normalised tiles."""
        tokens = self.trunk.forward_features(tiles)  # type: ignore[operator]
        features: Tensor = self.ln_contrast(self.attn_pool_contrast(tokens))
        return features
