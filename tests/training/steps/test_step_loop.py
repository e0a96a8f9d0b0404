"""A training in plain steps is that of Lightning's own loop, and calls in a step only what something implements."""

import os
from collections import Counter
from functools import cache

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loops import training_epoch_loop
from torch.optim import LBFGS, Adam
from torch.optim.lr_scheduler import StepLR
from torch.profiler import ProfilerActivity, profile

from milpath.data.loading.bag_split import BagSplit
from milpath.data.loading.batch_plan import EvaluationPlan, TrainingPlan
from milpath.data.loading.batch_preparation import Preparation
from milpath.data.loading.device_cache import DeviceCache
from milpath.data.loading.loader import BagLoader
from milpath.models import AttentionMIL
from milpath.models.weights_digest import digest_of
from milpath.training import MILClassifier
from milpath.training.callbacks.step_trace import StepTrace
from milpath.training.checkpoint_files import TimedCheckpoint
from milpath.training.csv_log import CSVLog
from milpath.training.steps import step_loop
from milpath.training.steps.step_loop import StepLoop, has_plain_steps, known_to_have_no_gpu
from milpath.training.steps.step_seed import StepSeed

pytestmark = pytest.mark.filterwarnings("ignore")  # what Lightning says of itself and of small data


def loader_of(store, training=True) -> BagLoader:
    split = BagSplit(store, np.arange(len(store)), store.bags["label"].to_numpy())
    plan = TrainingPlan(split.labels, split.lengths, 3) if training else EvaluationPlan(split.lengths, 4)
    return BagLoader(split, plan, Preparation(), DeviceCache(store, "never"))


def classifier_of(**options) -> MILClassifier:
    torch.manual_seed(0)
    network = AttentionMIL({"name": "linear", "num_features": 5, "hidden_dims": [4], "dropout": 0.5})
    return MILClassifier(network, class_names=("benign", "malignant"), task="binary", **options)


def trainer_of(folder, plain=True, callbacks=(), **options) -> Trainer:
    options = {"logger": False, "enable_checkpointing": False, "max_epochs": 1} | options
    trainer = Trainer(
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        use_distributed_sampler=False, default_root_dir=folder, callbacks=[StepSeed(0), *callbacks], **options,
    )  # fmt: skip
    if plain:
        StepLoop.put_into(trainer)
    return trainer


def whole_training(folder, store, plain: bool, monkeypatch) -> tuple[list[dict], str, Counter]:
    """Return the checkpoints of the last epoch and of its second step, the log, and the hooks that were called."""
    called: Counter = Counter()
    hooks_of_lightning = training_epoch_loop.call._call_callback_hooks

    def count(trainer, name, *arguments, **options):
        called[name] += 1
        hooks_of_lightning(trainer, name, *arguments, **options)

    seed_everything(0, verbose=False)
    callbacks = [
        ModelCheckpoint(dirpath=folder, filename="last", save_on_train_epoch_end=True),
        TimedCheckpoint(dirpath=folder, filename="timed", train_time_interval=None, every_n_train_steps=2),
        LearningRateMonitor(logging_interval="epoch"),
    ]
    trainer = trainer_of(
        folder, plain, callbacks, max_epochs=3, gradient_clip_val=0.5, enable_checkpointing=True,
        logger=CSVLog(folder, name="", version="log"), log_every_n_steps=2,
    )  # fmt: skip
    classifier = classifier_of(
        optimizer=lambda parameters: Adam(parameters, lr=0.01, fused=True),
        scheduler=lambda optimizer: StepLR(optimizer, 2),
    )
    with monkeypatch.context() as patch:
        patch.setattr(training_epoch_loop.call, "_call_callback_hooks", count)
        trainer.fit(classifier, loader_of(store), loader_of(store, training=False), weights_only=True)
    return (
        [torch.load(folder / name, weights_only=True) for name in ("last.ckpt", "timed.ckpt")],
        (folder / "log/metrics.csv").read_text(encoding="utf-8"),
        called,
    )


def test_a_training_in_plain_steps_is_that_of_lightnings_own_to_the_last_bit(open_store, tmp_path, monkeypatch):
    store = open_store([4, 2, 3, 1, 4, 2, 3], tile_shape=(5,))
    expected, log, before = whole_training(tmp_path / "lightning", store, False, monkeypatch)
    found, own_log, called = whole_training(tmp_path / "plain", store, True, monkeypatch)
    assert [content["global_step"] for content in found] == [9, 8]
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "loops", "epoch", "global_step"):
        for content, other in zip(found, expected, strict=True):
            assert digest_of({part: content[part]}) == digest_of({part: other[part]}), part
    assert own_log == log
    assert log.count("\n") > 6
    # Lightning calls six hooks of every callback in each of the nine steps.
    of_steps = set(step_loop._STEP_HOOKS)
    assert {name: count for name, count in before.items() if name in of_steps} == dict.fromkeys(of_steps, 9)
    assert not of_steps & set(called)
    assert called["on_train_epoch_end"] == before["on_train_epoch_end"]


class TakesPart(Callback):
    """A callback of a user that sees every step."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        pl_module.log("mine", outputs["loss"])


class OfEpochs(Callback):
    """A callback of a user that sees the ends of epochs, and whether the steps before were plain."""

    def __init__(self):
        self.plain = []

    def on_train_epoch_start(self, trainer, pl_module):
        loop = trainer.fit_loop
        self.plain.append(has_plain_steps(trainer, loop._data_fetcher))


class OwnStep(MILClassifier):
    """A module of a user that changes the gradient."""

    def on_after_backward(self):
        pass


@pytest.mark.parametrize(
    ("expected", "options"),
    [
        (True, {}), (True, {"precision": "bf16-mixed"}), (False, {"accumulate_grad_batches": 2}),
        (False, {"profiler": "simple"}), (False, {"callbacks": [TakesPart()]}),
    ],
    ids=["plain", "bfloat16", "accumulated", "profiled", "callback"],
)  # fmt: skip
def test_steps_are_plain_only_where_nothing_of_lightning_takes_part(open_store, tmp_path, expected, options):
    seen = OfEpochs()
    callbacks = [*options.pop("callbacks", ()), seen]
    trainer = trainer_of(tmp_path, callbacks=callbacks, **options)
    trainer.fit(classifier_of(), loader_of(open_store([2, 3, 2], tile_shape=(5,))), weights_only=True)
    assert seen.plain == [expected]
    assert trainer.global_step == 1
    assert ("mine" in trainer.callback_metrics) is (len(callbacks) == 2)


def test_a_module_that_takes_part_in_steps_and_an_optimizer_that_needs_a_closure_get_lightnings_steps(
    open_store, tmp_path
):
    store = open_store([2, 3, 2], tile_shape=(5,))
    own = OwnStep(classifier_of().network, class_names=("benign", "malignant"), task="binary")
    for module in (own, classifier_of(optimizer=lambda parameters: LBFGS(list(parameters), max_iter=2))):
        seen = OfEpochs()
        trainer_of(tmp_path, callbacks=[seen]).fit(module, loader_of(store), weights_only=True)
        assert seen.plain == [False]


def test_a_version_of_lightning_that_was_not_tested_keeps_its_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(step_loop.lightning, "__version__", "2.99.0")
    assert not isinstance(trainer_of(tmp_path).fit_loop.epoch_loop, StepLoop)


def test_a_loss_that_is_not_finite_stops_a_plain_step_before_the_weights_change(open_store, tmp_path):
    classifier = classifier_of()
    with torch.no_grad():
        classifier.network.classification_layer.bias.fill_(torch.inf)
    before = digest_of(classifier.network.state_dict())
    with pytest.raises(FloatingPointError, match=r"train/loss is (nan|inf) at epoch 0, step 0"):
        trainer_of(tmp_path).fit(classifier, loader_of(open_store([2, 3], tile_shape=(5,))), weights_only=True)
    assert digest_of(classifier.network.state_dict()) == before


@pytest.mark.parametrize("available", [False, True])
def test_without_a_gpu_torch_does_not_look_for_a_library_of_nvidia_in_every_step(monkeypatch, available):
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: asked.append(1) or available)
    monkeypatch.setattr(step_loop, "_has_gpu", cache(step_loop._has_gpu.__wrapped__))
    for _ in range(2):
        with known_to_have_no_gpu():
            assert ("PYTORCH_NVML_BASED_CUDA_CHECK" in os.environ) is available
        assert os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] == "1"
    assert len(asked) == 1


def test_hooks_of_an_optimizer_are_called_in_every_step(open_store, tmp_path):
    called: Counter = Counter()

    def make(parameters):
        made = Adam(parameters)
        made.register_step_pre_hook(lambda *_: called.update(["before"]))
        made.register_step_post_hook(lambda *_: called.update(["after"]))
        return made

    trainer = trainer_of(tmp_path, callbacks=[of_epochs := OfEpochs()], max_epochs=2)
    trainer.fit(classifier_of(optimizer=make), loader_of(open_store([4, 2, 3, 1], tile_shape=(5,))))
    assert of_epochs.plain == [True, True]
    assert called == {"before": 4, "after": 4}


def test_a_profiler_round_the_training_gets_the_record_of_every_step(open_store, tmp_path):
    trainer = trainer_of(tmp_path, callbacks=[of_epochs := OfEpochs()])
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        trainer.fit(classifier_of(), loader_of(open_store([4, 2, 3, 1], tile_shape=(5,))))
    assert of_epochs.plain == [True]
    assert sum(event.count for event in seen.key_averages() if event.key == "Optimizer.step#Adam.step") == 2


def test_a_trace_of_steps_shows_those_of_the_optimizer(open_store, tmp_path):
    trace = StepTrace(tmp_path / "trace", skip=0, steps=2)
    trainer = trainer_of(tmp_path, callbacks=[trace, of_epochs := OfEpochs()])
    trainer.fit(classifier_of(), loader_of(open_store([4, 2, 3, 1], tile_shape=(5,))))
    assert of_epochs.plain == [True]
    assert "Optimizer.step#Adam.step" in (tmp_path / "trace/operators.txt").read_text(encoding="utf-8")
