"""Several targets at once: masked losses, metrics of each target, decisions, and what they refuse."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from milpath.metrics.intervals import metric_intervals, wilson
from milpath.metrics.weighted_metrics import metric_function
from milpath.targets import Multilabel, Regression, Several, Survival, target_of
from milpath.targets.binary import Binary
from milpath.targets.decision import choose_decision
from milpath.targets.ordinal import Ordinal

NUM_BAGS = 80
OPTIONS = {
    "grade": {"task": "ordinal", "column": "isup", "class_names": ["low", "mid", "high"]},
    "mutated": "binary",
    "age": {"task": "regression", "units": ["years"], "quantiles": [0.1, 0.9]},
    "os": {"task": "survival", "time_column": "months", "event_column": "died", "unit": "months"},
}


def write_table(num_bags: int = NUM_BAGS) -> pd.DataFrame:
    """Labels of clinics: words and numbers, some cells empty or a word for a missing value."""
    draw = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "bag_id": [f"s{number}" for number in range(num_bags)],
            "isup": draw.choice(["low", "mid", "high"], num_bags),
            "mutated": draw.choice(["no", "yes"], num_bags),
            "age": draw.normal(60, 10, num_bags).round(1),
            "months": draw.exponential(20, num_bags).round(1) + 0.1,
            "died": draw.choice(["true", "false"], num_bags),
        }
    ).astype(object)
    for place, column in enumerate(("isup", "mutated", "age", "died")):
        table.loc[draw.random(num_bags) < 0.1 + 0.1 * place, column] = ("", "NA", None, "unknown")[place]
    return table


@pytest.fixture(scope="module")
def case():
    """A target fitted on a table, its labels, and logits of a network."""
    target = Several(OPTIONS, {"grade": 2.0, "os": 0.5})
    table = write_table()
    target, labels = target.read(table, target.columns_of_table(None, "label"))
    target = target.fitted_on(labels)
    logits = torch.randn(
        NUM_BAGS, target.num_outputs(4), generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    return target.fitted_on_predictions(logits.float().numpy(), labels), labels, logits


def alone(labels: np.ndarray) -> dict[str, tuple[object, np.ndarray, np.ndarray, slice]]:
    """Each target by itself: the target fitted on the bags with its label, their rows, labels, and its logits."""
    parts = {
        "grade": (Ordinal(), slice(0, 1), slice(0, 2)),
        "mutated": (Binary(), slice(1, 2), slice(2, 3)),
        "age": (Regression(["age"], ["years"], quantiles=[0.1, 0.9]), slice(2, 3), slice(3, 6)),
        "os": (Survival("months", "died", unit="months"), slice(3, 5), slice(6, 7)),
    }
    found = {}
    for name, (target, columns, outputs) in parts.items():
        rows = np.flatnonzero(~np.isnan(labels[:, columns]).any(1))
        own = labels[rows, columns]
        own = own if name in ("age", "os") else own[:, 0].astype(int)
        found[name] = (target.fitted_on(own), rows, own, outputs)
    return found


def test_words_for_missing_values_are_missing_labels_and_are_counted(case):
    target, labels, _ = case
    counts = target.num_labelled(labels)
    table = write_table()
    empty = {"grade": "isup", "mutated": "mutated", "age": "age", "os": "died"}
    for name, column in empty.items():
        known = ~table[column].isin(["", "NA", None, "unknown"])
        assert counts[name] == known.sum() < NUM_BAGS, name
    assert np.isnan(labels[:, 3]).sum() == np.isnan(labels[:, 4]).sum() == NUM_BAGS - counts["os"]
    assert set(labels[~np.isnan(labels[:, 0]), 0]) == {0, 1, 2}


def test_the_loss_is_the_weighted_sum_of_the_mean_of_each_loss_over_the_labels_that_are_present(case):
    target, labels, logits = case
    weights = {"grade": 2.0, "mutated": 1.0, "age": 1.0, "os": 0.5}
    wanted = 0.0
    for name, (single, rows, own, outputs) in alone(labels).items():
        losses = single.losses(logits[rows][:, outputs], torch.from_numpy(own))
        wanted += weights[name] * float(losses.mean())
    losses = target.losses(logits, torch.from_numpy(labels))
    assert float(losses.mean()) == pytest.approx(wanted, rel=1e-9)


def test_a_missing_label_has_no_gradient_and_changes_no_other(case):
    target, labels, logits = case
    logits = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(target.losses(logits, torch.from_numpy(labels)).sum(), logits)
    assert torch.isfinite(gradient).all()
    for rows, columns in (
        (np.isnan(labels[:, 0]), [0, 1]),
        (np.isnan(labels[:, 1]), [2]),
        (np.isnan(labels[:, 2]), [3, 4, 5]),
    ):
        assert rows.any()
        assert (gradient[torch.from_numpy(rows)][:, columns] == 0).all()
        assert (gradient[torch.from_numpy(~rows)][:, columns] != 0).any()


def test_parts_of_a_batch_add_up_to_the_batch():
    """Gradient accumulation and several processes sum over parts, whatever labels are missing in each."""
    target, table = Several({name: OPTIONS[name] for name in ("grade", "mutated", "age")}), write_table()
    table = table[~target.missing(table, target.columns_of_table(None, "label"))]
    target, labels = target.read(table, target.columns_of_table(None, "label"))
    target = target.fitted_on(labels)
    assert not target.over_batch
    logits = torch.randn(
        len(labels), target.num_outputs(3), dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    order = np.argsort(np.isnan(labels).sum(1), kind="stable")  # the last part lacks many labels
    parts = np.array_split(order, 5)
    each = [target.losses(logits[rows], torch.from_numpy(labels[rows])).sum() for rows in parts]
    assert float(sum(each)) == pytest.approx(float(target.losses(logits, torch.from_numpy(labels)).sum()), rel=1e-12)


def test_metrics_and_intervals_are_those_of_each_target_on_the_bags_with_its_label(case):
    target, labels, logits = case
    answers = target.answers(logits).numpy()
    outcomes = target.evaluate(labels, answers)
    values = target.metrics(outcomes)
    assert tuple(values) == target.reported_metrics
    for name, (single, rows, own, outputs) in alone(labels).items():
        z = logits[rows][:, outputs]
        if isinstance(single, Survival):
            single = single.fitted_on_predictions(z.float().numpy(), own)
        alone_values = single.metrics(single.evaluate(own, single.answers(z).numpy()))
        found = {key.partition("/")[2]: value for key, value in values.items() if key.startswith(f"{name}/")}
        assert set(found) == set(alone_values)
        for key, value in alone_values.items():
            assert found[key] == pytest.approx(value, rel=1e-6, abs=1e-7), (name, key)
        key = single.headline[0]
        drawn = np.random.default_rng(2).integers(0, NUM_BAGS, NUM_BAGS)
        weights = np.bincount(drawn, minlength=NUM_BAGS)[None].astype(float)
        by_weight = metric_function(f"{name}/{key}")(outcomes, weights)[0]
        assert by_weight == pytest.approx(float(metric_function(f"{name}/{key}")(outcomes.part(drawn))), rel=1e-9)
    intervals = metric_intervals(outcomes, values, 100)
    assert all(intervals[name].low <= values[name] <= intervals[name].high for name in ("grade/auroc", "age/coverage"))
    answers = target.answers(logits).numpy()
    answers[:, list(target.answer_columns).index("mutated/probability_yes")] = 1.0
    answers[:, list(target.answer_columns).index("mutated/probability_no")] = 0.0
    found = metric_intervals(target.evaluate(labels, answers), ["mutated/sensitivity"], 20)["mutated/sensitivity"]
    assert (found.low, found.high) == wilson(1.0, int((labels[:, 1] == 1).sum()))  # that of a target by itself


def test_a_target_without_labels_in_a_split_is_undefined_there_and_the_others_are_not(case):
    target, labels, logits = case
    without = labels.copy()
    without[:, 2] = np.nan
    outcomes = target.evaluate(without, target.answers(logits).numpy())
    values = target.metrics(outcomes)
    assert all(value is None for name, value in values.items() if name.startswith("age/"))
    assert values["grade/auroc"] is not None
    assert metric_intervals(outcomes, ["age/mae"], 10)["age/mae"].value is None
    assert not any(name.startswith("age/") for name in target.defined_metrics(without))
    assert "age/mae" in target.defined_metrics(labels)
    assert target.wrongness(outcomes).shape == (NUM_BAGS,)


def test_threshold_temperature_and_deferral_are_chosen_for_each_target_with_classes(case):
    target, labels, logits = case
    z = logits.float().numpy()
    decided = target.decided_on(z, labels, sensitivity=0.9, calibrate=True, defer_share=0.2)
    single, rows, own, outputs = alone(labels)["mutated"]
    wanted = choose_decision(
        own, single.probabilities(torch.from_numpy(z[rows][:, outputs])).numpy().astype(float), "binary", 0.9, True, 0.2
    )
    members = {member.name: member for member in decided.members}
    assert members["mutated"].decision.threshold == pytest.approx(wanted.threshold, abs=1e-5)
    assert members["mutated"].decision.temperature == pytest.approx(wanted.temperature, rel=1e-3)
    assert members["mutated"].decision.defer_below == pytest.approx(wanted.defer_below, abs=1e-5)
    assert members["grade"].decision.threshold == 0.5
    assert members["grade"].decision.temperature != 1
    assert members["age"].decision == members["os"].decision
    answers = decided.answers(torch.from_numpy(z)).numpy()
    calls = [dict(zip(decided.call_columns, decided.calls(row), strict=True)) for row in answers]
    assert list(decided.call_columns) == ["grade/predicted", "grade/defer", "mutated/predicted", "mutated/defer"]
    yes = answers[:, list(decided.answer_columns).index("mutated/probability_yes")]
    assert [each["mutated/predicted"] for each in calls] == np.where(
        yes >= members["mutated"].decision.threshold, "yes", "no"
    ).tolist()
    outcomes = decided.evaluate(labels, answers).of("mutated")
    assert outcomes.predicted.tolist() == [int(calls[row]["mutated/predicted"] == "yes") for row in rows]
    assert 0 < sum(each["mutated/defer"] == "1" for each in calls) < NUM_BAGS


def test_a_wish_that_the_labels_of_a_target_do_not_allow_is_refused(case):
    target, labels, logits = case
    few = labels.copy()
    few[:, 1] = np.where(np.isnan(few[:, 1]), np.nan, 1.0)
    with pytest.raises(ValueError, match=r"target 'mutated' are of 1 classes"):
        target.decided_on(logits.float().numpy(), few, calibrate=True)
    assert target.decided_on(logits.float().numpy(), few).members[1].decision == target.members[1].decision


def test_multilabel_means_are_those_of_sklearn():
    draw = np.random.default_rng(0)
    table = pd.DataFrame({"bag_id": [f"s{number}" for number in range(60)]})
    for name in ("egfr", "kras", "tp53"):
        table[name] = draw.integers(0, 2, 60)
    target, labels = Multilabel(["egfr", "kras", "tp53"]).read(table, ("egfr", "kras", "tp53"))
    target = target.fitted_on(labels)
    logits = torch.from_numpy(draw.normal(size=(60, 3)))
    values = target.metrics(target.evaluate(labels, target.answers(logits).numpy()))
    yes = 1 / (1 + np.exp(-logits.numpy()))
    assert values["macro_auroc"] == pytest.approx(roc_auc_score(labels, yes, average="macro"), rel=1e-9)
    wanted = average_precision_score(labels, yes, average="macro")
    assert values["macro_average_precision"] == pytest.approx(wanted, rel=1e-9)
    each = [brier_score_loss(labels[:, place], yes[:, place]) for place in range(3)]
    assert values["macro_brier"] == pytest.approx(np.mean(each), rel=1e-9)
    loss = torch.nn.BCEWithLogitsLoss(reduction="none")(logits, torch.from_numpy(labels)).sum(1)
    torch.testing.assert_close(target.losses(logits, torch.from_numpy(labels)), loss)
    assert target.headline[0] == "macro_auroc"
    one_class = labels.copy()
    one_class[:, 2] = 0
    assert target.metrics(target.evaluate(one_class, target.answers(logits).numpy()))["macro_auroc"] is None


@pytest.mark.parametrize(
    ("targets", "weights", "message"),
    [
        ("grade", None, "give a mapping of names"),
        ({"grade": "ordinals"}, None, "task 'ordinals' is not one of binary"),
        ({"grade": {"column": "isup"}}, None, r"target\.targets\.grade is .* give a task"),
        ({"a/b": "binary"}, None, "without slashes"),
        ({"age": {"task": "regression", "losss": "huber"}}, None, r"target\.targets\.age does not accept"),
        ({"age": {"task": "regression", "loss": "l1"}}, None, r"target\.targets\.age: target\.loss is 'l1'"),
        ({"age": {"task": "regression", "class_names": ["a"]}}, None, "has no classes"),
        ({"grade": {"task": "ordinal", "loss": "huber"}}, None, r"target\.targets\.grade does not have loss"),
        ({"a": "several"}, None, "holds several targets itself"),
        ({"grade": "ordinal"}, {"age": 1}, r"target\.weights has age, not one of grade"),
        ({"grade": "ordinal"}, {"grade": 0}, r"target\.weights\.grade is 0; it must be a positive number"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused_in_one_line(targets, weights, message):
    with pytest.raises(ValueError, match=message) as error:
        Several(targets, weights)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"months": -3.0}, "column 'months' must hold times of 0 or more, but 1 are negative: the first is -3"),
        ({"died": "perhaps"}, "column 'died' must hold 1 or true for an event"),
        ({"age": "inf"}, "column 'age' must hold finite numbers"),
        ({"isup": "hihg"}, r"target 'grade': column 'isup' has 'hihg'.*did you mean 'high'"),
        (
            {"mutated": "perhaps"},
            r"target 'mutated': a binary task has 2 classes, not 3: column 'mutated' has 'no', 'perhaps', 'yes', of which "
            r"'perhaps' is the rarest \(slide 's7'\); correct the table",
        ),
        ({"isup": "", "mutated": "", "age": "", "months": ""}, "1 of 80 slides have no label of any target"),
    ],
)  # fmt: skip
def test_a_cell_that_is_no_label_is_refused_with_its_slide(change, message):
    table = write_table()
    table.loc[7, ["isup", "mutated", "age", "months", "died"]] = ["low", "no", 60, 5.0, "true"]
    for column, value in change.items():
        table.loc[7, column] = value
    with pytest.raises(ValueError, match=message) as error:
        Several(OPTIONS).read(table, Several(OPTIONS).columns_of_table(None, "label"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("yes_no", "third"), [(["no", "yes"], "perhaps"), ([0, 1], 2), ([0, 1], 9)])
def test_a_third_value_of_a_multilabel_column_is_refused_with_its_slide(yes_no, third):
    table = pd.DataFrame({"bag_id": [f"s{number}" for number in range(9)], "egfr": yes_no * 4 + [third]}).astype(object)
    for names in (None, list(map(str, yes_no))):
        target = Multilabel(["egfr"], names)
        with pytest.raises(ValueError, match=rf"'?{third}'?.*slide 's8'") as error:
            target.read(table, target.columns_of_table(None, "label"))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (2, 60.0, "target 'age': all .* training bags have age = 60: a constant cannot be learnt"),
        (4, 0.0, "target 'os': all .* training bags are censored"),
        (1, 1.0, "target 'mutated' are all 'yes', but training needs two classes"),
        (0, np.nan, "none of 80 training bags has a label of the target 'grade'"),
    ],
)  # fmt: skip
def test_labels_from_which_a_target_learns_nothing_are_refused_with_its_name(case, column, value, message):
    target, labels, _ = case
    labels = labels.copy()
    labels[:, column] = np.where(np.isnan(labels[:, column]), np.nan, value)
    with pytest.raises(ValueError, match=message):
        target.fitted_on(labels)


def test_a_registered_target_without_members_says_what_is_missing():
    card = type("Card", (), {"task": "several", "target_state": {}, "warning": ""})
    with pytest.raises(ValueError, match="targets in target_state of the card must be a list"):
        target_of(card)
    with pytest.raises(ValueError, match=r"names no targets; give target=several"):
        Several().columns_of_table(None, "label")
    with pytest.raises(ValueError, match=r"data\.label_column=x is one column, but the targets are grade"):
        Several(OPTIONS).columns_of_table("x", "label")
