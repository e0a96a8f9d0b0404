"""Attention-based multiple-instance learning on histopathology.

The names below are the public API. Each is loaded on first use, so `import milpath` is instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milpath.data.datamodule import BagDataModule
    from milpath.data.store.bag_store import BagStore
    from milpath.data.store.bag_store_writer import BagStoreWriter
    from milpath.drawing.heatmap import draw_overlay
    from milpath.drawing.montage import draw_montage
    from milpath.inference.pictures.overlays import draw_bag_overlay
    from milpath.inference.predict_bags import predict_bags
    from milpath.inference.predict_slides import predict_slides
    from milpath.models import AttentionMIL, load_card, load_network, save_network
    from milpath.runs.array_report import write_report
    from milpath.slides.cut_slide import cut_slide
    from milpath.slides.slide_view import read_thumbnail
    from milpath.slides.tiling_options import TileOptions
    from milpath.training.classifier import MILClassifier

    __version__: str

__all__ = [
    "AttentionMIL",
    "BagDataModule",
    "BagStore",
    "BagStoreWriter",
    "MILClassifier",
    "TileOptions",
    "__version__",
    "cut_slide",
    "draw_bag_overlay",
    "draw_montage",
    "draw_overlay",
    "load_card",
    "load_network",
    "predict_bags",
    "predict_slides",
    "read_thumbnail",
    "save_network",
    "write_report",
]

_MODULES = {
    "AttentionMIL": "milpath.models",
    "BagDataModule": "milpath.data.datamodule",
    "BagStore": "milpath.data.store.bag_store",
    "BagStoreWriter": "milpath.data.store.bag_store_writer",
    "MILClassifier": "milpath.training.classifier",
    "TileOptions": "milpath.slides.tiling_options",
    "cut_slide": "milpath.slides.cut_slide",
    "draw_bag_overlay": "milpath.inference.pictures.overlays",
    "draw_montage": "milpath.drawing.montage",
    "draw_overlay": "milpath.drawing.heatmap",
    "load_card": "milpath.models",
    "load_network": "milpath.models",
    "predict_bags": "milpath.inference.predict_bags",
    "predict_slides": "milpath.inference.predict_slides",
    "read_thumbnail": "milpath.slides.slide_view",
    "save_network": "milpath.models",
    "write_report": "milpath.runs.array_report",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("milpath")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
