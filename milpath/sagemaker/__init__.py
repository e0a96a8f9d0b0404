"""Amazon SageMaker: training jobs and endpoints."""
