"""How an endpoint says no: a status of HTTP and one line."""


class BadRequestError(ValueError):
    """A request that cannot be answered, and whose fault that is.

    Args:
        message: One line: what was expected, what came, what to send.
        status: 400 for a wrong body, 413 for a large one, 415 for a wrong type, 406 for a wrong wish.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(" ".join(message.split())[:500])
        self.status = status
