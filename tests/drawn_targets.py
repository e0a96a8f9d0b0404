"""Small bags with a label of every kind of target, and the options that train each."""

from pathlib import Path

import numpy as np

from milpath.data.store.bag_store_writer import BagStoreWriter

TILE = 16
TARGETS = {
    "regression": ["target=regression", "target.columns=[age]", "target.units=[years]", "monitor=val/mae", "monitor_mode=min"],
    "two": ["target=regression", "target.columns=[age,psa]", "target.loss=squared", "monitor=val/r2"],
    "quantiles": ["target=regression", "target.columns=[age]", "target.quantiles=[0.1,0.5,0.9]", "monitor=val/mae",
                  "monitor_mode=min"],
    "cox": ["target=survival", "target.time_column=months", "target.event_column=died", "target.unit=months",
            "monitor=val/c_index"],
    "hazard": ["target=survival", "target.time_column=months", "target.event_column=died", "target.loss=hazard",
               "target.num_intervals=4", "target.times=[6,12]", "monitor=val/loss", "monitor_mode=min"],
    "several": [
        "target=several",
        "target.targets={age:{task:regression,units:[years],quantiles:[0.1,0.9]},grade:{task:ordinal,class_names:[low,mid,high]},"
        "mutated:binary,os:{task:survival,time_column:months,event_column:died,unit:months}}",
        "target.weights={grade:2}", "model.attention_per_target=true", "monitor=val/age/mae", "monitor_mode=min",
        "decision.sensitivity=0.9", "seed=1",
    ],
    "multilabel": ["target=multilabel", "target.columns=[mutated,her2]", "monitor=val/macro_auroc"],
}  # fmt: skip
GRADE = ["data.label_column=grade", "data.class_names=[low,mid,high]", "data.on_missing_label=skip"]
# Targets with classes on the same bags.
CLASSES = {
    "binary": ["data.label_column=her2", "monitor=val/brier", "monitor_mode=min"],
    "nominal": [*GRADE, "data.task=nominal", "monitor=val/brier", "monitor_mode=min"],
    "ordinal": [*GRADE, "data.task=ordinal", "monitor=val/brier", "monitor_mode=min"],
}
RUN = [
    "data=bag_store", "data.num_folds=3", "data.batch_size=8", "data.group_column=patient_id", "model/encoder=tile_cnn",
    "model.encoder.embedding_dim=8", "trainer.accelerator=cpu", "trainer.max_epochs=2", "logger=csv",
    "callbacks.progress=null", "optimizer.lr=0.003",
]  # fmt: skip


def write_store(folder: Path, num_bags: int = 36) -> Path:
    """Small tiles whose brightness tells the age and the hazard; two slides a patient, two centres."""
    draw, classes = np.random.default_rng(0), np.random.default_rng(1)
    with BagStoreWriter(folder) as writer:
        for number in range(num_bags):
            level = draw.normal()
            grade, her2 = ["low", "mid", "high"][classes.integers(3)], int(classes.integers(2))
            tiles = np.clip(draw.normal(128 + 40 * level, 20, (3, TILE, TILE, 3)), 0, 255).astype(np.uint8)
            time, censored = draw.exponential(12 * np.exp(-level)), draw.uniform(2, 40)
            writer.add(
                f"slide_{number:02d}", tiles,
                {
                    "patient_id": f"p{number // 2}", "data_provider": "AB"[number // 2 % 2], "age": round(60 + 10 * level, 1),
                    "psa": round(float(np.exp(level)), 3), "months": round(min(time, censored), 2),
                    "died": "true" if time <= censored else "false",
                    "grade": "" if number % 7 == 3 else grade, "her2": her2,
                    "mutated": "" if number % 9 == 4 else int(level > 0),
                },
            )  # fmt: skip
    return folder
