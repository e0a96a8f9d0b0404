"""The part of a report that says whether attention shows what a network uses."""

from milpath.reports.faithfulness.faithfulness_page import remove_faithfulness, write_faithfulness
from milpath.reports.faithfulness.faithfulness_plots import faithfulness_plots
from milpath.reports.faithfulness.faithfulness_summary import summarise

__all__ = ["faithfulness_plots", "remove_faithfulness", "summarise", "write_faithfulness"]
