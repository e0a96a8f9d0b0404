"""The paths of a step that only a GPU makes fast, and that any machine can make wrong."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from milpath.config.roots import CONFIG_DIR
from milpath.data.loading.bag import Bag, BagBatch, collate_bags
from milpath.models import DSMIL, AttentionEnsembleMIL, AttentionMIL
from milpath.training import MILClassifier
from milpath.training.auxiliary_losses import max_instance_loss

FEATURES = {"name": "linear", "num_features": 6, "hidden_dims": [8]}


def batch_of(*lengths: int) -> BagBatch:
    rng = np.random.default_rng(0)
    return collate_bags(
        [Bag(rng.random((length, 6), np.float32), row % 2, f"bag_{row}") for row, length in enumerate(lengths)]
    )


def classifier_of(network: torch.nn.Module, **options) -> MILClassifier:
    return MILClassifier(network, class_names=("benign", "malignant"), task="binary", **options)


def losses_of(network: torch.nn.Module, batch: BagBatch, **options) -> torch.Tensor:
    return classifier_of(network, **options)._bag_losses(batch)


def test_a_batch_without_padding_has_the_losses_and_gradients_that_it_has_with_a_mask():
    torch.manual_seed(0)
    network, batch = AttentionMIL(encoder=FEATURES), batch_of(5, 5, 5)
    results = []
    for padded in (True, False):
        network.zero_grad()
        losses = losses_of(network, batch._replace(padded=padded))
        losses.sum().backward()
        results.append([losses, *(parameter.grad.clone() for parameter in network.parameters())])
    torch.testing.assert_close(results[1], results[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("lengths", [(4, 4), (4, 2)], ids=["whole", "padded"])
@pytest.mark.parametrize("auxiliary", [False, True])
def test_the_network_gets_a_mask_only_where_there_is_padding(lengths, auxiliary, monkeypatch):
    network, batch, seen = DSMIL(encoder=FEATURES), batch_of(*lengths), []
    encode = network.encode
    monkeypatch.setattr(network, "encode", lambda tiles, mask=None: seen.append(mask) or encode(tiles, mask))
    losses_of(network, batch, auxiliary_loss=max_instance_loss if auxiliary else None)
    assert [mask is None for mask in seen] == [lengths[0] == lengths[1]]


@pytest.mark.parametrize("task", ["binary", "nominal"])
def test_the_loss_of_an_ensemble_is_the_mean_of_the_losses_of_its_members(task):
    torch.manual_seed(0)
    outputs = 1 if task == "binary" else 2
    network, batch = AttentionEnsembleMIL(encoder=FEATURES, num_members=3, num_outputs=outputs).eval(), batch_of(5, 2)
    classifier = MILClassifier(network, class_names=("a", "b"), task=task, class_weights=[1.0, 3.0])
    output = network(batch.tiles, batch.mask)
    of_members = torch.stack([classifier.target.losses(part, batch.labels) for part in output.member_logits.unbind(1)])
    expected = torch.tensor([1.0, 3.0]) * of_members.mean(0)
    torch.testing.assert_close(classifier._bag_losses(batch), expected)
    # It is not the loss of the mean.
    assert (expected > torch.tensor([1.0, 3.0]) * classifier.target.losses(output.logits, batch.labels)).all()


@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0")
def test_a_step_without_padding_compiles_into_one_graph():
    """A question to the mask would break the graph, and on a GPU make it wait."""
    network = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 16, "embedding_dim": 8}).eval()
    tiles = torch.rand(2, 3, 3, 16, 16)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(tiles), network(tiles), atol=1e-6, rtol=0)


def test_without_an_optimizer_it_trains_with_the_one_that_the_command_line_has():
    optimizer = classifier_of(AttentionMIL(encoder=FEATURES)).configure_optimizers()
    configured = OmegaConf.load(CONFIG_DIR / "optimizer/adam.yaml")
    assert f"torch.optim.{type(optimizer).__name__}" == configured["_target_"]
    for name in ("lr", "betas", "weight_decay"):
        assert optimizer.defaults[name] == pytest.approx(configured[name])


@pytest.mark.gpu
def test_a_step_without_padding_never_waits_for_the_gpu():
    network = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 16, "embedding_dim": 8}).cuda()
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    tiles, labels = torch.rand(2, 3, 3, 16, 16, device="cuda"), torch.tensor([0.0, 1.0], device="cuda")
    mode = torch.cuda.get_sync_debug_mode()
    for sync_mode in ("default", "error"):  # the first step sets the libraries up
        torch.cuda.set_sync_debug_mode(sync_mode)
        try:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cuda", torch.bfloat16):
                logits = network(tiles).logits[:, 0]
            torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), labels).backward()
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


def test_weights_converted_within_an_epoch_get_tiles_of_their_type():
    classifier, batch = classifier_of(AttentionMIL(encoder=FEATURES)), batch_of(5, 2)
    classifier.on_train_epoch_start()
    classifier.double()
    assert classifier(batch.tiles, batch.mask).logits.dtype == torch.float64
