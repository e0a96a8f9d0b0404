"""Networks for bags of tiles; they need only torch and torchvision.

Every network has the signature `forward(tiles, mask=None) -> MILOutput(logits, attention)`.
"""

from milpath.models.checkpoint import load_card, load_network, save_network
from milpath.models.networks.acmil import ACMIL
from milpath.models.networks.additive_mil import AdditiveMIL
from milpath.models.networks.attention_ensemble_mil import AttentionEnsembleMIL
from milpath.models.networks.attention_mil import AttentionMIL
from milpath.models.networks.clam_mb import CLAMMB
from milpath.models.networks.clam_sb import CLAMSB
from milpath.models.networks.dsmil import DSMIL
from milpath.models.networks.dtfd_mil import DTFDMIL
from milpath.models.networks.embedding_pool_mil import EmbeddingPoolMIL
from milpath.models.networks.feather_mil import FeatherMIL
from milpath.models.networks.ilra_mil import ILRAMIL
from milpath.models.networks.instance_pool_mil import InstancePoolMIL
from milpath.models.networks.multi_head_attention_mil import MultiHeadAttentionMIL
from milpath.models.networks.trans_mil import TransMIL
from milpath.models.output import DetailedMILOutput, MILOutput

__all__ = [
    "ACMIL",
    "CLAMMB",
    "CLAMSB",
    "DSMIL",
    "DTFDMIL",
    "ILRAMIL",
    "AdditiveMIL",
    "AttentionEnsembleMIL",
    "AttentionMIL",
    "DetailedMILOutput",
    "EmbeddingPoolMIL",
    "FeatherMIL",
    "InstancePoolMIL",
    "MILOutput",
    "MultiHeadAttentionMIL",
    "TransMIL",
    "load_card",
    "load_network",
    "save_network",
]
