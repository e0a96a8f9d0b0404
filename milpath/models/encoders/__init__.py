"""Encoders, which turn each tile into an embedding, by name.

An encoder is given as a string, `"tile_cnn"`, or as a mapping of its name and arguments,
`{"name": "resnet18", "pretrained": True}`. `timm/<architecture>` takes any architecture of the timm library.
"""

from milpath.models.encoders.backbone import TORCHVISION_BACKBONES, Backbone
from milpath.models.encoders.lenet5 import LeNet5
from milpath.models.encoders.linear import LinearEncoder
from milpath.models.encoders.tile_cnn import TileCNN
from milpath.models.encoders.tile_encoder import ENCODERS, EncoderSpec, TileEncoder

__all__ = [
    "ENCODERS",
    "TORCHVISION_BACKBONES",
    "Backbone",
    "EncoderSpec",
    "LeNet5",
    "LinearEncoder",
    "TileCNN",
    "TileEncoder",
]
