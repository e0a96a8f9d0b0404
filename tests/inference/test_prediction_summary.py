from milpath.inference.prediction_summary import prediction_summary


def test_the_end_of_a_prediction_has_the_first_calls_counts_and_the_path(tmp_path):
    rows = "".join(f"case {number},0.25,0.75,malignant,0.5,{int(number < 2)}\n" for number in range(12))
    (tmp_path / "predictions.csv").write_text(
        f"id,probability_benign,probability_malignant,predicted,threshold,defer\nNA,0.9,0.1,benign,0.5,0\n{rows}"
    )
    lines = prediction_summary(tmp_path).splitlines()
    assert lines[0].split() == ["slide", "predicted", "highest", "probability"]
    assert lines[1].split() == ["NA", "benign", "0.900"]
    assert lines[2].split() == ["case", "0", "malignant", "0.750", "refer", "to", "a", "person"]
    assert lines[11:] == [
        "... and 3 more",
        "13 slides: 1 benign, 12 malignant; 2 to refer to a person",
        f"predictions: {tmp_path}/predictions.csv",
    ]


def test_a_name_cannot_forge_a_line(tmp_path):
    (tmp_path / "predictions.csv").write_text(
        'id,probability_a,probability_b,predicted,threshold,defer\n"x\n\x1b[2J",0.9,0.1,a,0.5,0\n'
    )
    assert "\x1b" not in prediction_summary(tmp_path)
    assert len(prediction_summary(tmp_path).splitlines()) == 4
