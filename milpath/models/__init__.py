"""Networks for bags of tiles; they need only torch and torchvision.

Every network has the signature `forward(tiles, mask=None) -> MILOutput(logits, attention)`.
"""

from milpath.models.checkpoint import load_card, load_network, save_network
from milpath.models.networks.attention_mil import AttentionMIL
from milpath.models.networks.clam_sb import CLAMSB
from milpath.models.networks.dsmil import DSMIL
from milpath.models.networks.embedding_pool_mil import EmbeddingPoolMIL
from milpath.models.networks.instance_pool_mil import InstancePoolMIL
from milpath.models.networks.trans_mil import TransMIL
from milpath.models.output import MILOutput

__all__ = [
    "CLAMSB",
    "DSMIL",
    "AttentionMIL",
    "EmbeddingPoolMIL",
    "InstancePoolMIL",
    "MILOutput",
    "TransMIL",
    "load_card",
    "load_network",
    "save_network",
]
