"""Data module: bags of a source, stored, split and loaded as batches on the device."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lightning.pytorch import LightningDataModule

from milpath.data.loading.augmentation import TileAugmentation
from milpath.data.loading.bag_split import BagSplit
from milpath.data.loading.batch_plan import EvaluationPlan, TrainingPlan, require_at_least
from milpath.data.loading.batch_preparation import FeatureStatistics, Preparation, fit_statistics
from milpath.data.loading.device_cache import DeviceCache
from milpath.data.loading.loader import BagLoader
from milpath.data.opened_bags import open_bags
from milpath.data.sources.bag_source import BagSource
from milpath.data.splits.bag_lists import listed
from milpath.data.splits.bag_table import SplitOptions, label_and_split
from milpath.data.splits.chosen_target import fitted_target, numeric_target, require_learnable
from milpath.data.splits.label_check import named_numbers
from milpath.data.splits.labelled_bags import LabelledBags
from milpath.data.splits.patient_bags import PatientOptions
from milpath.data.store.bag_store import BagStore
from milpath.data.store.encoded_store import FrozenEncoder, open_or_encode
from milpath.records.data_warning import joined, warning_of_source
from milpath.targets import Target, ensure_registered


class BagDataModule(LabelledBags, LightningDataModule):
    """Bags of one source, split and loaded.

    Args:
        source: Source of the bags.
        target: What is predicted: "label", "malignant" or "isup" (see `milpath.targets.columns.label_columns`).
        label_column: Column of the labels; `None` means `label`, or `isup_grade` for "malignant" and "isup"; a source may
            declare another column of classes in its attribute `label_column`. For other data of a trained network also the
            column for each that its target names, such as `{"time": "os_months", "event": "dead"}`.
        task: "binary", "nominal", "ordinal", "regression" or a `Target` with its options; `None` means binary for two
            classes and nominal for more. A `Target` whose name nobody has is registered, so that its checkpoints can be
            loaded in this process.
        class_names: Names of the classes in the order of their labels; `None` uses the target's own, and the sorted words
            of a column of words.
        on_missing_label: What to do about bags without a label: "error", or "skip", which leaves them out with a warning.
        fold: The fold that is the test split.
        num_folds: Number of folds; 1 makes every bag a test bag.
        val_fraction: Validation split: `None` uses fold + 1, a number in (0, 1) that share of the bags outside the test
            split, 0 none.
        split_seed: Seed of the split; independent of the seed of training.
        splits: File with an existing split (see `read_split_file`); `None` makes one. A source with its own split keeps it.
        split_column: Column of the labels with an existing split (train, val, test); `None` uses the one that the source
            declares in its attribute `split_column`, and no other column, whatever its name.
        group_column: Column of groups that must not be in two splits, such as the patient.
        groups: CSV `image_id,group` for the same purpose.
        patients: Table with one row per patient, whose columns every slide of the patient gets; `None` for none.
        slides: Table with one row per slide: the slide, its patient, and other columns; `None` for none.
        bag_column: Column that names the bags, such as the patient: a bag is all tiles of all its slides. `None` makes
            each slide a bag; with `patients` or `slides` their patient is then the group.
        patient_column: Column of the patient in `patients` and `slides`.
        slide_column: Column of the slide in `slides`; `None` takes `slide_id` or one of its other names.
        on_patient_mismatch: What to do about patients without slides, slides without a patient, and slides that are not in
            the data: "error" or "skip"; `None` as `on_mismatch` of the source.
        aggregate: "mean" or "max": results by patient from the predictions of its slides (see `aggregated_answers`), if
            slides are bags; their patient is then the group, unless another is given. `None` gives results by bag.
        stratify_by: Columns that are balanced across the splits together with the label.
        exclude: CSV files with bags to exclude.
        max_bags: Maximum number of bags, drawn with `split_seed`; `None` uses all.
        max_bags_per_class: Maximum number of bags per class; `None` uses all.
        batch_size: Bags per training step on each process.
        max_tiles: Tiles of a bag while training, drawn anew in each epoch with `seed`; `None` and evaluation use all.
        eval_batch_size: Bags per evaluation step; `None` means twice `batch_size`.
        num_workers: Threads that gather batches in advance; 0 gathers on demand.
        sampler: "shuffle" or "balanced" (see `TrainingPlan`).
        augmentation: "none", "flips", "turns", "full" or "affine" (see `TileAugmentation`); only for training batches.
        stain_jitter: Strength of the stain jitter of "full".
        augmented_copies: Augmented features of each tile that are kept beside its own if the encoder is frozen; a training
            batch takes one of them at random for each bag. 0 keeps none, and augmented tiles are encoded in every epoch.
        seed: Seed of the order of training bags and of the augmentation.
        stores_dir: Folder in which bag stores are built and kept.
        verify: Verify the hash of a store's array, once per change of the file; False trusts the disk. Sizes, counts
            and tables are always verified.
        standardize: Scale features to mean 0 and standard deviation 1 on the training split.
        device_cache: Whether to keep all tiles on the device: "auto", "never" or "always" (see `DeviceCache`).

    Example:
        >>> import tempfile
        >>> from milpath.data import SyntheticBags
        >>> source = SyntheticBags(num_slides=12, num_tiles=4, tile_size=32)
        >>> datamodule = BagDataModule(source, target="malignant", num_folds=3, stores_dir=tempfile.mkdtemp())
        >>> datamodule.setup()
        >>> next(iter(datamodule.val_dataloader())).to("cpu").tiles.shape
        torch.Size([4, 4, 3, 32, 32])
    """

    def __init__(
        self,
        source: BagSource,
        *,
        target: str = "label",
        label_column: str | Mapping[str, str] | None = None,
        task: str | Target | None = None,
        class_names: Sequence[str] | None = None,
        on_missing_label: str = "error",
        fold: int = 0,
        num_folds: int = 5,
        val_fraction: float | None = None,
        split_seed: int = 0,
        splits: str | None = None,
        split_column: str | None = None,
        group_column: str | None = None,
        groups: str | None = None,
        patients: str | None = None,
        slides: str | None = None,
        bag_column: str | None = None,
        patient_column: str = "patient_id",
        slide_column: str | None = None,
        on_patient_mismatch: str | None = None,
        aggregate: str | None = None,
        stratify_by: Sequence[str] = (),
        exclude: Sequence[str] = (),
        max_bags: int | None = None,
        max_bags_per_class: int | None = None,
        batch_size: int = 8,
        max_tiles: int | None = None,
        eval_batch_size: int | None = None,
        num_workers: int = 1,
        sampler: str = "shuffle",
        augmentation: str = "none",
        stain_jitter: float = 0.1,
        augmented_copies: int = 0,
        seed: int = 0,
        stores_dir: str = "stores",
        verify: bool = True,
        standardize: bool = False,
        device_cache: str = "auto",
    ) -> None:
        super().__init__()
        require_at_least(
            batch_size=(batch_size, 1), eval_batch_size=(eval_batch_size, 1), num_workers=(num_workers, 0),
            max_tiles=(max_tiles, 1), augmented_copies=(augmented_copies, 0),
        )  # fmt: skip
        self.source = source
        self.target = target
        self.batch_size, self.max_tiles = batch_size, max_tiles
        self.eval_batch_size = eval_batch_size or 2 * batch_size
        self.num_workers = num_workers
        self.sampler = sampler
        self.augmentation = TileAugmentation(augmentation, stain_jitter)
        if augmented_copies and augmentation == "none":
            raise ValueError(
                f"data.augmented_copies={augmented_copies} needs an augmentation; set data.augmentation=full, turns or flips"
            )
        self.augmented_copies = augmented_copies
        self.seed = seed
        self.patient_column, self.aggregate = patient_column, aggregate
        if aggregate and bag_column:
            raise ValueError(
                f"data.aggregate={aggregate} is for slides as bags; set data.aggregate=null or data.bag_column=null"
            )
        self.stores_dir = stores_dir
        self.verify = verify
        self.standardize = standardize
        self.device_cache = device_cache
        self.statistics: FeatureStatistics | None = None
        if isinstance(task, Target):
            ensure_registered(task)
        self._task = task
        self._class_names = class_names
        # Of a trained network, set before `setup`: its classes, and its target with fitted values, which other data keep.
        self.trained_names: Sequence[str] | None = None
        self.trained_target: Target | None = None
        self._patient_options = PatientOptions(
            patients, slides, bag_column, patient_column, slide_column,
            on_patient_mismatch or str(getattr(source, "on_mismatch", "error")),
        )  # fmt: skip
        self._split_options = SplitOptions(
            fold, num_folds, val_fraction, split_seed, splits,
            group_column if groups else group_column or self._patient_options.group_column
            or (patient_column if aggregate else None), groups,
            listed(stratify_by), listed(exclude), max_bags, max_bags_per_class,
            split_column or getattr(source, "split_column", None), label_column, on_missing_label,
        )  # fmt: skip
        # What a check found to be on two sides of the split; a report says it. Empty for nothing, or without a check.
        self.leak = ""
        # Excluded bags that are not in the store; None if they are in it.
        self.left_out: set[str] | None = None
        self._store: BagStore | None = None
        self._copies: list[BagStore] = []

    def setup(self, stage: str | None = None) -> None:
        """Build the store if necessary, and split; a second call does nothing."""
        if self._store is not None:
            return
        numbers = numeric_target(self._task, self.trained_target)
        if numbers is None and self._split_options.label_column is None:
            declared = getattr(self.source, "label_column", None)
            self._split_options = replace(self._split_options, label_column=declared)
        labels: dict[str, Any] = {"class_names": self._class_names, "trained_names": self.trained_names}
        labels |= {"target": self.target, "numbers": numbers}
        store, self.left_out = open_bags(
            self.source, self.stores_dir, self._split_options, self._patient_options, labels, verify=self.verify
        )
        numbers = named_numbers(
            store.bags, self.target, self._split_options, self.left_out, numbers, self.trained_target
        )
        self.label_frame, self.class_names = label_and_split(
            store.bags, self.target, self._class_names, self._split_options, self.left_out, self.trained_names, numbers
        )
        self.fitted_target, self.class_names = fitted_target(
            self._task, numbers, self.trained_target, self.class_names, self.label_frame,
            are_sorted=self.target == "label" and not (self._class_names or self.trained_names),
        )  # fmt: skip
        self.task = self.fitted_target.name
        if len(store.tile_shape) == 1 and self.augmentation.kind != "none":
            raise ValueError(f"data.augmentation={self.augmentation.kind} is for images; these are features")
        self._cache = DeviceCache(store, self.device_cache)
        if self.standardize and self.statistics is None:
            training = self.label_frame.loc[self.label_frame["split"] == "train", "index"].to_numpy()
            self.statistics = fit_statistics(store, training)
        self._store = self.tile_store = store

    def encode_with(self, encoder: FrozenEncoder) -> None:
        """Load the features of a frozen encoder instead of tiles from now on; they are computed once and kept on disk.

        Args:
            encoder: A frozen encoder; the trained network takes its features instead of tiles.

        Raises:
            ValueError: If tiles are augmented without `augmented_copies`: each epoch would need different features.
        """
        if self.augmentation.kind != "none" and not self.augmented_copies:
            raise ValueError(
                f"data.augmentation={self.augmentation.kind} changes tiles before they are encoded; set it to none, or "
                "data.augmented_copies to how many augmented features of each tile are kept"
            )
        slides = self.store.slide_store
        changes = [None, *((self.augmentation, copy) for copy in range(self.augmented_copies))]
        stores = [
            open_or_encode(slides, encoder, self.stores_dir, verify=self.verify, augmented=each) for each in changes
        ]
        self._store, *self._copies = [self.store.of_slides(features) for features in stores]
        self._cache = DeviceCache(self._store, self.device_cache)

    @property
    def warning(self) -> str:
        """What the data say against themselves, such as that they are drawn; empty for tissue."""
        return joined([warning_of_source(self.source), self.tile_store.warning])

    def dataloader(self, split: str, *, augment: bool = False) -> BagLoader:
        """Return a loader that yields every bag of a split once, in a fixed order; an empty split is an error.

        Args:
            split: "train", "val" or "test".
            augment: Augment the tiles, to inspect what training sees.
        """
        bags = BagSplit.of(self.store, self.label_frame, split)
        return self._loader(bags, EvaluationPlan(bags.lengths, self.eval_batch_size), augment)

    def train_dataloader(self) -> BagLoader:
        """Return the training loader: reshuffled each epoch, augmented; a single class is an error."""
        bags = BagSplit.of(self.store, self.label_frame, "train", self._copies)
        require_learnable(self.fitted_target, self.label_frame, self.class_names, self.sampler)
        plan = TrainingPlan(bags.labels, bags.lengths, self.batch_size, self.seed, self.sampler, self.max_tiles)
        return self._loader(bags, plan, True)

    def val_dataloader(self) -> BagLoader | list[BagLoader]:
        """Return the loader of the validation split, or an empty list if it has no bags."""
        return self.dataloader("val") if "val" in self.splits else []

    def test_dataloader(self) -> BagLoader | list[BagLoader]:
        """Return the loader of the test split, or an empty list if it has no bags."""
        return self.dataloader("test") if "test" in self.splits else []

    def predict_dataloader(self) -> BagLoader:
        """Return the loader of `Trainer.predict`, which yields every bag of all splits once."""
        bags = BagSplit.of(self.store, self.label_frame, None)
        return self._loader(bags, EvaluationPlan(bags.lengths, self.eval_batch_size), False)

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics of the features, which belong to the trained network."""
        return {} if self.statistics is None else {"statistics": self.statistics.to_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Use the statistics from a checkpoint instead of fitting them again."""
        self.statistics = FeatureStatistics.from_dict(state_dict["statistics"]) if state_dict else None

    def _loader(self, bags: BagSplit, plan: TrainingPlan | EvaluationPlan, augment: bool) -> BagLoader:
        """Return the loader of a plan."""
        preparation = Preparation(self.augmentation if augment else None, self.statistics)
        cache = DeviceCache(bags.store, "never") if bags.copies else self._cache
        return BagLoader(bags, plan, preparation, cache, self.num_workers)
