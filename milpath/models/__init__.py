"""Networks for bags of tiles; they need only torch and torchvision.

Every network has the signature `forward(tiles, mask=None) -> MILOutput(logits, attention)`.
"""

from milpath.models.attention_mil import AttentionMIL
from milpath.models.checkpoint import load_card, load_network, save_network
from milpath.models.clam_sb import CLAMSB
from milpath.models.dsmil import DSMIL
from milpath.models.embedding_pool_mil import EmbeddingPoolMIL
from milpath.models.instance_pool_mil import InstancePoolMIL
from milpath.models.output import MILOutput
from milpath.models.trans_mil import TransMIL

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
