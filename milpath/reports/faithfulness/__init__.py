"""The part of a report that says whether attention shows what a network uses."""

from milpath.reports.faithfulness.faithfulness_page import write_faithfulness
from milpath.reports.faithfulness.faithfulness_summary import RECORD, summarise

__all__ = ["RECORD", "summarise", "write_faithfulness"]
