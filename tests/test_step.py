"""Training steps and their capture; a recording of operations stands in for a CUDA graph."""

import warnings
from dataclasses import replace

import pytest
import samples
import torch
from samples import SETTLING, leave_checkpoint, settle
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from companion.records.files import Store
from companion.runs.run import ModelConfig, irnn_config, wrnn_config
from companion.training import step as stepping
from companion.training.queue import REPLICAS
from companion.training.step import EAGER_STEPS, Replicas, TrainingState, update_all
from companion.training.train import train, train_replicas
from wrnn import model as models
from wrnn import recurrence
from wrnn.tasks import (
    AddingTask,
    NoisySequentialCIFAR10,
    NoisySequentialDigits,
    SequentialDigits,
    data,
)

WAITING = {  # operations that bring values to the host, and constants that come from it
    "_local_scalar_dense",
    "equal",
    "is_nonzero",
    "item",
    "lift_fresh",
    "masked_select",
    "nonzero",
    "_unique2",
}
COPY = replace(samples.COPY, steps=20, drop_steps=(8,))
RUNS = {
    "copy": COPY,
    "copy, layout of the text": replace(COPY, task=replace(COPY.task, layout="text")),
    "copy, locally connected": replace(COPY, model=ModelConfig("local", 12, 2)),
    "adding": replace(COPY, task=AddingTask(12), model=irnn_config(12)),
    "adding, GRU": replace(COPY, task=AddingTask(12), model=ModelConfig("gru", 6)),
    "digits": replace(
        COPY, task=SequentialDigits(), model=wrnn_config(8, 2, readout="mlp"), clip=0.0
    ),
    "permuted digits": replace(COPY, task=SequentialDigits(permuted=True)),
    "noisy digits": replace(COPY, task=NoisySequentialDigits(length=12)),
    "noisy digits, fresh": replace(COPY, task=NoisySequentialDigits(length=12, noise="fresh")),
    "CIFAR10": replace(
        COPY,
        task=NoisySequentialCIFAR10(length=34, normalised=True),
        model=ModelConfig("lstm", 6),
    ),
}


class Recording(TorchDispatchMode):
    """Operations on tensors, noted as they run; a replay runs them on the same memory again.

    As in a CUDA graph, no Python code is run again, and whatever was no tensor stays as it was.
    """

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.name().split("::")[1].split(".")[0]
        masks = name.startswith("index") and any(
            isinstance(arg, torch.Tensor) and arg.dtype == torch.bool for arg in tree_leaves(args)
        )
        moves = name == "_to_copy" and "device" in (kwargs or {})
        if name in WAITING or masks or moves:
            raise RuntimeError(f"{name} cannot be captured")
        result = operation(*args, **(kwargs or {}))
        views = any(r.alias_info and not r.alias_info.is_write for r in operation._schema.returns)
        if not views and operation.namespace == "aten":
            self.calls.append((operation, args, kwargs or {}, result))
        return result

    def replay(self):
        with torch._C._AutoDispatchBelowAutograd():
            for operation, args, kwargs, result in self.calls:
                again = operation(*args, **kwargs)
                if not operation._schema.is_mutable:
                    for kept, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                        if new is not None:
                            kept.copy_(new)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """A type of device."""
    return request.param


on_a_cpu = pytest.mark.parametrize("device", ["cpu"], indirect=True)


@pytest.fixture
def captures(device, monkeypatch):
    """The sizes of the groups that are captured; on a CPU a recording stands in for a graph."""
    sizes = []
    capture = recorded if device == "cpu" else stepping.CAPTURES[device]

    def noted(members):
        replay = capture(members)
        sizes.append(len(members))
        return replay

    monkeypatch.setitem(stepping.CAPTURES, device, noted)
    if device == "cpu":
        for module in (models, recurrence):  # a recording sees nothing but PyTorch's operations
            monkeypatch.setattr(module, "choose_backend", lambda *_, **__: ("loop", "for a test"))
    return sizes


def recorded(members):
    """Capture a step of every member as CUDA does, which only notes what is to be done."""
    kept = [
        (tensor, tensor.detach().clone())
        for member in members
        for tensor in tree_leaves((member.model.state_dict(), member.optimizer.state))
        if isinstance(tensor, torch.Tensor)
    ]
    states = [member.generator.get_state() for member in members]
    try:
        with Recording() as recording:
            update_all(members)
    finally:
        with torch.no_grad():
            for tensor, value in kept:
                tensor.copy_(value)
        for member, state in zip(members, states, strict=True):
            member.generator.set_state(state)
    return recording.replay


@pytest.fixture
def small_cifar10(monkeypatch):
    """Thirty random colour images in place of CIFAR10."""
    for name, size in (("validation_size", 4), ("test_size", 4)):
        monkeypatch.setattr(NoisySequentialCIFAR10, name, size)
    pixels = torch.randint(256, (30, 32, 3, 32), generator=torch.Generator().manual_seed(0))
    images = data.ImageData("random", pixels.to(torch.uint8), torch.arange(30) % 10, 255, 4)
    monkeypatch.setattr(data, "cifar10", lambda source: images)


def steps_of(run, count, device, *, captured, generator=None):
    """Losses and final weights of the first steps of a run."""
    member = TrainingState(run, torch.device(device))
    if generator is not None:
        member.generator = generator
    group = Replicas([member])
    if not captured:
        group.capture = None
    losses = []
    for _ in range(count):
        group.take_step()
        losses.append(member.loss.clone())
    assert (group.replay is not None) == captured
    weights = [parameter.detach().cpu() for parameter in member.model.parameters()]
    return [loss.item() for loss in losses], weights


def assert_same(device, one, other):
    """Records agree: bit for bit on a CPU, and on a GPU every number to a thousandth."""
    if device == "cpu":
        assert one == other
        return
    close = dict(rel=1e-3, abs=1e-3)
    assert one["metrics"] == pytest.approx(other["metrics"], **close)
    for name, points in one["curves"].items():
        assert [v for _, v in points] == pytest.approx(
            [v for _, v in other["curves"][name]], **close
        )


@pytest.mark.parametrize("name", RUNS)
def test_a_captured_step_is_the_eager_step(name, device, captures, small_cifar10):
    """Nothing in it waits for a value, and all that changes from step to step is in tensors."""
    losses, weights = steps_of(RUNS[name], 12, device, captured=False)
    again, replayed = steps_of(RUNS[name], 12, device, captured=True)
    assert captures == [1]
    tolerance = 0 if device == "cpu" else 1e-4
    assert again == pytest.approx(losses, rel=tolerance, abs=0)
    torch.testing.assert_close(replayed, weights, rtol=10 * tolerance, atol=tolerance / 10)
    assert len(set(losses)) == 12  # new batches, new weights


def test_the_recording_refuses_what_waits_for_a_value():
    for wait in (lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: torch.tensor(1.0) + x):
        with pytest.raises(RuntimeError, match="cannot be captured"), Recording():
            wait(torch.ones(3))


def test_the_rate_drops_between_replays_and_after_a_resumption(device, captures):
    run = replace(COPY, drop_steps=(5, 8))
    member, rates = TrainingState(run, torch.device(device)), []
    group = Replicas([member])
    for step in range(1, 11):
        group.take_step()
        rates.append(member.optimizer.param_groups[0]["lr"].item())
        assert member.step == step
        assert captures == [1] * (step > EAGER_STEPS)
    assert rates == pytest.approx([1e-3] * 5 + [1e-4] * 3 + [1e-5] * 2)
    resumed = TrainingState(run, torch.device(device))
    resumed.load(member.state())
    assert resumed.optimizer.param_groups[0]["lr"].item() == pytest.approx(1e-5)
    assert resumed.optimizer.param_groups[0]["capturable"]


def outcomes(runs, folder, **options):
    return [record.outcome() for record in train_replicas(runs, Store(folder), **options)]


def test_different_runs_in_one_capture_get_the_records_they_get_alone(device, captures, tmp_path):
    """As many as the queue puts together on a GPU, of all tasks and models; one ends earlier."""
    runs = [run for name, run in RUNS.items() if name not in ("CIFAR10", "copy")]
    runs[0] = replace(runs[0], steps=8)
    assert len(runs) == REPLICAS["cuda"]
    alone = [train(run, Store(tmp_path / "alone"), device=device).outcome() for run in runs]
    del captures[:]
    together = outcomes(runs, tmp_path / "together", device=device)
    for one, other in zip(together, alone, strict=True):
        assert_same(device, one, other)
    assert captures == [len(runs), len(runs) - 1]


def test_a_captured_run_is_resumed(device, captures, tmp_path):
    whole = train(COPY, Store(tmp_path / "whole"), device=device).outcome()
    for step in (2, 8, 13):
        store = Store(tmp_path / f"from {step}")
        leave_checkpoint(COPY, store, step, device)
        assert_same(device, train(COPY, store, device=device).outcome(), whole)


@on_a_cpu  # where the runs end at the same steps
def test_a_group_is_captured_again_when_one_ends(captures, tmp_path, monkeypatch):
    settle(monkeypatch, hold=20)
    runs = [replace(SETTLING, seed=seed, stop="settled") for seed in range(3)]
    alone = [train(run, Store(tmp_path / "alone")).outcome() for run in runs]
    ends = [outcome["steps"] for outcome in alone]
    assert len(set(ends)) > 1
    del captures[:]
    assert outcomes(runs, tmp_path / "together") == alone
    assert captures == [sum(end > step for end in ends) for step in sorted({0, *ends})[:-1]]


@on_a_cpu
@pytest.mark.parametrize("before", [0, 2])
def test_a_step_that_cannot_be_captured_stays_eager_and_says_so_once(
    before, captures, tmp_path, monkeypatch
):
    whole = train(COPY, Store(tmp_path / "whole")).outcome()

    def broken(members):
        for _ in range(before):  # random numbers are drawn before it fails
            members[0].run.task.batch(4, generator=members[0].generator)
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setitem(stepping.CAPTURES, "cpu", broken)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        record = train(COPY, Store(tmp_path / "eager"))
    assert record.outcome() == whole
    assert [str(w.message) for w in caught] == [
        "training without a CUDA graph: operation not permitted when stream is capturing"
    ]


@pytest.mark.gpu
@pytest.mark.parametrize("name", RUNS)
def test_on_a_gpu_no_step_waits_for_the_device(name, small_cifar10):
    group = Replicas([TrainingState(RUNS[name], torch.device("cuda"))])
    group.take_step()  # the data go to the device once
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            group.take_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert group.replay is not None


@pytest.mark.gpu
@pytest.mark.parametrize("name", RUNS)
def test_on_the_same_batches_a_gpu_takes_the_steps_of_the_cpu(name, small_cifar10):
    on_cpu, on_gpu = (
        steps_of(
            RUNS[name], 12, device, captured=False, generator=torch.Generator().manual_seed(3)
        )[0]
        for device in ("cpu", "cuda")
    )
    assert on_gpu == pytest.approx(on_cpu, rel=1e-3)


@pytest.mark.gpu
def test_a_record_of_a_gpu_agrees_with_that_of_the_cpu(tmp_path):
    """They draw other batches, so only what does not hang on them is the same, within bounds."""
    on_cpu, on_gpu = (
        train(SETTLING, Store(tmp_path / device), device=device) for device in ("cpu", "cuda")
    )
    assert on_gpu.parameters == on_cpu.parameters
    assert on_gpu.data == on_cpu.data
    assert max(r.metrics["solved_step"] for r in (on_cpu, on_gpu)) <= SETTLING.steps
    assert on_gpu.metrics["mse"] == pytest.approx(on_cpu.metrics["mse"], abs=0.02)
