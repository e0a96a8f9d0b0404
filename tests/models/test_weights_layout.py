"""Published names of tensors, written down here from the code that published them, fit the networks that are built."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from milpath.models.encoders import PretrainedEncoder, encoder_card
from milpath.models.encoders.architectures import AttentionalPool, BiaslessAttentionalPool, build_architecture
from milpath.models.encoders.weights_file import fitting
from milpath.models.encoders.weights_layout import to_own_names

pytest.importorskip("timm", reason="comes with the extra backbones")
# Builds whole encoders.
pytestmark = pytest.mark.command

# From config.json of each repository: width, layers, patch, side of the tile, registers, hidden width of SwiGLU or None.
DINOV2 = {
    "phikon_v2": (1024, 24, 16, 224, 0, None),
    "midnight": (1536, 40, 14, 224, 0, 4096),
    "hibou_b": (768, 12, 14, 224, 4, 2048),
    "hibou_l": (1024, 24, 14, 224, 4, 2736),
}


def empty(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


def layer(name: str, inputs: int, outputs: int) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": empty(outputs, inputs), f"{name}.bias": empty(outputs)}


def norm(name: str, width: int) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": empty(width), f"{name}.bias": empty(width)}


def attention(prefix: str, width: int) -> dict[str, torch.Tensor]:
    found = {}
    for part in ("query", "key", "value"):
        found |= layer(f"{prefix}.attention.attention.{part}", width, width)
    return found | layer(f"{prefix}.attention.output.dense", width, width)


def vit_model(width: int, layers: int, patch: int, size: int) -> dict[str, torch.Tensor]:
    """Names and shapes of ViTModel of transformers 4."""
    found = {
        "embeddings.cls_token": empty(1, 1, width),
        "embeddings.position_embeddings": empty(1, (size // patch) ** 2 + 1, width),
        "embeddings.patch_embeddings.projection.weight": empty(width, 3, patch, patch),
        "embeddings.patch_embeddings.projection.bias": empty(width),
    }
    for number in range(layers):
        prefix = f"encoder.layer.{number}"
        found |= attention(prefix, width)
        found |= layer(f"{prefix}.intermediate.dense", width, 4 * width) | layer(
            f"{prefix}.output.dense", 4 * width, width
        )
        found |= norm(f"{prefix}.layernorm_before", width) | norm(f"{prefix}.layernorm_after", width)
    return found | norm("layernorm", width) | layer("pooler.dense", width, width)


def dinov2_model(width, layers, patch, size, registers, hidden) -> dict[str, torch.Tensor]:
    """Names and shapes of Dinov2Model of transformers 4, with or without registers."""
    found = {
        "embeddings.cls_token": empty(1, 1, width),
        "embeddings.mask_token": empty(1, width),
        "embeddings.position_embeddings": empty(1, (size // patch) ** 2 + 1, width),
        "embeddings.patch_embeddings.projection.weight": empty(width, 3, patch, patch),
        "embeddings.patch_embeddings.projection.bias": empty(width),
    }
    if registers:
        found["embeddings.register_tokens"] = empty(1, registers, width)
    for number in range(layers):
        prefix = f"encoder.layer.{number}"
        found |= attention(prefix, width) | norm(f"{prefix}.norm1", width) | norm(f"{prefix}.norm2", width)
        found |= {f"{prefix}.layer_scale{place}.lambda1": empty(width) for place in (1, 2)}
        if hidden is None:
            found |= layer(f"{prefix}.mlp.fc1", width, 4 * width) | layer(f"{prefix}.mlp.fc2", 4 * width, width)
        else:
            found |= layer(f"{prefix}.mlp.weights_in", width, 2 * hidden)
            found |= layer(f"{prefix}.mlp.weights_out", hidden, width)
    return found | norm("layernorm", width)


def fits(name: str, published: dict[str, torch.Tensor]) -> None:
    card = encoder_card(name)
    with torch.device("meta"):
        own = build_architecture(card).state_dict()
    fitting(own, to_own_names(published, own, card.layout, name), name, ("head",))


def test_phikon_fits_the_names_and_shapes_of_its_file():
    fits("phikon", vit_model(768, 12, 16, 224))


@pytest.mark.parametrize("name", DINOV2)
def test_an_encoder_of_dinov2_fits_the_names_and_shapes_of_its_file(name):
    fits(name, dinov2_model(*DINOV2[name]))


def test_positions_of_another_grid_are_resampled_to_that_of_the_tile():
    fits("midnight", dinov2_model(1536, 40, 14, 518, 0, 4096))


def test_hibou_fits_the_names_of_the_code_of_its_authors_too():
    width, hidden = 768, 2048
    published = {
        "cls_token": empty(1, 1, width), "pos_embed": empty(1, 257, width), "register_tokens": empty(1, 4, width),
        "mask_token": empty(1, width), "patch_embed.proj.weight": empty(width, 3, 14, 14),
        "patch_embed.proj.bias": empty(width), **norm("norm", width),
    }  # fmt: skip
    for number in range(12):
        prefix = f"blocks.{number}"
        published |= norm(f"{prefix}.norm1", width) | norm(f"{prefix}.norm2", width)
        published |= layer(f"{prefix}.attn.qkv", width, 3 * width) | layer(f"{prefix}.attn.proj", width, width)
        published |= {f"{prefix}.ls1.gamma": empty(width), f"{prefix}.ls2.gamma": empty(width)}
        published |= layer(f"{prefix}.mlp.w12", width, 2 * hidden) | layer(f"{prefix}.mlp.w3", hidden, width)
    fits("hibou_b", published)


def vit_of_timm(
    prefix: str, width: int, layers: int, positions: int, patch: int, scaled: bool
) -> dict[str, torch.Tensor]:
    found = {
        f"{prefix}cls_token": empty(1, 1, width),
        f"{prefix}pos_embed": empty(1, positions, width),
        f"{prefix}patch_embed.proj.weight": empty(width, 3, patch, patch),
        f"{prefix}patch_embed.proj.bias": empty(width),
    }
    for number in range(layers):
        block = f"{prefix}blocks.{number}"
        found |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
        found |= layer(f"{block}.attn.qkv", width, 3 * width) | layer(f"{block}.attn.proj", width, width)
        found |= layer(f"{block}.mlp.fc1", width, 4 * width) | layer(f"{block}.mlp.fc2", 4 * width, width)
        if scaled:
            found |= {f"{block}.ls1.gamma": empty(width), f"{block}.ls2.gamma": empty(width)}
    return found | norm(f"{prefix}norm", width)


def test_uni_fits_the_names_and_shapes_of_its_file():
    fits("uni", vit_of_timm("", 1024, 24, 197, 16, scaled=True))


def written_out(weights: dict[str, torch.Tensor], tiles: torch.Tensor, patch: int, eps: float) -> torch.Tensor:
    """All tokens of a vision transformer, computed step by step from tensors under the names of transformers."""

    def linear(name: str, values: torch.Tensor) -> torch.Tensor:
        return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def normed(name: str, values: torch.Tensor) -> torch.Tensor:
        centred = values - values.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    projection = "embeddings.patch_embeddings.projection"
    maps = F.conv2d(tiles, weights[f"{projection}.weight"], weights[f"{projection}.bias"], stride=patch)
    positions = weights["embeddings.position_embeddings"]
    old = round((positions.shape[1] - 1) ** 0.5)
    grid = positions[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=maps.shape[-2:], mode="bicubic", align_corners=False)
    tokens = (maps + grid).flatten(2).transpose(1, 2)
    first = (weights["embeddings.cls_token"] + positions[:, :1]).expand(len(tiles), -1, -1)
    registers = weights.get("embeddings.register_tokens", first[:1, :0])
    tokens = torch.cat([first, registers.expand(len(tiles), -1, -1), tokens], dim=1)
    number = 0
    while f"encoder.layer.{number}.attention.output.dense.weight" in weights:
        prefix = f"encoder.layer.{number}"
        scaled = f"{prefix}.layer_scale1.lambda1" in weights
        before, after = (
            (f"{prefix}.norm1", f"{prefix}.norm2")
            if scaled
            else (f"{prefix}.layernorm_before", f"{prefix}.layernorm_after")
        )
        inputs = normed(before, tokens)
        query, key, value = (
            linear(f"{prefix}.attention.attention.{part}", inputs).unflatten(2, (-1, 64)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mixed = torch.softmax(query @ key.transpose(2, 3) / 8, dim=-1) @ value
        mixed = linear(f"{prefix}.attention.output.dense", mixed.transpose(1, 2).flatten(2))
        tokens = tokens + mixed * (weights[f"{prefix}.layer_scale1.lambda1"] if scaled else 1)
        inputs = normed(after, tokens)
        if f"{prefix}.mlp.weights_in.weight" in weights:
            gate, values = linear(f"{prefix}.mlp.weights_in", inputs).chunk(2, dim=-1)
            hidden = linear(f"{prefix}.mlp.weights_out", gate * torch.sigmoid(gate) * values)
        else:
            one, two = ("mlp.fc1", "mlp.fc2") if scaled else ("intermediate.dense", "output.dense")
            hidden = linear(f"{prefix}.{two}", F.gelu(linear(f"{prefix}.{one}", inputs)))
        tokens = tokens + hidden * (weights[f"{prefix}.layer_scale2.lambda1"] if scaled else 1)
        number += 1
    return normed("layernorm", tokens)


@pytest.mark.parametrize(
    ("name", "size"),
    [("phikon", 224), ("phikon_v2", 224), ("midnight", 224), ("midnight", 518), ("hibou_b", 224), ("hibou_l", 224)],
)
def test_an_encoder_published_for_transformers_equals_its_network_written_out(name, size):
    if name == "phikon":
        patch, shapes = 16, vit_model(768, 2, 16, size)
    else:
        width, _, patch, _, registers, hidden = DINOV2[name]
        shapes = dinov2_model(width, 2, patch, size, registers, hidden)
    generator = torch.Generator().manual_seed(0)
    weights = {
        key: torch.randn(value.shape, generator=generator) * (0.3 if value.ndim < 2 else 0.05)
        for key, value in shapes.items()
    }
    weights |= {key: value + 1 for key, value in weights.items() if "norm" in key and key.endswith(".weight")}
    card = encoder_card(name)
    encoder = PretrainedEncoder(dataclasses.replace(card, arguments=dict(card.arguments) | {"depth": 2})).eval()
    own = encoder.network.state_dict()
    encoder.network.load_state_dict(fitting(own, to_own_names(weights, own, card.layout, name), name, ()))
    tiles = torch.rand(2, 3, 224, 224, generator=generator)
    with torch.no_grad():
        tokens = written_out(weights, encoder.normalise(tiles), patch, 1e-12 if name == "phikon" else 1e-6)
        expected = tokens[:, 0]
        if name == "midnight":
            expected = torch.cat([expected, tokens[:, 1:].mean(1)], dim=1)
        torch.testing.assert_close(encoder(tiles), expected, atol=2e-4, rtol=1e-3)


def with_registers(published: dict[str, torch.Tensor], positions: int, width: int) -> dict[str, torch.Tensor]:
    """Names of the code of DINOv2."""
    own = {
        "register_tokens": empty(1, 4, width),
        "mask_token": empty(1, width),
        "pos_embed": empty(1, positions, width),
    }
    return published | own


def test_an_encoder_of_dinov2_takes_the_names_of_its_code_and_of_timm():
    plain = vit_of_timm("", 1024, 24, 1370, 14, scaled=True)
    fits("dinov2_large", plain)
    fits("dinov2_large", plain | {"mask_token": empty(1, 1024)})
    fits("dinov2_large", dinov2_model(1024, 24, 14, 518, 0, None))
    fits("kaiko_vitl14", with_registers(plain, 1370, 1024))
    fits("kaiko_vitl14", plain | {"reg_token": empty(1, 4, 1024), "pos_embed": empty(1, 1369, 1024)})


def test_conch_takes_the_image_tower_of_its_file():
    published = vit_of_timm("visual.trunk.", 768, 12, 785, 16, scaled=False)
    for kind, width in (("contrast", 512), ("caption", 768)):
        pool = f"visual.attn_pool_{kind}"
        published |= {
            f"{pool}.query": empty(1 if kind == "contrast" else 256, width),
            f"{pool}.attn.in_proj_bias": empty(3 * width),
        }
        published |= {f"{pool}.attn.q_proj_weight": empty(width, width)}
        published |= {f"{pool}.attn.{part}_proj_weight": empty(width, 768) for part in ("k", "v")}
        published |= (
            layer(f"{pool}.attn.out_proj", width, width) | norm(f"{pool}.ln_q", width) | norm(f"{pool}.ln_k", 768)
        )
        published |= norm(f"visual.ln_{kind}", width)
    published |= {
        "visual.proj_contrast": empty(512, 512),
        "logit_scale": empty(),
        "text.token_embedding.weight": empty(9, 768),
    }
    fits("conch", published)


def test_conch_v1_5_takes_positions_of_14_x_14_patches():
    published = vit_of_timm("trunk.", 1024, 24, 197, 16, scaled=True)
    pool = "attn_pool_contrast"
    published |= {f"{pool}.query": empty(1, 768), f"{pool}.to_q.weight": empty(768, 768)}
    published |= {f"{pool}.to_kv.weight": empty(1536, 1024), f"{pool}.to_out.weight": empty(768, 768)}
    published |= norm(f"{pool}.ln_k", 1024) | norm(f"{pool}.ln_q", 768) | norm("ln_contrast", 768)
    fits("conch_v1_5", published)


def test_ctranspath_fits_the_names_and_shapes_of_its_file():
    published = {
        "patch_embed.proj.0.weight": empty(12, 3, 3, 3), "patch_embed.proj.3.weight": empty(24, 12, 3, 3),
        "patch_embed.proj.6.weight": empty(96, 24, 1, 1), "patch_embed.proj.6.bias": empty(96),
        **norm("patch_embed.norm", 96), **norm("norm", 768),
    }  # fmt: skip
    for place, width in ((1, 12), (4, 24)):
        statistics = ("running_mean", "running_var")
        published |= norm(f"patch_embed.proj.{place}", width)
        published |= {f"patch_embed.proj.{place}.{name}": empty(width) for name in statistics}
        published |= {f"patch_embed.proj.{place}.num_batches_tracked": empty()}
    for stage, (blocks, heads) in enumerate(((2, 3), (2, 6), (6, 12), (2, 24))):
        width = 96 * 2**stage
        for number in range(blocks):
            prefix = f"layers.{stage}.blocks.{number}"
            published |= norm(f"{prefix}.norm1", width) | norm(f"{prefix}.norm2", width)
            published |= layer(f"{prefix}.attn.qkv", width, 3 * width) | layer(f"{prefix}.attn.proj", width, width)
            published |= {
                f"{prefix}.attn.relative_position_bias_table": empty(169, heads),
                f"{prefix}.attn.relative_position_index": empty(49, 49),
            }
            published |= layer(f"{prefix}.mlp.fc1", width, 4 * width) | layer(f"{prefix}.mlp.fc2", 4 * width, width)
        published[f"layers.{stage}.blocks.1.attn_mask"] = empty(4, 49, 49)
        if stage < 3:  # merging of patches ends a stage in timm 0.5
            published |= norm(f"layers.{stage}.downsample.norm", 4 * width)
            published[f"layers.{stage}.downsample.reduction.weight"] = empty(2 * width, 4 * width)
    fits("ctranspath", published)


def test_a_name_that_no_rule_knows_is_refused():
    published = vit_model(768, 12, 16, 224) | {"encoder.layer.0.adapter.weight": empty(2, 2)}
    with pytest.raises(ValueError, match="1 weights that the network lacks"):
        fits("phikon", published)
    lacking = vit_model(768, 12, 16, 224)
    del lacking["encoder.layer.3.attention.attention.key.bias"]
    with pytest.raises(ValueError, match="lacks 1 weights of the network"):
        fits("phikon", lacking)


def test_query_key_and_value_stand_in_the_order_that_timm_splits_them():
    published = {name: torch.empty(value.shape) for name, value in vit_model(768, 1, 16, 224).items()}
    for number, part in enumerate(("query", "key", "value")):
        published[f"encoder.layer.0.attention.attention.{part}.bias"] = torch.full((768,), float(number))
    found = to_own_names(published, {"pos_embed": torch.empty(1, 197, 768)}, "transformers", "x")
    assert found["blocks.0.attn.qkv.bias"].unflatten(0, (3, 768))[:, 0].tolist() == [0, 1, 2]


def test_with_registers_the_position_of_the_class_token_is_added_to_it():
    card = encoder_card("hibou_b")
    with torch.device("meta"):
        own = build_architecture(card).state_dict()
    published = {"cls_token": torch.full((1, 1, 768), 2.0), "pos_embed": torch.full((1, 257, 768), 3.0)}
    published["register_tokens"] = torch.zeros(1, 4, 768)
    found = to_own_names(published, own, "transformers", "x")
    assert found["cls_token"].unique().item() == 5
    assert found["pos_embed"].shape == (1, 256, 768)


@pytest.mark.parametrize("biasless", [False, True])
def test_the_attentional_pool_equals_softmax_attention_written_out(biasless):
    torch.manual_seed(0)
    pool = (BiaslessAttentionalPool if biasless else AttentionalPool)(32, 48).eval()
    with torch.no_grad():
        for parameter in pool.parameters():
            parameter.copy_(torch.randn_like(parameter))
    tokens = torch.randn(2, 5, 48)
    keys, query = (
        F.layer_norm(tokens, (48,), pool.ln_k.weight, pool.ln_k.bias),
        F.layer_norm(pool.query, (32,), pool.ln_q.weight, pool.ln_q.bias),
    )
    if biasless:
        q, k, v = query @ pool.to_q.weight.T, keys @ pool.to_kv.weight[:32].T, keys @ pool.to_kv.weight[32:].T
    else:
        bias = pool.attn.in_proj_bias.split(32)
        q = query @ pool.attn.q_proj_weight.T + bias[0]
        k, v = keys @ pool.attn.k_proj_weight.T + bias[1], keys @ pool.attn.v_proj_weight.T + bias[2]
    heads = []
    for head in range(8):
        part = slice(4 * head, 4 * head + 4)
        weights = torch.softmax(q[:, part] @ k[..., part].transpose(1, 2) / 4**0.5, dim=-1)
        heads.append(weights @ v[..., part])
    pooled = torch.cat(heads, dim=-1)[:, 0]
    expected = pooled @ pool.to_out.weight.T if biasless else pool.attn.out_proj(pooled)
    torch.testing.assert_close(pool(tokens), expected, atol=1e-4, rtol=1e-4)
