"""Other ways of training the same network on the same features: a plain loop, CLAM's, and torchmil's Trainer."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milpath.data.store.bag_store import BagStore
from milpath.records.kept_memory import kept_memory

ATTENTION_WIDTH = 128


class PlainABMIL(nn.Module):
    """Attention-based MIL as it is usually written: padded bags in, logits out."""

    def __init__(self, num_features: int, width: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(num_features, width), nn.ReLU())
        self.attention = nn.Sequential(nn.Linear(width, ATTENTION_WIDTH), nn.Tanh(), nn.Linear(ATTENTION_WIDTH, 1))
        self.classifier = nn.Linear(width, 1)

    def forward(self, tiles: Tensor, mask: Tensor | None = None) -> Tensor:
        hidden = self.encoder(tiles)
        scores = self.attention(hidden).squeeze(-1)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return self.classifier(torch.bmm(scores.softmax(1)[:, None], hidden)[:, 0])


def plain_epochs(
    store: BagStore, width: int, batch_size: int, epochs: int, device: str, fused: bool = False
) -> Callable[[], None]:
    """Return a loop that reads the store of this library by its memory map and pads batches in random order.

    With `fused` it has what a run of this library has on a CPU: memory kept for the next step, and the fused Adam.
    """
    network, step = _training(store, width, device, fused)
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(store.bags["label"].to_numpy()).float()

    def run() -> None:
        network.train()
        for _ in range(epochs):
            for chosen in torch.from_numpy(rng.permutation(len(store))).split(batch_size):
                bags = [torch.from_numpy(np.array(store.tiles[store.tile_slice(int(i))])).float() for i in chosen]
                mask = torch.arange(max(map(len, bags)))[None] < torch.tensor([len(bag) for bag in bags])[:, None]
                tiles = nn.utils.rnn.pad_sequence(bags, batch_first=True)
                step(tiles, None if bool(mask.all()) else mask, labels[chosen])

    return kept_memory()(run) if fused else run


def clam_loader(store: BagStore, folder: Path) -> torch.utils.data.DataLoader:
    """Return a loader of single bags, each read in float32 from an HDF5 file of its own in every epoch."""
    folder.mkdir()
    for number in range(len(store)):
        with h5py.File(folder / f"{number}.h5", "w") as file:
            file["features"] = store.read(number).astype(np.float32)
    labels = store.bags["label"].tolist()

    class Slides(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, number: int) -> tuple[Tensor, float]:
            with h5py.File(folder / f"{number}.h5", "r") as file:
                return torch.from_numpy(file["features"][:]), float(labels[number])

    return torch.utils.data.DataLoader(Slides(), batch_size=1, shuffle=True)


def clam_epochs(
    store: BagStore, width: int, loader: torch.utils.data.DataLoader, epochs: int, device: str
) -> Callable[[], None]:
    """Return a loop over the bags of `clam_loader`."""
    network, step = _training(store, width, device)

    def run() -> None:
        network.train()
        for _ in range(epochs):
            for tiles, label in loader:
                step(tiles, None, label.float())

    return run


def torchmil_epochs(store: BagStore, width: int, batch_size: int, epochs: int, device: str) -> Callable[[], None]:
    """Return torchmil's training of its ABMIL, without validation; its bags are in memory in float32."""
    from torchmil.data import collate_fn
    from torchmil.models import ABMIL
    from torchmil.utils import Trainer

    labels = store.bags["label"].tolist()
    bags = [
        {"X": torch.from_numpy(store.read(number)).float(), "Y": torch.tensor(labels[number])}
        for number in range(len(store))
    ]
    loader = torch.utils.data.DataLoader(bags, batch_size, shuffle=True, collate_fn=collate_fn)
    num_features = store.tile_shape[0]
    layers = nn.Sequential(nn.Linear(num_features, width), nn.ReLU())
    network = ABMIL(in_shape=(num_features,), feat_ext=layers)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    trainer = Trainer(network, optimizer, device=device, disable_pbar=True, verbose=False)
    return lambda: trainer.train(epochs, loader)


def _training(
    store: BagStore, width: int, device: str, fused: bool | None = None
) -> tuple[nn.Module, Callable[[Tensor, Tensor | None, Tensor], float]]:
    """Return a network and its step on host tensors, by default with torch's optimizer as it is by default."""
    network = PlainABMIL(store.tile_shape[0], width).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=fused or None)

    def step(tiles: Tensor, mask: Tensor | None, labels: Tensor) -> float:
        logits = network(tiles.to(device), None if mask is None else mask.to(device))[:, 0]
        loss = F.binary_cross_entropy_with_logits(logits, labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return network, step
