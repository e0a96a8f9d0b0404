"""MNIST-bags: a bag of digits is positive if one of them is a nine."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from milpath.data.sources.mnist_digits import Digits, read_digits
from milpath.data.store.bag_store_writer import BagStoreWriter


class MnistBags:
    """Bags of handwritten digits with the generator of the paper.

    A bag's length is drawn from a normal distribution, cut to a whole number, 1 at least. Positive and negative bags take
    turns, a positive one first: it holds digits drawn with replacement, at least one of them the target; a negative one
    holds digits other than the target. Training and validation bags are made of MNIST's training digits, test bags of its
    test digits, and the store says which is which. The label of each digit is kept: 1 for the target.

    Args:
        path: File or folder of MNIST (see `read_digits`); a folder without it is where it is downloaded.
        target_digit: The digit that makes a bag positive.
        mean_bag_length: Mean of the length.
        bag_length_std: Standard deviation of the length (the reference code calls it the variance).
        num_train_bags: Number of training bags.
        num_val_bags: Number of validation bags, drawn beside the training bags.
        num_test_bags: Number of test bags.
        bag_seed: Seed of all draws. The test bags are the same whatever the number of training bags.

    References:
        Ilse, Tomczak, Welling. Attention-based deep multiple instance learning. ICML 2018, section 4.2.
    """

    def __init__(
        self,
        path: str | Path,
        target_digit: int = 9,
        mean_bag_length: float = 10,
        bag_length_std: float = 2,
        num_train_bags: int = 200,
        num_val_bags: int = 0,
        num_test_bags: int = 1000,
        bag_seed: int = 0,
    ) -> None:
        if not 0 <= target_digit <= 9:
            raise ValueError(f"data.target_digit is {target_digit}; it must be 0 to 9")
        self.path = Path(path)
        self.target_digit = target_digit
        self.mean_bag_length = mean_bag_length
        self.bag_length_std = bag_length_std
        self.num_train_bags = num_train_bags
        self.num_val_bags = num_val_bags
        self.num_test_bags = num_test_bags
        self.bag_seed = bag_seed

    @cached_property
    def _digits(self) -> Digits:
        return read_digits(self.path)

    def describe(self) -> dict[str, Any]:
        """Return the parameters and a hash of the digits.

        Raises:
            FileNotFoundError: If MNIST is not there and cannot be downloaded.
        """
        parameters = {name: value for name, value in vars(self).items() if name not in ("path", "_digits")}
        return parameters | {"digits": self._digits.fingerprint()}

    def write(self, writer: BagStoreWriter) -> None:
        """Draw all bags into a store."""
        digits = self._digits
        writer.expected_bags = self.num_train_bags + self.num_val_bags + self.num_test_bags
        for number, (split, images, labels, num_bags) in enumerate(
            (
                ("train", digits.train_images, digits.train_labels, self.num_train_bags),
                ("val", digits.train_images, digits.train_labels, self.num_val_bags),
                ("test", digits.test_images, digits.test_labels, self.num_test_bags),
            )
        ):
            rng = np.random.default_rng([self.bag_seed, number])
            for bag in range(num_bags):
                positive = bag % 2 == 0
                chosen = self._draw(labels, positive, rng)
                tile_labels = (labels[chosen] == self.target_digit).astype(np.int64)
                writer.add(
                    f"{split}_{bag:05d}",
                    images[chosen][..., None],
                    {"label": int(positive), "split": split},
                    {"tile_label": tile_labels, "digit": labels[chosen].astype(np.int64)},
                )

    def _draw(self, labels: np.ndarray, positive: bool, rng: np.random.Generator) -> np.ndarray:
        """Return the digits of a bag."""
        if not positive:
            others = np.flatnonzero(labels != self.target_digit)
            return rng.choice(others, self._length(rng))
        while True:
            chosen = rng.integers(0, len(labels), self._length(rng))
            if (labels[chosen] == self.target_digit).any():
                return chosen

    def _length(self, rng: np.random.Generator) -> int:
        """Return the length of a bag."""
        return max(1, int(rng.normal(self.mean_bag_length, self.bag_length_std)))
