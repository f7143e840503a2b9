"""The Wave-RNN of Keller, Muller, Sejnowski and Welling (ICLR 2024) and its tasks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wrnn import tasks
from wrnn.errors import WrnnError

if TYPE_CHECKING:
    from wrnn import init
    from wrnn.model import IdentityRNN, LocalWaveRNN, SequenceModel, WaveRNN, count_parameters

__version__ = "0.2.0"
__all__ = [
    "IdentityRNN",
    "LocalWaveRNN",
    "SequenceModel",
    "WaveRNN",
    "WrnnError",
    "count_parameters",
    "init",
    "tasks",
]


def __getattr__(name: str) -> Any:
    """Import the models and their starts when they are first used: tasks do without them."""
    if name in ("init", "model", "recurrence"):
        return import_module(f"wrnn.{name}")
    if name in __all__:
        return getattr(import_module("wrnn.model"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
