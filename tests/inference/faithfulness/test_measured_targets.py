"""Every kind of target can be asked which tiles its answer hangs on."""

import numpy as np
import pytest
import torch

from milpath.inference.faithfulness import MeasureOptions, measure_bags, question_of
from milpath.models import AttentionMIL
from milpath.models.checkpoint import Card
from milpath.targets import Multilabel, Regression, Several, Survival, target_named
from tests.inference.faithfulness.bags_with_truth import write_planted

TIMES = np.array([[5.0, 1.0], [3.0, 1.0], [4.0, 0.0], [2.0, 1.0], [6.0, 1.0], [7.0, 0.0]])
LOGITS = np.linspace(-0.5, 0.5, 6, dtype=np.float32)[:, None]


def several() -> Several:
    members = {
        "grade": {"task": "ordinal", "class_names": ["low", "mid", "high"]},
        "age": {"task": "regression", "units": ["years"]},
    }
    return Several(members).fitted_on(np.array([[0.0, 50.0], [2.0, 70.0], [1.0, 60.0]]))


TARGETS = {
    "nominal": (target_named("nominal"), ("a", "b", "c")),
    "ordinal": (target_named("ordinal"), ("a", "b", "c")),
    "regression": (Regression(["age"], quantiles=[0.1, 0.9]).fitted_on(np.array([[50.0], [70.0]])), ("age",)),
    "cox": (Survival().fitted_on(TIMES).fitted_on_predictions(LOGITS, TIMES), ("risk",)),
    "hazard": (
        Survival(loss="hazard", num_intervals=2).fitted_on(TIMES).fitted_on_predictions(np.tile(LOGITS, 2), TIMES),
        ("risk",),
    ),
    "multilabel": (
        Multilabel(["egfr", "kras"], ["no", "yes"]).fitted_on(np.array([[0.0, 1.0], [1.0, 0.0]])),
        ("egfr", "kras"),
    ),
    "several": (several(), ("grade", "age")),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_planted(tmp_path_factory.mktemp("planted") / "store", 3)


@pytest.mark.parametrize("kind", TARGETS)
def test_the_whole_bag_has_the_answer_of_the_target_and_every_order_its_curves(store, kind):
    target, names = TARGETS[kind]
    widths = target.outputs_per_target(len(names))
    torch.manual_seed(0)
    network = AttentionMIL(
        encoder={"name": "linear", "num_features": 6, "hidden_dims": [8]}, num_outputs=sum(widths),
        attention_per_target=len(widths) > 1, outputs_per_target=widths if len(widths) > 1 else None,
    ).eval()  # fmt: skip
    card = Card({}, names, target.name, target_state=target.state())
    asked = [question_of(card, name) for name in (names if len(widths) > 1 else [None])]
    for place, question in enumerate(asked):
        for rows in measure_bags([network], store, range(3), [question], MeasureOptions(num_random=2)):
            (row,) = rows
            with torch.no_grad():
                output = network(torch.from_numpy(store.read(store.bags["bag_id"].tolist().index(row.bag_id)))[None])
                expected = question.values(output.logits, question.explained(output.logits))[0]
            np.testing.assert_allclose(row.values, expected, rtol=1e-5)
            assert question.name == (names[place] if len(widths) > 1 else "")
            for curves in (row.deletion, row.insertion):
                assert set(curves) == {"attention", "gradient x input", "occlusion", "single tile", "random"}
                assert all(np.isfinite(curve).all() and curve.shape == (2, 20) for curve in curves.values())
            # Whole at the start of one and at the end of the other.
            for order in row.deletion:
                np.testing.assert_allclose(row.deletion[order][:, 0], row.values)
                np.testing.assert_allclose(row.insertion[order][:, -1], row.values)
            if not question.of_classes:
                assert row.values[0] >= 0  # a distance
                np.testing.assert_array_equal(row.values[0], row.values[1])
