import json
import tarfile

import pytest

from milpath.sagemaker import rehearse

SMALL = [
    "data=synthetic", "data.num_slides=25", "data.num_tiles=4", "data.tile_size=32", "data.num_folds=3",
    "data.stratify_by=[]", "data.augmentation=none", "data.batch_size=4", "model.encoder.tile_size=32",
    "model.encoder.embedding_dim=16", "trainer.accelerator=cpu", "trainer.max_epochs=1", "logger=csv", "report=false",
    "sagemaker.bucket=slides",
]  # fmt: skip


def test_a_job_is_rehearsed_in_a_folder_like_that_of_its_container(command, tmp_path):
    (tmp_path / "data").mkdir()
    words = [f"rehearse.training={tmp_path / 'data'}", f"rehearse.folder={tmp_path / 'rehearsal'}"]
    status, output, errors = command(rehearse, *SMALL, *words, "sagemaker.spot=true")
    assert (status, errors) == (0, "")
    base = tmp_path / "rehearsal/ml"
    assert "not rehearsed: the start by SageMaker's toolkit" in output
    assert "not rehearsed either: permissions, the image, the instance" in output
    assert (base / "model/network.pt").is_file()
    assert (base / "model/code/inference.py").is_file()
    assert "test" in json.loads((base / "output/data/metrics.json").read_text())
    assert (base / "checkpoints/rehearsal/checkpoints/last.ckpt").is_file()
    assert json.loads((base / "input/config/hyperparameters.json").read_text())["sagemaker_program"] == "train.py"
    with tarfile.open(base / "source.tar.gz") as archive:
        words_of_job = json.loads(archive.extractfile("job.json").read())["overrides"]
    assert not [word for word in words_of_job if word.startswith(("rehearse", "sagemaker"))]


def test_a_mistake_is_one_line(command, tmp_path):
    for words, message in [
        ([], "rehearse.training must be given: the local folder"),
        (["rehearse.training=nowhere"], "rehearse.training=nowhere is not a folder"),
        (
            [f"rehearse.training={tmp_path}", "rehearse.toolkit=nowhere"],
            "nowhere has no bin/train; make the environment",
        ),
        ([f"rehearse.training={tmp_path}", "+optimizer.learning_rate=1"], "is not an argument of torch.optim.Adam"),
    ]:
        status, _, errors = command(rehearse, *SMALL, *words, f"rehearse.folder={tmp_path / 'rehearsal'}")
        assert (status, errors.count("\n")) == (1, 1), errors
        assert message in errors


@pytest.mark.command
def test_the_reason_of_a_failure_is_that_which_sagemaker_shows(command, tmp_path):
    (tmp_path / "data").mkdir()
    words = [f"rehearse.training={tmp_path / 'data'}", f"rehearse.folder={tmp_path / 'rehearsal'}"]
    small = [word for word in SMALL if "num_folds" not in word]
    status, _, errors = command(rehearse, *small, *words, "data.num_folds=30")
    assert status == 1
    (last,) = [line for line in errors.splitlines() if line.startswith("ValueError: the job failed")]
    assert "the job failed as it would on SageMaker: " in last
    assert "fewer than data.num_folds=30" in last
