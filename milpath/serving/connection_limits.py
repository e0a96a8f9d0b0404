"""Timeouts and limits of a server's connections."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class ConnectionLimits:
    """Timeouts and limits of the connections of a server.

    Attributes:
        max_connections: Open connections. One more replaces the one that has kept the server waiting longest.
        header_seconds: Time for the headers of a request, from the connection or the last response on.
        body_seconds: A body must arrive at `min_bytes_per_second` over any window of this length.
        min_bytes_per_second: Minimum rate of a body.
        write_seconds: A client that reads nothing of its response for this long is disconnected.
        keep_alive_seconds: An idle connection is kept open for this long after a response.
        end_seconds: Time for requests in progress at shutdown. SageMaker and Kubernetes kill a container 30 seconds after
            asking it to stop.

    Raises:
        ValueError: If a value is not positive.
    """

    max_connections: int = 128
    header_seconds: float = 10.0
    body_seconds: float = 10.0
    min_bytes_per_second: int = 4096
    write_seconds: float = 20.0
    keep_alive_seconds: int = 5
    end_seconds: int = 20

    def __post_init__(self) -> None:
        for item in fields(self):
            if not getattr(self, item.name) > 0:
                raise ValueError(f"{item.name}={getattr(self, item.name)} must be greater than 0")
