"""Training on SageMaker, and an endpoint at the end."""
