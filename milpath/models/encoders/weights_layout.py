"""Names of tensors in published files of weights, mapped to those of the networks that are built here.

A name that no rule knows is kept, so that loading refuses it: nothing is dropped but what is listed here.
"""

import math
import re
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]

_TRANSFORMERS = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (r"^encoder\.layer\.(\d+)\.layernorm_before\.", r"blocks.\1.norm1."),
    (r"^encoder\.layer\.(\d+)\.layernorm_after\.", r"blocks.\1.norm2."),
    (r"^encoder\.layer\.(\d+)\.intermediate\.dense\.", r"blocks.\1.mlp.fc1."),
    (r"^encoder\.layer\.(\d+)\.output\.dense\.", r"blocks.\1.mlp.fc2."),
    (r"^encoder\.layer\.(\d+)\.layer_scale(\d)\.lambda1$", r"blocks.\1.ls\2.gamma"),
    (r"^encoder\.layer\.(\d+)\.mlp\.weights_in\.", r"blocks.\1.mlp.fc1."),
    (r"^encoder\.layer\.(\d+)\.mlp\.weights_out\.", r"blocks.\1.mlp.fc2."),
    (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."),
    (r"^layernorm\.", "norm."),
)
# The code of DINOv2 itself.
_DINOV2 = (
    (r"^register_tokens$", "reg_token"),
    (r"^(blocks\.\d+\.mlp)\.w12\.", r"\1.fc1."),
    (r"^(blocks\.\d+\.mlp)\.w3\.", r"\1.fc2."),
)
# The mask token serves pretraining and the pooler a classification; neither is part of the features.
_UNUSED_OF_TRANSFORMERS = ("embeddings.mask_token", "mask_token", "pooler.dense.weight", "pooler.dense.bias")
_UNUSED_OF_CONCH = (
    "text.",
    "text_decoder.",
    "logit_scale",
    "visual.attn_pool_caption.",
    "visual.ln_caption.",
    "visual.proj_contrast",
)
_QUERY = re.compile(r"^encoder\.layer\.(\d+)\.attention\.attention\.query\.(weight|bias)$")


def to_own_names(weights: Weights, own: Weights, layout: str, source: str) -> dict[str, Tensor]:
    """Return published weights under the names of the network.

    Args:
        weights: Name to tensor, as published.
        own: The state dict of the network, which may be on the meta device.
        layout: How the published tensors are named, one of `encoder_card.LAYOUTS`.
        source: Where the weights come from, for the error message.

    Raises:
        ValueError: If the file does not have this layout.
    """
    return _LAYOUTS[layout](weights, own, source)


def _timm(weights: Weights, own: Weights, source: str) -> dict[str, Tensor]:
    """Names of timm itself."""
    return dict(weights)


def _in_order(weights: Weights, own: Weights, source: str) -> dict[str, Tensor]:
    """Other names in the same order; the classification layer of efficientnet-lite-pytorch is called `_fc`."""
    if weights.keys() >= own.keys():
        return dict(weights)
    kept = [value for name, value in weights.items() if not name.startswith("_fc.")]
    if [value.shape for value in own.values()] != [value.shape for value in kept]:
        raise ValueError(f"{source} has weights of another architecture")
    return dict(zip(own, kept, strict=True))


def _transformers(weights: Weights, own: Weights, source: str) -> dict[str, Tensor]:
    """Names of the classes ViTModel and Dinov2Model (with or without registers) of the library transformers.

    Names of the code of DINOv2 and of timm itself are known too. Query, key and value, three layers there, are one here.
    With registers the position of the class token is added to the class token, as it is the same for every tile.
    """
    weights = {name.removeprefix("vit.").removeprefix("dinov2."): value for name, value in weights.items()}
    found: dict[str, Tensor] = {}
    rules = _DINOV2 if "cls_token" in weights else _TRANSFORMERS
    joined: set[str] = set()
    for name in weights:
        if (match := _QUERY.match(name)) is not None:
            parts = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
            if all(part in weights for part in parts):
                found[f"blocks.{match[1]}.attn.qkv.{match[2]}"] = torch.cat([weights[part] for part in parts])
                joined.update(parts)
    for name, value in weights.items():
        if name not in joined and name not in _UNUSED_OF_TRANSFORMERS:
            found[_renamed(name, rules)] = value
    return _positions_of_grid(found, own)


def _positions_of_grid(found: dict[str, Tensor], own: Weights) -> dict[str, Tensor]:
    """Return weights whose position embedding fits the grid of patches of the network, as Dinov2Model resamples it."""
    if not {"pos_embed", "cls_token"} <= found.keys() or found["pos_embed"].ndim != 3:
        return found
    if found["pos_embed"].shape == own["pos_embed"].shape:
        return found
    first, patches = found["pos_embed"][:, :1], found["pos_embed"][:, 1:]
    apart = "reg_token" in own  # registers: positions of the patches only
    patches = _resampled(patches, own["pos_embed"].shape[1] - (0 if apart else 1))
    if apart:
        return found | {"cls_token": found["cls_token"] + first, "pos_embed": patches}
    return found | {"pos_embed": torch.cat([first, patches], dim=1)}


def _resampled(patches: Tensor, wanted: int, offset: float = 0.0) -> Tensor:
    """Return the position embedding `(1, wanted, dim)` of a square grid of patches.

    Args:
        patches: `(1, patches, dim)` of a square grid.
        wanted: Number of patches of the new grid.
        offset: Added to the new side before the ratio to the old one is taken, as DINO does.
    """
    side, new_side = math.isqrt(patches.shape[1]), math.isqrt(wanted)
    if patches.shape[1] == wanted or side**2 != patches.shape[1] or new_side**2 != wanted:
        return patches
    grid = patches.float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    if offset:
        ratio = (new_side + offset) / side
        grid = F.interpolate(grid, scale_factor=(ratio, ratio), mode="bicubic", align_corners=False)
    else:
        grid = F.interpolate(grid, size=(new_side, new_side), mode="bicubic", align_corners=False)
    return grid.permute(0, 2, 3, 1).flatten(1, 2)


def _conch(weights: Weights, own: Weights, source: str) -> dict[str, Tensor]:
    """The image tower of CONCH without the projection to the space of texts; the tower for texts is left out."""
    return {
        name.removeprefix("visual."): value for name, value in weights.items() if not name.startswith(_UNUSED_OF_CONCH)
    }


def _conch_v1_5(weights: Weights, own: Weights, source: str) -> dict[str, Tensor]:
    """The image tower of CONCH v1.5, whose positions (of 14 x 14 patches) are resampled to 28 x 28 as its code does."""
    found = dict(weights)
    if (positions := found.get("trunk.pos_embed")) is not None and positions.ndim == 3:
        first, patches = positions[:, :1], positions[:, 1:]
        patches = _resampled(patches, own["trunk.pos_embed"].shape[1] - 1, offset=0.1)
        found["trunk.pos_embed"] = torch.cat([first, patches], dim=1)
    return found


def _ctranspath(weights: Weights, own: Weights, source: str) -> dict[str, Tensor]:
    """Names of timm 0.5, where a stage ends with the merging of patches that now begins the next one."""
    return {
        re.sub(r"^layers\.(\d+)\.downsample\.", lambda match: f"layers.{int(match[1]) + 1}.downsample.", name): value
        for name, value in weights.items()
        if not name.endswith((".relative_position_index", ".attn_mask"))  # computed from the size of the tile
    }


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    """Return the name after the first rule that matches."""
    for pattern, replacement in rules:
        renamed, count = re.subn(pattern, replacement, name)
        if count:
            return renamed
    return name


_LAYOUTS: dict[str, Callable[[Weights, Weights, str], dict[str, Tensor]]] = {
    "timm": _timm,
    "in_order": _in_order,
    "transformers": _transformers,
    "conch": _conch,
    "conch_v1_5": _conch_v1_5,
    "ctranspath": _ctranspath,
}
