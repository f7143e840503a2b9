"""The tasks: layouts, metrics, splits, randomness and bad input."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from wrnn.errors import WrnnError
from wrnn.tasks import (
    TASKS,
    AddingTask,
    CopyTask,
    NoisySequentialCIFAR10,
    NoisySequentialDigits,
    SequentialDigits,
    SequentialMNIST,
    data,
    noisy,
    task_from_dict,
)

OFFLINE_TASKS = [
    CopyTask(20),
    CopyTask(10, layout="text"),
    AddingTask(30),
    SequentialDigits(),
    SequentialDigits(permuted=True),
    NoisySequentialDigits(),
    NoisySequentialDigits(noise="fresh"),
]
every_offline_task = pytest.mark.parametrize("task", OFFLINE_TASKS, ids=str)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def expected_copy(lag: int, layout: str, symbols: list[int]) -> tuple[list[int], list[int]]:
    """One sequence of the copy task, written out as a list of characters would be."""
    if layout == "text":
        inputs = symbols + (lag - 10) * [0] + [9] + 9 * [0]
        targets = lag * [0] + symbols
    elif lag == 10:
        inputs = symbols[:9] + [9] + 10 * [0]
        targets = 10 * [0] + symbols[:9] + [9]
    else:
        inputs = symbols + (lag - 11) * [0] + [9] + 10 * [0]
        targets = lag * [0] + symbols
    return inputs, targets


@pytest.mark.parametrize("layout", ["code", "text"])
@pytest.mark.parametrize("lag", [10, 11, 20, 90])
def test_copy_layout_bit_for_bit(lag, layout):
    task = CopyTask(lag, layout=layout)
    x, y = task.batch(7, generator=generator(lag))
    symbols = torch.randint(1, 9, (10, 7), generator=generator(lag))  # the same draw, by hand
    assert x.shape == (task.length, 7, 10) and x.dtype == torch.float32
    assert y.shape == (task.length, 7) and y.dtype == torch.int64
    assert torch.equal(x.sum(-1), torch.ones(task.length, 7)) and set(x.unique().tolist()) == {0, 1}
    for column in range(7):
        inputs, targets = expected_copy(lag, layout, symbols[:, column].tolist())
        assert x[:, column].argmax(-1).tolist() == inputs
        assert y[:, column].tolist() == targets


def test_copy_symbols_are_uniform_over_one_to_eight():
    _, y = CopyTask(20).batch(4000, generator=generator())
    counts = torch.bincount(y[-10:].flatten(), minlength=10)
    assert counts[0] == counts[9] == 0
    assert (counts[1:9] - 5000).abs().max() < 5 * math.sqrt(5000 * 7 / 8)


@pytest.mark.parametrize("layout", ["code", "text"])
@pytest.mark.parametrize("lag", [10, 20, 90])
def test_memoryless_baseline_is_what_a_memoryless_model_gets(lag, layout):
    """A model that knows every fixed target and guesses the symbols."""
    task = CopyTask(lag, layout=layout)
    _, y = next(task.evaluation_batches("test"))
    output = F.one_hot(y, 10).float() * 1000
    unknown = 9 if (lag, layout) == (10, "code") else 10
    output[lag : lag + unknown] = torch.tensor([-1000.0] + 8 * [0.0] + [-1000.0])
    metrics = task.metrics(output, y)
    for metric in ("cross_entropy", "printed_mse"):
        assert metrics[metric] == pytest.approx(task.memoryless_baseline(metric), rel=1e-6)


def test_the_floor_is_one_step_of_float32_below_certainty():
    """Between certain and one step of float32 below it a symbol has no loss, and there is one."""
    losses = set()
    for lead in torch.arange(14, 24, 0.125):  # of the right logit over one rival
        logits = torch.tensor([[lead, 0.0]])
        losses.add(F.cross_entropy(logits, torch.tensor([0])).item())
    task = CopyTask(10)
    assert 0.0 in losses and min(losses - {0.0}) == pytest.approx(task.floor, rel=1e-6)
    assert task.settled.floor == task.float32_floor() == task.floor == 2.0**-23
    assert task.float32_floor("printed_mse") == task.floor / 50


def test_copy_metrics_against_their_definitions():
    task = CopyTask(12)
    _, y = task.batch(5, generator=generator())  # (22, 5)
    output = torch.randn(task.length, 5, 10, generator=generator(1))
    metrics = task.metrics(output, y)
    p = output.double().exp() / output.double().exp().sum(-1, keepdim=True)
    truth = F.one_hot(y, 10).bool()
    cross_entropy = -p[truth].log().mean().item()
    assert metrics == {
        "cross_entropy": pytest.approx(cross_entropy, rel=1e-5),
        "printed_mse": pytest.approx(cross_entropy / 50, rel=1e-5),
        "mse": pytest.approx(((p - 1.0 * truth) ** 2).mean().item(), rel=1e-5),
        "token_accuracy": pytest.approx(100 * (p.argmax(-1) == y)[12:].double().mean().item()),
    }
    assert task.loss(output, y).item() == metrics["cross_entropy"]


@pytest.mark.parametrize("length", [2, 7, 100])
def test_adding_marks_one_number_in_each_half(length):
    x, y = AddingTask(length).batch(300, generator=generator())
    numbers, markers = x.unbind(-1)
    assert x.shape == (length, 300, 2) and y.shape == (300,) and y.dtype == torch.float32
    assert numbers.min() >= 0 and numbers.max() < 1
    assert set(markers.unique().tolist()) <= {0, 1}
    half = length // 2
    assert (markers[:half].sum(0) == 1).all() and (markers[half:].sum(0) == 1).all()
    assert torch.equal(y, (numbers * markers).sum(0))
    if length == 7:  # every step can be marked
        assert (markers.sum(1) > 0).all()


def test_adding_baseline_is_that_of_always_answering_one():
    task = AddingTask(50, test_batches=20)
    errors = torch.cat([(y - 1) ** 2 for _, y in task.evaluation_batches("test")]).double()
    assert task.constant_baseline() == pytest.approx(errors.mean().item(), rel=1e-6)
    spread = errors.std().item() / math.sqrt(len(errors))
    assert abs(task.constant_baseline() - 1 / 6) < 4 * spread < 0.01


def test_adding_metric_is_the_loss():
    task = AddingTask(10)
    _, y = task.batch(4, generator=generator())
    assert task.metrics(y[:, None] + 0.5, y) == {"mse": pytest.approx(0.25)}
    assert task.loss(y[:, None] + 0.5, y).item() == pytest.approx(0.25)


@pytest.mark.parametrize("task", [SequentialDigits(), NoisySequentialDigits()], ids=str)
def test_digits_splits_are_disjoint_complete_and_seeded(task):
    splits = {split: task.split_indices(split) for split in task.splits}
    assert [len(index) for index in splits.values()] == [1297, 200, 300]
    assert sorted(torch.cat(list(splits.values())).tolist()) == list(range(1797))
    other = type(task)(split_seed=1)
    for name, index in splits.items():
        assert torch.equal(index, type(task)().split_indices(name))
        assert not torch.equal(index, other.split_indices(name))


def test_digits_are_shown_pixel_by_pixel():
    task, bunch = SequentialDigits(), load_digits()
    index = task.split_indices("test").numpy()
    x, y = next(task.evaluation_batches("test", 300))
    assert torch.equal(x[:, :, 0].T, torch.tensor(bunch.data[index] / 16).float())
    assert torch.equal(y, torch.tensor(bunch.target[index]))
    assert x.min() == 0 and x.max() == 1


def test_permutation_is_seeded_and_applied():
    plain, permuted = SequentialDigits(), SequentialDigits(permuted=True)
    order = permuted.permutation()
    assert sorted(order.tolist()) == list(range(64)) and order.tolist() != list(range(64))
    assert torch.equal(order, SequentialDigits(permuted=True).permutation())
    other = SequentialDigits(permuted=True, permutation_seed=1)
    assert not torch.equal(order, other.permutation())
    (x, y), (x_permuted, y_permuted) = (
        task.batch(5, generator=generator()) for task in (plain, permuted)
    )
    assert torch.equal(x_permuted, x[order]) and torch.equal(y, y_permuted)
    fingerprints = [task.fingerprint()["permutation_sha256"] for task in (plain, permuted, other)]
    assert len(set(fingerprints)) == 3


def test_noisy_digits_are_rows_then_noise():
    plain = next(SequentialDigits().evaluation_batches("test", 6))[0]  # (64, 6, 1)
    x, _ = next(NoisySequentialDigits().evaluation_batches("test", 6))
    assert x.shape == (100, 6, 8)
    assert torch.equal(x[:8], plain.reshape(8, 8, 6).transpose(1, 2))
    assert abs(x[8:].std().item() - 1) < 0.2 and abs(x[8:].mean().item()) < 0.2


def test_what_a_task_gives_may_be_changed():
    noisy, pixels = NoisySequentialDigits(), SequentialDigits(permuted=True)
    for ask in (noisy.fixed_noise, pixels.permutation, lambda: pixels.split_indices("test")):
        before = ask().clone()
        ask().zero_()
        assert torch.equal(ask(), before)


def test_fixed_noise_is_one_tensor_for_every_sample_and_split():
    task = NoisySequentialDigits()
    noise = task.fixed_noise()
    batches = [task.batch(4, generator=generator(seed)) for seed in (0, 1)]
    batches += [next(task.evaluation_batches(split, 4)) for split in task.splits]
    for x, _ in batches:
        assert torch.equal(x[8:], noise[:, None].expand(-1, 4, -1))
    assert not torch.equal(noise, NoisySequentialDigits(noise_seed=1).fixed_noise())
    others = (NoisySequentialDigits("fresh"), NoisySequentialDigits(length=8), AddingTask(50))
    assert [t.shared_from for t in (task, *others)] == [8, None, None, None]


def test_fresh_noise_differs_between_samples_and_batches_but_not_between_evaluations():
    task = NoisySequentialDigits(noise="fresh")
    draws = generator()
    first, second = (task.batch(2, generator=draws)[0][8:] for _ in range(2))
    assert not torch.equal(first[:, 0], first[:, 1]) and not torch.equal(first, second)
    whole = next(task.evaluation_batches("test", 6))[0]
    parts = [x for x, _ in task.evaluation_batches("test", 2)][:3]
    assert torch.equal(whole, torch.cat(parts, dim=1))
    assert not torch.equal(whole[8:, 0], whole[8:, 1])
    validation = next(task.evaluation_batches("validation", 6))[0]
    assert not torch.equal(whole[8:], validation[8:])


@pytest.fixture
def small_cifar10(monkeypatch):
    """Twenty random colour images in place of CIFAR10, the last eight as the test set."""
    monkeypatch.setattr(NoisySequentialCIFAR10, "validation_size", 5)
    colours = torch.randint(256, (20, 32, 32, 3), generator=generator()).to(torch.uint8)
    images = data.ImageData(
        "CIFAR10", data._by_row(colours), torch.arange(20) % 10, 255, official_test=8
    )
    monkeypatch.setattr(data, "cifar10", lambda source: images)
    return colours


def test_cifar10_rows_hold_red_then_green_then_blue(small_cifar10):
    task = NoisySequentialCIFAR10()
    assert [len(task.split_indices(split)) for split in task.splits] == [7, 5, 8]
    x, y = next(task.evaluation_batches("test", 8))
    assert y.tolist() == [2, 3, 4, 5, 6, 7, 8, 9]
    rows = small_cifar10[12:].permute(1, 0, 3, 2)  # (rows, B, colours, columns)
    torch.testing.assert_close(x[:32], rows.flatten(2) / 255)
    assert torch.equal(x[32:, 3], task.fixed_noise()) and task.fixed_noise().shape == (968, 96)
    normalised, _ = next(NoisySequentialCIFAR10(normalised=True).evaluation_batches("test", 8))
    mean, std = torch.tensor([[0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]])[..., None]
    torch.testing.assert_close(normalised[:32], ((rows / 255 - mean) / std).flatten(2))
    assert torch.equal(x[32:], normalised[32:])


def test_image_metrics():
    task = SequentialDigits()
    y = torch.tensor([0, 1, 2, 3])
    output = F.one_hot(torch.tensor([0, 1, 2, 9]), 10) * 50.0
    expected = {"accuracy": 75.0, "cross_entropy": pytest.approx(50 / 4, rel=1e-6)}
    assert task.metrics(output, y) == expected


def test_titles_name_the_data_honestly():
    for task in (SequentialDigits(), SequentialDigits(permuted=True), NoisySequentialDigits()):
        assert "digits" in task.title and "MNIST" not in task.title and "CIFAR" not in task.title
        assert task.fingerprint()["data"] == "digits"
    assert "JPEG" in NoisySequentialCIFAR10(source="folder").title
    assert "JPEG" not in NoisySequentialCIFAR10().title


@every_offline_task
def test_a_batch_depends_on_the_state_of_its_generator_only(task):
    draws, resumed = generator(3), generator(9)
    task.batch(6, generator=draws)
    resumed.set_state(draws.get_state())
    expected = task.batch(6, generator=draws)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    batch = task.batch(6, generator=resumed)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(expected, batch, strict=True))
    assert not torch.equal(batch[0], task.batch(6, generator=generator(4))[0])


@every_offline_task
def test_evaluation_is_fixed_and_does_not_depend_on_the_batch_size(task):
    def whole(split, batch_size):
        xs, ys = zip(*task.evaluation_batches(split, batch_size), strict=True)
        return torch.cat(xs, dim=1), torch.cat(ys, dim=-1)

    state, first = torch.get_rng_state(), []
    for split in ("validation", "test"):
        (x, y), (x_again, y_again) = whole(split, None), whole(split, 37)
        assert torch.equal(x, x_again) and torch.equal(y, y_again)
        assert x.shape[1] == task.fingerprint()[split]
        first.append(x[:, :8])
    assert not torch.equal(*first)
    assert torch.equal(state, torch.get_rng_state())


@every_offline_task
def test_shapes_are_as_announced(task):
    x, y = task.batch(3, generator=generator(), split="validation")
    assert x.shape == (task.length, 3, task.input_size) and x.dtype == torch.float32
    assert y.shape == ((task.length, 3) if task.every_step else (3,))
    output = torch.zeros(*y.shape, task.output_size, requires_grad=True)
    task.loss(output, y).backward()
    assert output.grad.abs().sum() > 0
    metrics = task.metrics(output, y)
    assert task.selection[0] in metrics and task.selection[1] in ("min", "max")
    assert all(type(value) is float for value in metrics.values())


@pytest.mark.gpu
@every_offline_task
@pytest.mark.parametrize("source", ["cpu", "cuda"])
def test_batches_on_the_gpu(task, source):
    draws = [torch.Generator(source).manual_seed(0) for _ in range(2)]
    x, y = task.batch(6, generator=draws[0], device="cuda")
    again = task.batch(6, generator=draws[1], device="cuda")
    assert x.is_cuda and y.is_cuda and torch.equal(x, again[0]) and torch.equal(y, again[1])
    if source == "cpu":  # the same sequences as on the CPU
        x_cpu, y_cpu = task.batch(6, generator=generator())
        assert torch.equal(x.cpu(), x_cpu) and torch.equal(y.cpu(), y_cpu)
    for split in ("validation", "test"):
        on_gpu = next(task.evaluation_batches(split, 9, device="cuda"))
        on_cpu = next(task.evaluation_batches(split, 9))
        assert all(torch.equal(a.cpu(), b) for a, b in zip(on_gpu, on_cpu, strict=True))


@pytest.mark.parametrize(
    "task", [*OFFLINE_TASKS, SequentialMNIST(), NoisySequentialCIFAR10(source="folder")], ids=str
)
def test_a_task_survives_json(task):
    assert task_from_dict(json.loads(json.dumps(task.to_dict()))) == task
    assert TASKS[task.name] is type(task)


def test_numpy_scalars_are_taken_as_those_of_python():
    one = NoisySequentialCIFAR10(noise=np.str_("fixed"), length=np.int32(50), normalised=np.True_)
    other = NoisySequentialCIFAR10(length=50, normalised=True)
    assert json.dumps(one.to_dict()) == json.dumps(other.to_dict())


@every_offline_task
def test_the_default_type_of_floats_changes_no_task(task):
    for cached in (noisy._fixed_noise, noisy._own_noise):
        cached.cache_clear()
    first, _ = task.batch(3, generator=generator())
    fingerprint = task.fingerprint()
    torch.set_default_dtype(torch.float64)
    try:
        for cached in (noisy._fixed_noise, noisy._own_noise):
            cached.cache_clear()
        x, _ = task.batch(3, generator=generator())
        assert x.dtype == torch.float32 and torch.equal(x, first)
        assert task.fingerprint() == fingerprint
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_loss_of_the_adding_task_has_a_gradient_for_targets_of_either_type():
    output = torch.randn(4, 1, dtype=torch.float64, requires_grad=True)
    AddingTask(20).loss(output, torch.randn(4, dtype=torch.float64)).backward()
    assert output.grad.dtype == torch.float64


def test_fingerprints_tell_seeds_apart():
    pairs = [
        (CopyTask(20), CopyTask(20, test_seed=1)),
        (AddingTask(20), AddingTask(20, test_seed=1)),
        (NoisySequentialDigits(), NoisySequentialDigits(noise_seed=1)),
        (SequentialDigits(), SequentialDigits(split_seed=1)),
    ]
    for one, other in pairs:
        assert one.fingerprint() != other.fingerprint()
        json.dumps(one.fingerprint())


DIGITS, NOISY = SequentialDigits(), NoisySequentialCIFAR10
BAD_INPUT = [  # a call, its arguments, and what the one line must say
    (CopyTask, dict(lag=9), "lag must be an integer of at least 10, not 9"),
    (CopyTask, dict(lag=20.0), "lag must be an integer of at least 10, not 20.0"),
    (CopyTask, dict(lag=True), "lag must be an integer of at least 10, not True"),
    (CopyTask, dict(lag=20, layout="book"), "layout must be one of 'code', 'text', not 'book'"),
    (CopyTask, dict(lag=20, test_batch_size=0), "test_batch_size must be an integer of at least 1"),
    (CopyTask(20).memoryless_baseline, dict(metric="mse"), "metric must be one of"),
    (AddingTask, dict(length=1), "length must be an integer of at least 2, not 1"),
    (SequentialMNIST, dict(permuted="yes"), "permuted must be True or False, not 'yes'"),
    (SequentialDigits, dict(split_seed=0.5), "split_seed must be"),
    (NOISY, dict(noise="none"), "noise must be one of 'fixed', 'fresh', not 'none'"),
    (NOISY, dict(length=31), "length must be an integer of at least 32, not 31"),
    (NOISY, dict(source="web"), "source must be one of 'torchvision', 'folder'"),
    (task_from_dict, dict(description={"name": "sort"}), "must be one of 'copy', 'adding'"),
    (task_from_dict, dict(description={"name": "copy", "T": 1}), "a setting of task 'copy' must"),
    (task_from_dict, dict(description={"name": "copy"}), "task 'copy' lacks a setting"),
    (
        DIGITS.batch,
        dict(batch_size=4, generator=generator(), split="test"),
        "split must be one of 'train', 'validation', not 'test'",
    ),
    (
        AddingTask(9).evaluation_batches,
        dict(split="train"),
        "split must be one of 'validation', 'test', not 'train'",
    ),
    (
        DIGITS.loss,
        dict(output=torch.zeros(3, 10), y=torch.zeros(4, dtype=torch.int64)),
        "the output has shape (3, 10), the targets need (4, 10)",
    ),
]


@pytest.mark.parametrize(("call", "arguments", "message"), BAD_INPUT, ids=range(len(BAD_INPUT)))
def test_bad_input_is_one_clear_line(call, arguments, message):
    with pytest.raises(WrnnError) as caught:
        call(**arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)
