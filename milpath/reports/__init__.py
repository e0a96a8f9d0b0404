"""Reports: tables, figures and HTML pages of runs and of method comparisons.

`page` writes the report of a run and `table_page` that of a comparison; `method_table` and `tables` compare methods over the
folds of a cross-validation. The numbers come from `milpath.metrics` and `milpath.targets`.
"""

RESEARCH_USE_ONLY = "Research use only, not for diagnosis"
