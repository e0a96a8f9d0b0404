"""Cox on the real data sets of scikit-survival, each patient a bag of one instance: the coefficients are those of the field."""

import numpy as np
import pytest
import torch

from milpath.data.datamodule import BagDataModule
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.data.store.stored_bags import StoredBags
from milpath.metrics.survival.survival_metrics import harrell_c
from milpath.targets import Survival

pytestmark = pytest.mark.filterwarnings("ignore")  # scikit-survival warns about the pandas of today
sets = pytest.importorskip("sksurv.datasets", reason="needs scikit-survival (uv pip install -e '.[dev]')")
SETS = {
    "whas500": (sets.load_whas500, 500, 215),
    "gbsg2": (sets.load_gbsg2, 686, 299),
    "veterans": (sets.load_veterans_lung_cancer, 137, 128),
}


@pytest.mark.parametrize("name", SETS)
def test_a_linear_network_reaches_the_coefficients_and_the_concordance_of_scikit_survival(name, tmp_path):
    from sksurv.linear_model import CoxPHSurvivalAnalysis
    from sksurv.preprocessing import OneHotEncoder

    load, num_patients, num_events = SETS[name]
    frame, outcome = load()
    event_field, time_field = outcome.dtype.names
    words = frame.select_dtypes(exclude="number").columns
    columns = OneHotEncoder().fit_transform(frame.astype(dict.fromkeys(words, "category"))).to_numpy(np.float64)
    columns = ((columns - columns.mean(0)) / columns.std(0)).astype(np.float32)
    with BagStoreWriter(tmp_path / "store") as writer:
        for number, row in enumerate(columns):
            observed, time = outcome[number][event_field], outcome[number][time_field]
            writer.add(f"p{number:03d}", row[None], {"days": float(time), "died": "true" if observed else "false"})
    target = Survival(time_column="days", event_column="died")
    module = BagDataModule(StoredBags(tmp_path / "store"), task=target, num_folds=1, stores_dir=str(tmp_path))
    module.setup()
    labels = torch.from_numpy(module.labels("test"))
    assert labels.shape == (num_patients, 2)
    assert int(labels[:, 1].sum()) == num_events
    instances = torch.from_numpy(np.stack([module.store.read(index)[0] for index in range(num_patients)])).double()

    weights = torch.zeros(instances.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=300, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = module.fitted_target.losses((instances @ weights)[:, None], labels).sum()
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(step)
    cox = CoxPHSurvivalAnalysis(ties="efron", tol=1e-12).fit(instances.numpy(), outcome)
    np.testing.assert_allclose(weights.detach().numpy(), cox.coef_, atol=1e-5)
    risk = (instances @ weights).detach()
    fitted = target.fitted_on(labels.numpy())
    answers = fitted.answers(risk[:, None]).numpy()
    assert float(harrell_c(fitted.evaluate(labels.numpy(), answers))) == pytest.approx(
        cox.score(instances.numpy(), outcome), abs=1e-6
    )
