"""How long a server waits for its clients."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class ConnectionLimits:
    """Bounds of the connections of a server.

    Attributes:
        max_connections: Open at a time. One more takes the place of the one that has kept the server waiting longest.
        header_seconds: Until the headers of a request are complete, from the connection or the last answer on.
        body_seconds: A body must come at `min_bytes_per_second` over any stretch of so many seconds.
        min_bytes_per_second: Of a body.
        write_seconds: A client that takes nothing of its answer for so long is left.
        keep_alive_seconds: A connection that asks nothing more is kept for so long after an answer.
        end_seconds: Requests in hand may take so long when the server is told to end. SageMaker and Kubernetes kill
            a container 30 seconds after they ask it to end.

    Raises:
        ValueError: If one of them is not above 0.
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
                raise ValueError(f"{item.name}={getattr(self, item.name)} must be above 0")
