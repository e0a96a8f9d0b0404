"""Encoders, which turn each tile into an embedding, by name.

An encoder is given as a string, `"tile_cnn"`, or as a mapping of its name and arguments,
`{"name": "resnet18", "pretrained": True}`. `timm/<architecture>` takes any architecture of the timm library.
"""

from milpath.models.encoders.backbone import TORCHVISION_BACKBONES, Backbone
from milpath.models.encoders.encoder_card import EncoderCard
from milpath.models.encoders.encoder_files import encoder_card, encoder_names
from milpath.models.encoders.lenet5 import LeNet5
from milpath.models.encoders.linear import LinearEncoder
from milpath.models.encoders.open_encoder import facts_of, open_encoder
from milpath.models.encoders.pretrained_encoder import PretrainedEncoder
from milpath.models.encoders.tile_cnn import TileCNN
from milpath.models.encoders.tile_encoder import ENCODERS, EncoderSpec, TileEncoder

__all__ = [
    "ENCODERS",
    "TORCHVISION_BACKBONES",
    "Backbone",
    "EncoderCard",
    "EncoderSpec",
    "LeNet5",
    "LinearEncoder",
    "PretrainedEncoder",
    "TileCNN",
    "TileEncoder",
    "encoder_card",
    "encoder_names",
    "facts_of",
    "open_encoder",
]
