"""The Wave-RNN of Keller, Muller, Sejnowski and Welling (ICLR 2024) and its tasks."""

from wrnn import init, tasks
from wrnn.errors import WrnnError
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
