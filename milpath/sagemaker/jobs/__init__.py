"""Training jobs: the account, requests, the source archive, and what runs inside a job."""
