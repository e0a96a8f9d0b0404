"""What the tests of SageMaker share."""

# Programs that tests start; importing them here would be an error or do nothing.
collect_ignore = ["standin", "smddp_job.py"]
