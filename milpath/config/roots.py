"""Folder of the configuration and the root schema of each command."""

from dataclasses import dataclass, field, fields, make_dataclass
from importlib.util import find_spec
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from milpath.config.slide_roots import EncodersConfig, ExtractConfig, TileConfig
from milpath.records import CONFIG_DIR as CONFIG_DIR


@dataclass
class Decision:
    """How the operating point is chosen on the validation split; the test split is never used."""

    sensitivity: float | None = None
    calibrate: bool = False
    defer_fraction: float = 0.1
    coverage: float | None = None
    coverage_by_class: bool = False
    familiarity: bool = True
    refer_unfamiliar: float | None = 0.01


@dataclass
class TrainConfig:
    """Root keys of `python -m milpath.train`; a misspelled root key is an error before any work is done."""

    data: Any = MISSING
    model: Any = MISSING
    optimizer: Any = MISSING
    scheduler: Any = None
    auxiliary_loss: Any = None
    target: Any = None
    metrics: Any = field(default_factory=dict)
    trainer: Any = MISSING
    callbacks: Any = None
    logger: Any = None
    profiler: Any = None
    paths: Any = MISSING
    sagemaker: Any = None
    run_name: str = MISSING
    seed: int = 0
    resume_from: str | None = None
    class_weights: str = "none"
    monitor: str = "val/auroc"
    monitor_mode: str = "max"
    compile: bool = False
    test: bool = True
    report: bool = True
    report_pdf: bool = False
    slides_dir: str | None = None
    decision: Decision = field(default_factory=Decision)


@dataclass
class EvaluateConfig:
    """Root keys of `python -m milpath.evaluate`."""

    checkpoint: Any = MISSING
    method: str | None = None
    data: Any = None
    slides: str | None = None
    labels: str | None = None
    id_column: str | None = None
    label_column: Any = None
    resolutions: str | None = None
    mixed_resolution: str = "error"
    slides_dir: str | None = None
    encoder_weights_path: str | None = None
    num_workers: int | None = None
    on_error: str = "fail"
    splits: list[str] = field(default_factory=lambda: ["val", "test"])
    aggregate: str | None = None
    parts: list[str] = field(default_factory=list)
    metrics: Any = field(default_factory=dict)
    trainer: Any = MISSING
    paths: Any = MISSING
    run_name: str = MISSING
    seed: int = 0
    faithfulness: bool = False
    report: bool = True
    report_pdf: bool = False
    overwrite: bool = False


@dataclass
class FaithfulnessConfig:
    """Root keys of `python -m milpath.faithfulness`."""

    checkpoint: Any = MISSING
    method: str | None = None
    data: Any = None
    output: str = "faithfulness"
    splits: list[str] = field(default_factory=lambda: ["test"])
    explain: str | None = None
    share: float = 0.1
    num_random: int = 10
    max_passes: int = 1000
    max_bags: int | None = None
    augmentation: str | None = None
    num_augmented: int = 3
    num_resamples: int = 1000
    seed: int = 0
    device: str = "auto"
    encoder_weights_path: str | None = None
    parts: list[str] = field(default_factory=list)
    paths: Any = MISSING
    report_pdf: bool = False
    overwrite: bool = False


@dataclass
class PredictConfig:
    """Root keys of `python -m milpath.predict`."""

    checkpoint: Any = MISSING
    method: str | None = None
    slides: str = MISSING
    output: str = MISSING
    batch_size: int | None = None
    device: str = "auto"
    pictures: bool = True
    alpha: float = 0.6
    colour_map: str = "viridis"
    dense: float | None = None
    formats: list[str] | None = None
    viewer_pixels: int = 100_000_000
    slides_table: str | None = None
    patient_column: str | None = None
    slide_column: str | None = None
    aggregate: str | None = None
    labels: str | None = None
    id_column: str | None = None
    resolutions: str | None = None
    mixed_resolution: str = "error"
    masks: str | None = None
    encoder_weights_path: str | None = None
    slides_dir: str | None = None
    paths: Any = field(default_factory=lambda: {"weights_dir": None})
    num_workers: int | None = None
    verify: bool = True
    parts: list[str] = field(default_factory=list)
    on_error: str = "fail"
    overwrite: bool = False


@dataclass
class AppConfig:
    """Root keys of `python -m milpath.app`."""

    checkpoint: Any = MISSING
    method: str | None = None
    parts: list[str] = field(default_factory=list)
    encoder_weights_path: str | None = None
    paths: Any = field(default_factory=lambda: {"weights_dir": None})
    host: str = "127.0.0.1"
    port: int = 7860
    device: str = "auto"
    max_upload_mb: int = 2048
    max_tiles: int = 4096
    max_seconds: float = 600.0
    max_waiting: int = 8
    forget_after_minutes: float = 30.0
    temporary_dir: str | None = None


# A schema that is merged over `train` must have no defaults that would win over those of train.yaml.
TrainOverrides = make_dataclass(
    "TrainOverrides",
    [(item.name, item.type, field(default=MISSING)) for item in fields(TrainConfig)],
    bases=(TrainConfig,),
)


@dataclass
class TableConfig(TrainOverrides):  # type: ignore[misc,valid-type]
    """Root keys of `python -m milpath.table`: those of training, and which trainings to run."""

    output: str = MISSING
    methods: list[str] = field(default_factory=list)
    method_options: Any = None
    folds: int = 10
    repeats: int = 5
    metric: str | None = None
    published: Any = None
    search: Any = None
    jobs: int = 1
    on_error: str = "fail"


@dataclass
class CompareConfig:
    """Root keys of `python -m milpath.compare`."""

    runs: Any = MISSING
    output: str = "comparison"
    names: list[str] | None = None
    split: str = "test"
    different_bags: str = "error"
    task: str | None = None
    num_resamples: int = 1000
    seed: int = 0
    report_pdf: bool = False
    overwrite: bool = False


@dataclass
class CheckDataConfig:
    """Root keys of `python -m milpath.check_data`."""

    data: Any = None
    target: Any = None
    metrics: Any = field(default_factory=dict)
    paths: Any = MISSING
    output: str = "data_check"
    slides: str | None = None
    labels: str | None = None
    id_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    split_column: str | None = None
    splits_path: str | None = None
    columns: list[str] = field(default_factory=list)
    checkpoint: str | None = None
    parts: list[str] = field(default_factory=list)
    max_distance: int | None = None
    run_name: str = MISSING
    num_permutations: int = 999
    num_resamples: int = 1000
    seed: int = 0


_store = ConfigStore.instance()
_store.store(name="train_schema", node=TrainConfig)
_store.store(name="evaluate_schema", node=EvaluateConfig)
_store.store(name="faithfulness_schema", node=FaithfulnessConfig)
_store.store(name="predict_schema", node=PredictConfig)
_store.store(name="app_schema", node=AppConfig)
_store.store(name="extract_schema", node=ExtractConfig)
_store.store(name="tile_schema", node=TileConfig)
_store.store(name="encoders_schema", node=EncodersConfig)
_store.store(name="table_schema", node=TableConfig)
_store.store(name="compare_schema", node=CompareConfig)
_store.store(name="check_data_schema", node=CheckDataConfig)

# Without the extra `sweep` this option does not exist and Hydra would not say what to install; the search does.
if find_spec("hydra_plugins") is None or find_spec("hydra_plugins.hydra_optuna_sweeper") is None:
    _store.store(group="hydra/sweeper", name="optuna", node={"_target_": "milpath[sweep]"})

# Every encoder is also an option of model/encoder: the same facts, with what training adds. One with a file of its own there
# keeps it.
for _path in sorted((CONFIG_DIR / "encoder").glob("*.yaml")):
    if _path.stem not in ("options", "timm", "onnx") and not (CONFIG_DIR / "model" / "encoder" / _path.name).exists():
        _store.store(
            group="model/encoder",
            name=_path.stem,
            node={
                "defaults": [{"/encoder@_here_": _path.stem}, "_self_"],
                "pretrained": True,
                "frozen": True,
                "activation_checkpointing": False,
                "tile_micro_batch": 64,
                "stain_normalisation": "none",
                "stain_target_path": None,
            },
        )
