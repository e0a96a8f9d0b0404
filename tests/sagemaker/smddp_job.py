"""One process of a job on the stand-in for SMDDP: prints what it found as JSON. Started by test_strategy.py."""

import json
import sys

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from milpath.sagemaker.jobs.job_environment import num_devices, num_nodes
from milpath.sagemaker.jobs.strategy import choose_strategy


class Line(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 1)
        self.found = {}

    def training_step(self, batch, batch_idx):
        loss = self.layer(batch[0]).pow(2).mean()
        self.log("train/loss", loss, on_epoch=True, sync_dist=True)
        return loss

    def on_train_end(self):
        if self.trainer.world_size > 1:
            self.try_collectives()

    def try_collectives(self):
        reduce = self.trainer.strategy.reduce
        rank = self.trainer.global_rank
        self.found["float"] = reduce(torch.tensor(float(rank))).item()
        self.found["int"] = reduce(torch.tensor(2 * rank)).item()
        self.found["sum"] = reduce(torch.tensor(float(rank)), reduce_op="sum").item()
        objects = [None] * self.trainer.world_size
        dist.all_gather_object(objects, rank)
        self.found["objects"] = objects
        for name, call in {
            "new_group": lambda: dist.new_group([0]),
            "avg": lambda: dist.all_reduce(torch.ones(1), op=dist.ReduceOp.AVG),
            "gather": lambda: dist.gather(torch.ones(1)),
        }.items():
            try:
                call()
                self.found[name] = "allowed"
            except RuntimeError:
                self.found[name] = "refused"

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def main():
    torch.set_num_threads(1)
    rank, world = int(sys.argv[1]), int(sys.argv[2])
    rows = torch.linspace(-1, 1, 24).reshape(8, 3)
    strategy = choose_strategy(require_smddp=world > 1)
    trainer = Trainer(
        accelerator="cpu",
        devices=num_devices(),
        num_nodes=num_nodes(),
        strategy=strategy,
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    module = Line()
    trainer.fit(module, DataLoader(TensorDataset(rows[rank::world]), batch_size=4 // world))
    found = {
        "strategy": type(trainer.strategy).__name__,
        "backend": dist.get_backend() if dist.is_initialized() else None,
        "node_rank": trainer.node_rank,
        "num_nodes": trainer.num_nodes,
        "loss": trainer.callback_metrics["train/loss"].item(),
        "weights": module.layer.weight.detach().flatten().tolist(),
    }
    sys.stdout.write("FOUND " + json.dumps(found | module.found) + "\n")


if __name__ == "__main__":
    main()
