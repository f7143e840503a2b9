"""The benchmark measures what it says, and says what it measured."""

import json
import time

import pytest
import torch

from wrnn import bench
from wrnn.errors import WrnnError

TINY = (
    bench.Case("copy", 6, 4, 8, 2, 3, 3, True),
    bench.Case("adding", 6, 4, 8, 2, 2, 1),
    bench.Case("iRNN", 6, 4, 8, 0, 3, 3, True),
)


@pytest.fixture
def result(monkeypatch):
    """Run the benchmark on tiny sizes."""
    monkeypatch.setattr(bench, "QUICK_CASES", TINY)
    sizes = {"steps": (2, 4, 8), "batch_size": (1, 2, 4), "channel_size": (4, 8, 16)}
    monkeypatch.setattr(bench, "GROWTH", {name: (values, ()) for name, values in sizes.items()})
    said = []
    result = bench.run_bench("cpu", repeats=2, report=said.append)
    assert len(said) == len(TINY) + len(sizes)
    return result


def test_result_is_json_with_ratios_and_no_absolute_time_on_a_cpu(result):
    assert json.loads(json.dumps(result)) == result
    assert result["kind"] == "cpu" and result["threads"] == torch.get_num_threads()
    assert [case["name"] for case in result["cases"]] == [case.name for case in TINY]
    assert [list(case["ratios"]) for case in result["cases"]] == [
        ["windowed"],
        ["windowed"],
        ["torch.nn.RNN"],
    ]
    assert all("milliseconds" not in case for case in result["cases"])
    assert list(result["growth"]) == ["steps", "batch_size", "channel_size"]
    assert all(fit["relative_time"][0] == 1.0 for fit in result["growth"].values())


def test_table_has_a_line_per_case_and_per_growing_size(result):
    lines = bench.format_table(result).splitlines()
    assert len(lines) == 2 + len(TINY) + 3
    ratio = result["cases"][0]["ratios"]["windowed"]
    assert lines[2].split() == ["copy", "6", "4", f"{ratio:.2f}", "-"]


def test_table_of_a_gpu_has_times_and_floors(result):
    for case in result["cases"]:
        case["milliseconds"] = {"loop": 100.0, "triton": 4.0}
    result["cases"][0] |= {"floor_milliseconds": 2.0, "share_of_floor": 0.5}
    lines = bench.format_table(result | {"kind": "cuda"}).splitlines()
    assert lines[1].split()[-5:] == ["floor", "(ms)", "share", "of", "floor"]
    assert lines[2].split()[-3:] == ["4", "2", "50%"] and lines[3].split()[-2:] == ["-", "-"]


@pytest.mark.parametrize("case", TINY)
def test_every_way_computes_the_same_gradients(case):
    torch.manual_seed(0)  # the input is drawn once for all ways
    loop, other = [step() for step in bench._ways(case, "cpu").values()]
    for a, b in zip(loop, other, strict=True):
        torch.testing.assert_close(a, b)


def test_medians_take_turns_and_drop_the_first():
    order = []

    def way(name, seconds):
        def step():
            order.append(name)
            time.sleep(0.2 if len(order) <= 2 else seconds)

        return step

    medians = bench._medians({"slow": way("slow", 0.02), "fast": way("fast", 0.0)}, 3, "cpu")
    assert order == ["slow", "fast"] * 4
    assert 0.02 <= medians["slow"] < 0.2 and medians["fast"] < medians["slow"]


def test_growth_of_a_linear_cost_is_a_line(monkeypatch):
    times = {"2": 1.5, "4": 2.5, "8": 4.5}
    monkeypatch.setattr(bench, "_medians", lambda ways, *_: {way: times[way] for way in ways})
    fit = bench._growth("steps", (2, 4, 8), "cpu", 1)
    assert fit["r_squared"] == pytest.approx(1.0)
    assert fit["relative_line"] == pytest.approx(fit["relative_time"])
    times["8"] = 20.0
    assert bench._growth("steps", (2, 4, 8), "cpu", 1)["r_squared"] < 0.95


def test_floor_is_the_largest_of_three():
    mnist = bench.Case("sMNIST", 784, 128, 256, 16, 1, 10)
    assert mnist.floor("NVIDIA H200") == pytest.approx(1.80, rel=0.01)  # limited by products
    short = bench.Case("copy", 120, 1, 100, 6, 10, 10, True)
    assert short.floor("NVIDIA H200") == pytest.approx(0.036)  # limited by dependent steps
    assert mnist.floor("NVIDIA T4") is None
    assert bench.Case("iRNN", 120, 1, 100, 0, 10, 10).floor("NVIDIA H200") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profile": "smoke"}, "unknown profile 'smoke': choose quick or paper"),
        ({"repeats": 0}, "repeats must be 1 or more, not 0"),
        ({"device": "tpu"}, "no device 'tpu' here"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message):
    with pytest.raises(WrnnError, match=message):
        bench.run_bench(**arguments)


@pytest.mark.gpu
def test_on_a_gpu_every_way_is_measured(monkeypatch):
    monkeypatch.setattr(bench, "QUICK_CASES", TINY[:2])
    monkeypatch.setattr(bench, "GROWTH", {"steps": ((), (2, 4, 8))})
    result = bench.run_bench("cuda", repeats=2)
    ways = ["CUDA graph", "torch.compile", "triton", "triton, tf32"]
    assert all(list(case["ratios"]) == ways for case in result["cases"])
    assert all(case["milliseconds"]["loop"] > 0 for case in result["cases"])
