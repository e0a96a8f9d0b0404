"""Training jobs: AWS account, requests, source archive, and the code that runs inside a job."""
