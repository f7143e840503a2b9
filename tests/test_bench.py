"""The benchmark measures what it says, and says what it measured."""

import functools
import json
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from companion import bench, cli
from companion.evidence import tables
from companion.training.step import TrainingState
from wrnn.errors import WrnnError
from wrnn.recurrence import wave_recurrence
from wrnn.tasks import CopyTask

TINY = (
    bench.Case("copy", 6, 4, 8, 2, 3, 3, True, gpu_target=0.5, cpu_target=2.0),
    bench.Case("adding", 6, 4, 8, 2, 2, 1),
    bench.Case("iRNN", 6, 4, 8, 0, 3, 3, True),
)
SHARED = bench.Case("noise", 6, 4, 8, 2, 3, 3, shared_from=2)
SIZES = {"steps": (2, 4, 8), "batch_size": (1, 2, 4), "channel_size": (4, 8, 16)}
BEST = bench._best(TINY[0], "cpu")


@pytest.fixture
def result(monkeypatch):
    """Run the benchmark on tiny sizes; memory, which takes processes of its own, is given."""
    monkeypatch.setattr(bench, "QUICK_CASES", TINY)
    monkeypatch.setattr(bench, "GROWTH", {name: (values, ()) for name, values in SIZES.items()})
    monkeypatch.setattr(bench, "_memory", lambda case, device, way: 4.0 / case.steps)
    said, saved = [], []
    keep = lambda result: saved.append(json.loads(json.dumps(result)))  # noqa: E731
    result = bench.run_bench("cpu", repeats=2, report=said.append, save=keep)
    assert len(said) == len(saved) == len(TINY) + len(SIZES)
    assert [len(r["cases"]) for r in saved] == [1, 2, 3, 3, 3, 3]
    assert [len(r["growth"]) for r in saved] == [0, 0, 0, 1, 2, 3] and saved[-1] == result
    return result


def test_result_is_json_with_ratios_and_no_absolute_time_on_a_cpu(result):
    assert json.loads(json.dumps(result)) == result
    assert result["kind"] == "cpu" and result["threads"] == torch.get_num_threads()
    assert result["device"].startswith("CPU: ") and result["versions"]["torch"]
    assert [case["name"] for case in result["cases"]] == [case.name for case in TINY]
    assert [list(case["ratios"]) for case in result["cases"]] == [
        [BEST, f"{BEST}, checkpointed"],
        [BEST, f"{BEST}, checkpointed"],
        ["torch.nn.RNN", BEST, f"{BEST}, checkpointed"],
    ]
    assert {case["best"] for case in result["cases"]} == {BEST}
    assert list(result["cases"][0]["memory"]) == ["loop", BEST, f"{BEST}, checkpointed"]
    assert result["cases"][0]["cpu_target"] == 2.0
    given = ["h_n, time first", "all states, time first"]
    given += [name.replace("time", "batch") for name in given]
    for case, other in zip(result["cases"], ("loop", "loop", "torch.nn.RNN"), strict=True):
        ways = ["last state alone", *given, *(f"{other}, {name}" for name in given)]
        assert list(case["calls"]) == ways and case["calls"]["last state alone"] == 1.0
    assert all("milliseconds" not in case for case in result["cases"])
    assert all(case["failed"] == {} for case in result["cases"]) and "peaks" not in result
    assert list(result["growth"]) == ["steps", "batch_size", "channel_size"]
    assert all(fit["relative_time"][0] == 1.0 for fit in result["growth"].values())
    assert result["growth"]["steps"]["way"] == f"{BEST}, checkpointed"
    assert result["growth"]["steps"]["memory"] == [2.0, 1.0, 0.5]
    assert "memory" not in result["growth"]["batch_size"]


def test_a_cpu_gets_no_more_sequences_than_its_memory_holds(monkeypatch):
    large = bench.replace(TINY[0], batch_size=64)
    monkeypatch.setattr(bench, "QUICK_CASES", (large,))
    monkeypatch.setattr(bench, "GROWTH", {})
    monkeypatch.setattr(bench, "CPU_STATES", large.state_bytes / 3)
    monkeypatch.setattr(bench, "_memory", lambda case, device, way: None)
    (entry,) = bench.run_bench("cpu", repeats=1)["cases"]
    assert entry["batch_size"] == 16 and entry["state_bytes"] <= large.state_bytes / 3
    assert entry["memory"] == {}


def test_table_has_a_line_per_case_and_per_growing_size(result):
    lines = bench.format_table(result).splitlines()
    assert len(lines) == 2 + len(TINY) + 1 + 3 + len(TINY)
    assert lines[-1].startswith("called as torch.nn.RNN is, iRNN: last state alone 1.00, h_n, time")
    first, second = result["cases"][0]["ratios"].values()
    assert lines[2].split() == ["copy", "6", "4", f"{first:.2f}", f"{second:.2f}", "-", "0.67"]
    assert lines[4].split()[0] == "iRNN" and "-" not in lines[4].split()
    assert "no floor" in lines[5] and "as its power" in lines[6]


def test_only_what_matches_is_measured(result, monkeypatch):
    some = bench.run_bench("cpu", repeats=1, match="adding|with batch")
    assert [case["name"] for case in some["cases"]] == ["adding"]
    assert list(some["growth"]) == ["batch_size"]
    for match, message in (
        ("MNIST", "no case and no growth of the quick profile"),
        ("(", "--case"),
    ):
        with pytest.raises(WrnnError, match=message):
            bench.run_bench("cpu", match=match)


def test_a_way_that_cannot_run_is_left_out_with_its_reason(monkeypatch):
    def refused(*arguments, **options):
        raise torch.OutOfMemoryError("out of memory: tried to allocate 40 GiB\nmore")

    ways = bench._ways
    monkeypatch.setattr(bench, "_ways", lambda *of: ways(*of) | {"large": lambda: refused})
    monkeypatch.setattr(bench, "_memory", lambda case, device, way: None)
    entry = bench._entry(TINY[0], "cpu", 1, None)
    assert entry["failed"] == {"large": "out of memory: tried to allocate 40 GiB"}
    assert list(entry["ratios"]) == [BEST, f"{BEST}, checkpointed"]
    monkeypatch.setattr(bench, "_ways", lambda *of: ways(*of) | {"loop": lambda: refused})
    with pytest.raises(WrnnError, match="copy: loop cannot run: out of memory: tried"):
        bench._entry(TINY[0], "cpu", 1, None)


def test_only_the_ways_that_are_wanted_are_made(monkeypatch):
    monkeypatch.setattr(bench, "_graphed", lambda make: pytest.fail("a graph was recorded"))
    monkeypatch.setattr(bench, "_best", lambda *of: BEST)
    made, step = [], bench._step
    monkeypatch.setattr(
        bench,
        "_step",
        lambda case, device, outputs: made.append(case) or step(case, "cpu", outputs),
    )
    ways = bench._ways(TINY[0], "cuda")  # as where a GPU is
    assert made == [] and list(ways)[:2] == ["loop", "CUDA graph"]
    ways[f"{BEST}, checkpointed"]()()
    assert made == [TINY[0]]


def test_nothing_rounds_to_tf32_while_ways_are_compared():
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = True
        with bench._exact_products():
            assert not any(backend.allow_tf32 for backend in backends)
        assert all(backend.allow_tf32 for backend in backends)
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


def test_peaks_are_bytes_and_operations_per_second(monkeypatch):
    monkeypatch.setattr(bench, "_medians", lambda ways, *of: {way: 0.5 for way in ways})
    copied, multiplied = bench._peaks(1, "cpu", 2**12)
    assert copied == 2 * 4 * 2**12 / 0.5  # read and written
    assert multiplied == 2 * 32**3 / 0.5


def as_on_a_gpu(result):
    """The result as a GPU would give it."""
    for case in result["cases"]:
        case["milliseconds"] = {"loop": 100.0, case["best"]: 4.0}
    floors = {"arithmetic": 2.0, "memory bandwidth": 1.0}
    result["cases"][0] |= {"floors": floors, "share_of_floor": 0.5}
    return result | {"kind": "cuda"}


def test_table_of_a_gpu_has_times_floors_and_limits(result):
    head, copy, adding = bench.format_table(as_on_a_gpu(result)).splitlines()[1:4]
    assert head.split()[-6:] == ["floor", "(ms)", "share", "of", "floor", "limit"]
    assert copy.split()[-4:] == ["4", "2", "50%", "arithmetic"]
    assert adding.split()[-3:] == ["-", "-", "-"]


def test_results_of_a_folder_are_read_and_checked(result, tmp_path):
    assert bench.read_results(tmp_path / "none") == []
    for name, kept in (("b", result), ("a", as_on_a_gpu(json.loads(json.dumps(result))))):
        (tmp_path / f"{name}.json").write_text(json.dumps(kept))
    read = bench.read_results(tmp_path)
    assert [r["kind"] for r in read] == ["cuda", "cpu"] and read[1] == result


def test_files_from_before_are_understood(result, tmp_path):
    """Such as called the numba way "compiled" and measured no calls."""
    for case in result["cases"]:
        del case["calls"]
    kept = json.dumps(result)
    former = kept.replace('"numba"', '"compiled"').replace('"numba, ', '"compiled, ')
    assert former != kept
    (tmp_path / "old.json").write_text(former)
    assert bench.read_results(tmp_path) == [result]
    assert "called as" not in bench.format_table(result)


def test_the_chapter_shows_what_is_measured(result, tmp_path, monkeypatch):
    book = pytest.importorskip("companion.book")
    source = Path(__file__).parents[1] / "notebooks" / "C_performance.py"
    gpu = as_on_a_gpu(json.loads(json.dumps(result))) | {"device": "NVIDIA H200"}
    gpu["cases"][0]["name"] = bench.PAPER_CASES[0].name
    (tmp_path / "bench").mkdir()
    monkeypatch.setenv("WRNN_RECORDS", str(tmp_path))
    for name, kept in (("cpu", result), ("gpu", gpu)):
        (tmp_path / "bench" / f"{name}.json").write_text(json.dumps(kept))
    book.execute(source, destination=tmp_path / "book", parameters={"profile": "smoke"})
    pages = (tmp_path / "book" / "generated").glob("*.md")
    shown = {page.stem: page.read_text(encoding="utf-8") for page in pages}
    assert [name for name, text in shown.items() if "not yet measured" in text.lower()] == [
        "tab-performance-floors"  # one configuration of the paper is measured
    ]
    assert "| 4 | 50 |" in shown["tab-performance-floors"]
    ratio = result["cases"][2]["ratios"]["torch.nn.RNN"]
    assert f"| {tables.number(ratio)} |" in shown["tab-performance-cpu"]


def test_the_command_prints_a_table_and_writes_the_file(result, tmp_path, monkeypatch, capsys):
    def run_bench(device, *, profile, repeats, match, report, save):
        assert (device, profile, repeats, match) == ("cpu", "paper", 3, "copy|adding")
        report("copy")
        save(result)
        return result

    monkeypatch.setattr(bench, "run_bench", run_bench)
    command = "wrnn bench --device cpu --profile paper --repeats 3 --case copy|adding --json"
    monkeypatch.setattr("sys.argv", [*command.split(), str(tmp_path / "cpu.json")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    printed = capsys.readouterr()
    assert printed.out == bench.format_table(result) + "\n" and "measuring copy" in printed.err
    assert bench.read_results(tmp_path) == [result]


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("kind",), "tpu", "kind is 'tpu': expected cpu or cuda"),
        (("device",), 7, "device and versions must be text"),
        (("cases", 0, "ratios"), None, "'ratios'"),
        (("cases", 0, "ratios", BEST), "fast", "must be real number"),
        (("cases", 0, "ratios", BEST), float("nan"), "nan where a positive number belongs"),
        (("cases", 1, "steps"), -3, "-3 where a positive number belongs"),
        (("growth", "steps", "relative_line"), [1.0], "shorter"),
        (("growth", "batch_size", "exponent"), None, "'exponent'"),
        (("peaks",), [1e12, -1.0], "-1.0 where a positive number belongs"),
    ],
)
def test_a_file_that_is_no_result_is_one_clear_line(result, tmp_path, keys, value, message):
    *path, last = keys
    inside = functools.reduce(lambda values, key: values[key], path, result)
    inside[last] = value
    if value is None:
        del inside[last]
    for content in (json.dumps(result), json.dumps(result)[:99]):
        (tmp_path / "cpu.json").write_text(content)
        with pytest.raises(WrnnError) as error:
            bench.read_results(tmp_path)
        start = f"{tmp_path / 'cpu.json'} is not a benchmark result: "
        assert str(error.value).startswith(start) and "\n" not in str(error.value)
        assert message in str(error.value) or len(content) == 99


@pytest.mark.parametrize("case", [*TINY, SHARED])
def test_every_way_computes_the_same_gradients(case):
    ways = bench._ways(case, "cpu")
    expected, *others = [make()() for make in ways.values()]
    assert others and (f"{BEST}, shared input" in ways) == (case is SHARED)
    for other in others:
        torch.testing.assert_close(other, expected)


@pytest.mark.parametrize("case", TINY)
def test_every_way_to_call_computes_the_same_gradients(case):
    steps = bench._calls(case, "cpu")
    for kind in ("h_n", "all states"):
        expected, *others = [step() for way, step in steps.items() if kind in way]
        assert len(others) == 3
        for other in others:
            torch.testing.assert_close(other, expected)


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


def test_linear_cost_is_a_line_of_exponent_one():
    fit = bench.fit_line((100, 1000, 10_000), (1.0, 10.0, 100.0))
    assert fit["exponent"] == pytest.approx(1.0)
    assert fit["relative_line"] == pytest.approx([1.0, 10.0, 100.0])
    assert bench.fit_line((2, 4, 8), (1.5, 2.5, 4.5))["relative_line"] == pytest.approx(
        [1.0, 2.5 / 1.5, 3.0]  # a fixed cost of 0.5
    )
    quadratic = bench.fit_line((1, 10, 100), (1.0, 100.0, 10_000.0))
    assert quadratic["exponent"] == pytest.approx(2.0)
    assert quadratic["relative_line"][-1] < 0.5 * quadratic["relative_time"][-1]
    pairs = zip(quadratic["relative_time"], quadratic["relative_line"], strict=True)
    assert sum((1 - line / time) / time for time, line in pairs) == pytest.approx(0.0, abs=1e-9)


def test_replicas_take_whole_training_steps(monkeypatch):
    monkeypatch.setattr(bench, "REPLICA_COUNTS", (1, 3))
    monkeypatch.setattr(bench, "CopyTask", lambda lag: CopyTask(10))
    taken, update = [], TrainingState.update
    monkeypatch.setattr(TrainingState, "update", lambda own: taken.append(own) or update(own))
    fit = bench._replicas("cpu", 1)
    assert fit["values"] == [1, 3]
    assert len(set(map(id, taken))) == 1 + 3
    assert len(set(Counter(map(id, taken)).values())) == 1  # as many steps of each


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells")
def test_checkpoints_take_less_memory():
    case = bench.Case("long", 1024, 32, 64, 4, 2, 1)  # 32 MiB of states
    plain, checkpointed = (
        bench._memory(case, "cpu", way) for way in (BEST, f"{BEST}, checkpointed")
    )
    assert 1.0 <= plain < 1.5
    assert checkpointed < 0.5 * plain


def test_floor_is_the_largest_of_three():
    peaks = bench.PEAKS["H200"]
    mnist = bench.Case("sMNIST", 784, 128, 256, 16, 1, 10).floors(*peaks)
    assert max(mnist, key=mnist.get) == "arithmetic"
    assert mnist["arithmetic"] == pytest.approx(1.80, rel=0.01)
    short = bench.Case("copy", 120, 1, 100, 6, 10, 10, True).floors(*peaks)
    assert max(short, key=short.get) == "the chain of steps"
    assert short["the chain of steps"] == pytest.approx(0.036)
    assert bench.Case("iRNN", 120, 1, 100, 0, 10, 10).floors(*peaks) == {}


def test_arithmetic_of_the_floor_is_that_of_the_loop():
    """What PyTorch counts in one forward and backward pass, the input without a gradient."""
    x, h_0 = torch.rand(8, 4, 5), torch.zeros(4, 30)  # (T, B, d), (B, hidden)
    weight_ih, weight_hh = torch.rand(30, 5), torch.rand(3, 3, 3)
    for tensor in (h_0, weight_ih, weight_hh):
        tensor.requires_grad_()
    with FlopCounterMode(display=False) as counter:
        wave_recurrence(x, h_0, weight_ih, None, weight_hh, None, backend="loop").sum().backward()
    floors = bench.Case("any", 8, 4, 10, 3, 5, 2).floors(bandwidth=1.0, speed=1e3)
    assert floors["arithmetic"] == pytest.approx(counter.get_total_flops())
    shared = bench.Case("any", 8, 4, 10, 3, 5, 2, shared_from=4).floors(bandwidth=1.0, speed=1e3)
    assert shared["arithmetic"] == pytest.approx(floors["arithmetic"] - 8 * 4 * 30 * 2 * 5)


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
    monkeypatch.setattr(bench, "GROWTH", {"steps": ((2, 4, 8), ())})
    result = bench.run_bench("cuda", repeats=2)
    fused = ["triton", "triton, CUDA graph", "triton, tf32", "triton, checkpointed"]
    ways = {"CUDA graph", "torch.compile", *fused}
    for case in result["cases"]:  # torch.compile needs a compiler, which not every machine has
        assert case["ratios"].keys() | case["failed"].keys() == ways
        assert case["failed"].keys() <= {"torch.compile"}
        assert case["floors"] and case["share_of_floor"] > 0
    assert all(peak > 1e9 for peak in result["peaks"])
    assert all(case["milliseconds"]["loop"] > 0 for case in result["cases"])
    assert all(case["memory"]["triton"] > 1 for case in result["cases"])
    assert result["growth"]["replicas"]["values"] == list(bench.REPLICA_COUNTS)
