"""The network and training loop of the paper as published: the baseline of all speed measurements."""

import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn


class ArticleNetwork(nn.Module):
    """The published network as published: ReLU before pooling, probabilities out."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 36, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(36, 48, 3), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.embed = nn.Sequential(
            nn.Linear(43200, 512), nn.ReLU(), nn.Dropout(), nn.Linear(512, 512), nn.ReLU(), nn.Dropout()
        )
        self.attention = nn.Sequential(nn.Linear(512, 128), nn.Tanh(), nn.Linear(128, 1))
        self.classifier = nn.Sequential(nn.Linear(512, 1), nn.Sigmoid())

    def forward(self, bag: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(self.features(bag).flatten(1))
        weights = F.softmax(self.attention(hidden).transpose(0, 1), dim=1)
        return self.classifier(weights @ hidden)


def article_epoch(encoded: list[list[bytes]], labels: np.ndarray, device: str, passes: int):
    network = ArticleNetwork().to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=5e-4)

    def epoch() -> None:
        for tiles, label in zip(encoded, labels, strict=True):
            bag = decode(tiles).to(device)
            optimizer.zero_grad()
            for number in range(passes):
                probability = network(bag).clamp(1e-5, 1 - 1e-5)
                if number == 0:
                    target = float(label)
                    loss = -(target * probability.log() + (1 - target) * (1 - probability).log()).sum()
            loss.backward()
            optimizer.step()
            loss.item()

    return epoch


def decode(tiles: list[bytes]) -> torch.Tensor:
    images = [1 - np.asarray(Image.open(io.BytesIO(tile)), np.float32) / 255 for tile in tiles]
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())


def encode(tile: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "PNG")
    return buffer.getvalue()
