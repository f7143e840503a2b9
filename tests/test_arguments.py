"""Whatever is given to a constructor or a call: it works, or one line says what is wrong."""

import contextlib
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch

from wrnn import (
    IdentityRNN,
    LocalWaveRNN,
    SequenceModel,
    WaveRNN,
    WrnnError,
    count_parameters,
    init,
)
from wrnn.recurrence import choose_backend, wave_recurrence
from wrnn.tasks import (
    AddingTask,
    CopyTask,
    NoisySequentialCIFAR10,
    NoisySequentialDigits,
    SequentialDigits,
    SequentialMNIST,
    task_from_dict,
)

ODD = (
    *(0, -1, 3, 1.5, float("nan"), float("inf"), 2**31, 10**30, "3", "", "xpu", b"x", b"\xe9"),
    *(None, True, object(), [3], (), {}, np.float64(2.5), np.int64(3), np.bool_(True), np.zeros(3)),
    *(torch.float16, torch.tensor(3.0), torch.zeros(3), torch.zeros(2, 2, 2)),
    *(torch.zeros(2, 2, 3, dtype=kind) for kind in (torch.float64, torch.float16, torch.complex64)),
    torch.zeros(2, 3, 3, dtype=torch.int64),
)


def shapes(**sizes):
    """Return tensors of these sizes by name."""
    return {name: torch.zeros(size) for name, size in sizes.items()}


WAVE = dict(input_size=3, channel_size=4, num_channels=2, kernel_size=3, backend="auto")
LAYER = dict(nonlinearity="relu", bias=True, batch_first=False, device=None, dtype=None)
LAYER |= dict(num_layers=1, dropout=0.0, bidirectional=False, proj_size=0)
CALL = shapes(input=(2, 2, 3), hx=(1, 2, 8))
READOUT = shapes(weight_out=(3, 8), bias_out=3) | {"last_only": False}
TENSORS = shapes(x=(2, 2, 3), h_0=(2, 8), weight_ih=(8, 3), bias_ih=8, bias_hh=2)
KERNEL = shapes(weight_hh=(2, 2, 3))
NAMES = dict(nonlinearity="relu", backend="auto", precision="float32", checkpoint_every=2)
STARTS = dict(velocity=1.0, input="ones", input_bias="zero", recurrent_bias="default")
GENERATED = dict(test_batch_size=5, test_batches=1, test_seed=0)
NOISE = dict(noise="fixed", noise_seed=0, length=40, split_seed=0)
PIXELS = dict(permuted=False, permutation_seed=0, split_seed=0)
wave, local, identity = WaveRNN(3, 4, 2), LocalWaveRNN(3, 4, 2), IdentityRNN(3, 8)
by_steps = IdentityRNN(3, 50)  # as torch.nn.RNN computes it, at this batch
CALLS = {
    "WaveRNN": (WaveRNN, WAVE | LAYER),
    "LocalWaveRNN": (LocalWaveRNN, WAVE | LAYER),
    "IdentityRNN": (IdentityRNN, dict(input_size=3, hidden_size=4) | LAYER),
    "SequenceModel": (
        SequenceModel,
        dict(rnn=wave, output_size=2, readout="linear", every_step=False),
    ),
    "WaveRNN()": (wave, CALL),
    "LocalWaveRNN()": (local, CALL),
    "IdentityRNN()": (identity, CALL),
    "SequenceModel()": (SequenceModel(wave, 2), shapes(x=(2, 2, 3), h_0=(1, 2, 8))),
    "WaveRNN.compute": (wave.compute, CALL | READOUT | {"checkpoint_every": 2}),
    "LocalWaveRNN.compute": (local.compute, CALL | READOUT),
    "IdentityRNN.compute": (identity.compute, CALL | READOUT),
    "IdentityRNN.compute, by steps": (
        by_steps.compute,
        CALL | READOUT | shapes(hx=(1, 2, 50), weight_out=(3, 50)),
    ),
    "WaveRNN.reset_parameters": (
        WaveRNN(3, 4, 2).reset_parameters,
        STARTS | {"recurrent": "shift", "generator": None},
    ),
    "IdentityRNN.reset_parameters": (
        IdentityRNN(3, 8).reset_parameters,
        dict(recurrent="identity", input="normal", input_bias="zero", recurrent_bias="default"),
    ),
    "wave_recurrence": (wave_recurrence, TENSORS | KERNEL | READOUT | NAMES),
    "choose_backend": (choose_backend, shapes(x=(2, 2, 3)) | KERNEL | {"precision": "float32"}),
    "shift_": (init.shift_, KERNEL | {"velocity": 1.0}),
    "single_site_": (
        init.single_site_,
        shapes(weight_ih=(4, 2)) | {"num_channels": 2, "kind": "ones"},
    ),
    "identity_": (init.identity_, shapes(weight=(2, 2))),
    "shift_matrix_": (init.shift_matrix_, shapes(weight=(2, 2))),
    "fan_in_uniform_": (init.fan_in_uniform_, shapes(tensor=2) | {"fan_in": 2, "generator": None}),
    "count_parameters": (count_parameters, {"model": wave}),
    "CopyTask": (CopyTask, {"lag": 20, "layout": "code"} | GENERATED),
    "AddingTask": (AddingTask, {"length": 20} | GENERATED),
    "SequentialMNIST": (SequentialMNIST, PIXELS),
    "SequentialDigits": (SequentialDigits, PIXELS),
    "NoisySequentialDigits": (NoisySequentialDigits, NOISE),
    "NoisySequentialCIFAR10": (
        NoisySequentialCIFAR10,
        NOISE | {"source": "folder", "normalised": False},
    ),
    "task_from_dict": (task_from_dict, {"description": {"name": "copy", "lag": 20}}),
    "baseline": (CopyTask(20).memoryless_baseline, {"metric": "cross_entropy"}),
    "permutation": (SequentialDigits(permuted=True).permutation, {"device": "cpu"}),
    "split_indices": (SequentialDigits().split_indices, {"split": "test", "device": "cpu"}),
    "fixed_noise": (NoisySequentialDigits().fixed_noise, {"device": "cpu"}),
}


def evaluate(task, **options):
    """Return a batch of a whole split."""
    return next(iter(task.evaluation_batches(**options)))


for task in (CopyTask(20), AddingTask(20), SequentialDigits(), NoisySequentialDigits()):
    options = {"batch_size": 3, "device": "cpu"}
    drawing = options | {"generator": torch.Generator().manual_seed(0), "split": "train"}
    _, y = task.batch(**drawing)
    scored = {"output": torch.zeros(*y.shape, task.output_size), "y": y}
    CALLS |= {
        f"{task.name}.batch": (task.batch, drawing),
        f"{task.name}.evaluation_batches": (partial(evaluate, task), options | {"split": "test"}),
        f"{task.name}.loss": (task.loss, scored),
        f"{task.name}.metrics": (task.metrics, scored),
    }


@pytest.mark.parametrize("name", CALLS)
def test_any_argument_works_or_is_one_clear_line(name):
    call, arguments = CALLS[name]
    call(**arguments)
    refused = 0
    for argument in arguments:
        for odd in ODD:
            try:
                call(**arguments | {argument: odd})
            except WrnnError as error:
                assert "\n" not in str(error)
                assert len(str(error)) < 300
                refused += 1
    assert refused >= 15 * len(arguments)


@pytest.mark.parametrize("name", CALLS)
def test_a_tensor_of_any_size_works_or_is_one_clear_line(name):
    """Each axis of each tensor in turn."""
    call, arguments = CALLS[name]
    for argument, tensor in arguments.items():
        if not isinstance(tensor, torch.Tensor):
            continue
        for axis in range(tensor.dim()):
            for size in range(6):
                shape = [*tensor.shape[:axis], size, *tensor.shape[axis + 1 :]]
                changed = arguments | {argument: tensor.new_zeros(shape)}
                try:
                    call(**changed)
                except WrnnError as error:
                    assert shape != list(tensor.shape)
                    assert "\n" not in str(error) and len(str(error)) < 300


@pytest.mark.parametrize(
    "start",
    [
        init.shift_,
        partial(init.single_site_, num_channels=2),
        partial(init.single_site_, num_channels=1, kind="identity"),
        init.identity_,
        init.shift_matrix_,
        partial(init.fan_in_uniform_, fan_in=2),
    ],
)
def test_starts_fill_a_tensor_of_any_shape_or_refuse_it(start):
    filled = 0
    for axes in range(5):
        for shape in product(range(4), repeat=axes):
            weight = torch.full(shape, torch.nan)
            with contextlib.suppress(WrnnError):
                start(weight)
                assert weight.isfinite().all()
                filled += 1
    assert filled >= 3
