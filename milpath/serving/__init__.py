"""Server code shared by the endpoint and the app: connection limits, work queue, shutdown."""
