"""SIGINT and SIGTERM end the work between two steps, with its checkpoints saved."""

import contextlib
import math
import signal
import time
from collections.abc import Iterator


class Interrupted(BaseException):
    """A signal ended the work; what was unfinished is in checkpoints.

    Not a KeyboardInterrupt, which typer takes for itself.
    """

    def __init__(self, number: int):
        super().__init__()
        self.number = number


@contextlib.contextmanager
def signals_noted() -> Iterator[list[int]]:
    """Note SIGINT and SIGTERM in a list, for training to stop between two steps.

    A later signal does not wait for that. One that comes within a second is taken for the same: a
    terminal and a parent process may both send it. Outside the main thread nothing is noted.
    """
    received: list[int] = []
    since = math.inf

    def note(number: int, frame: object) -> None:
        nonlocal since
        if time.monotonic() - since > 1:
            raise Interrupted(received[0])
        if not received:
            since = time.monotonic()
            received.append(number)

    before = {}
    with contextlib.suppress(ValueError):  # another thread may not set what signals do
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
