"""What a run is worth and what it saw: statistics, tables, figures and pages.

Statistics are plain functions on numpy arrays: `weighted_metrics`, `intervals`, `comparison`, `calibration`,
`operating_point`, `deferral`, `attention_quality`, `grades`; `decision` chooses on the validation split alone.
`method_table` and `tables` make tables of methods; `page` writes the page of a run, `table_page` that of a table.
"""

RESEARCH_USE_ONLY = "Research use only, not for diagnosis"
