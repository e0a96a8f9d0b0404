import io

from rich.console import Console

from milpath.runs.result_files import summary_table


def test_every_split_and_metric_is_printed_and_what_is_undefined_says_so():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(summary_table({"val": {"auroc": 0.91234}, "test": {"auroc": None, "f1": 0.5}}, title="runs/first"))
    text = console.export_text()
    for words in ("runs/first", "val", "test", "auroc", "0.9123", "undefined", "0.5000"):
        assert words in text


def test_the_ends_of_an_interval_are_no_metrics_of_their_own():
    console = Console(width=80, record=True, file=io.StringIO())
    values = {"unfamiliar_share": 0.1, "unfamiliar_share_low": 0.05, "unfamiliar_share_high": 0.2, "coverage_low": 0.7}
    console.print(summary_table({"test": values}))
    text = console.export_text()
    assert "unfamiliar_share " in text
    assert "coverage_low" in text
    assert "share_low" not in text
    assert "share_high" not in text
