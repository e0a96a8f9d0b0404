import io

from rich.console import Console

from milpath.runs.result_files import summary_table


def test_every_split_and_metric_is_printed_and_what_is_undefined_says_so():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(summary_table({"val": {"auroc": 0.91234}, "test": {"auroc": None, "f1": 0.5}}, title="runs/first"))
    text = console.export_text()
    for words in ("runs/first", "val", "test", "auroc", "0.9123", "undefined", "0.5000"):
        assert words in text
