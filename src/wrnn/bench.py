"""How fast the recurrence is: every way to compute it, side by side, on the paper's configurations.

One measurement is the forward and the backward pass of one training step, readout included. The
ways take turns in one process and medians are compared, because clocks and neighbours drift. On a
CPU, which shares its time with other programs, only ratios are reported; on a GPU milliseconds too.
"""

import math
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wrnn.errors import WrnnError
from wrnn.recurrence import choose_backend, loop, wave_recurrence

# Copy bandwidth (bytes/s), exact multiply-adds (FLOP/s) and the least time of a dependent step (s)
PEAKS = {"H200": (4.3e12, 67e12, 0.15e-6)}


@dataclass(frozen=True)
class Case:
    """One configuration: sizes as in the paper, `num_channels` 0 for the iRNN."""

    name: str
    steps: int
    batch_size: int
    channel_size: int
    num_channels: int
    input_size: int
    output_size: int
    every_step: bool = False

    def floor(self, device_name: str) -> float | None:
        """Return the least milliseconds of a step on a GPU whose peaks are known, else None.

        The largest of: states written and read once at full bandwidth; three products (state,
        gradient of the state, gradient of the kernel) at full speed; 2 T dependent steps.
        """
        peaks = [values for name, values in PEAKS.items() if name in device_name]
        if not peaks or not self.num_channels:
            return None
        bandwidth, speed, latency = peaks[0]
        state = self.batch_size * self.num_channels * self.channel_size * self.steps
        products = 3 * 2 * state * (3 * self.num_channels + self.input_size)
        floors = (2 * 4 * state / bandwidth, products / speed, 2 * self.steps * latency)
        return 1e3 * max(floors)


PAPER_CASES = (
    Case("copy, lag 100", 120, 128, 100, 6, 10, 10, True),
    Case("copy, lag 500", 520, 128, 100, 6, 10, 10, True),
    Case("adding, T = 400", 400, 128, 100, 27, 2, 1),
    Case("adding, T = 1000", 1000, 128, 100, 27, 2, 1),
    Case("sMNIST, n = 256, c = 16", 784, 128, 256, 16, 1, 10),
    Case("sMNIST, n = 169, c = 32", 784, 128, 169, 32, 1, 10),
    Case("sMNIST, n = 324, c = 32", 784, 128, 324, 32, 1, 10),
    Case("nsCIFAR10, n = 256, c = 16", 1000, 256, 256, 16, 96, 10),
    Case("copy, iRNN n = 100", 120, 128, 100, 0, 10, 10, True),
    Case("sMNIST, iRNN n = 256", 784, 128, 256, 0, 1, 10),
)
QUICK_CASES = (
    Case("copy, lag 80", 100, 128, 100, 6, 10, 10, True),
    Case("adding, T = 50", 50, 32, 100, 27, 2, 1),
    Case("sMNIST, 49 of 784 steps", 49, 32, 256, 16, 1, 10),
    Case("copy, iRNN n = 100", 100, 128, 100, 0, 10, 10, True),
)
GROWTH = {  # which size grows, and by what; paper lengths are for a GPU
    "steps": ((50, 100, 200, 400), (100, 1000, 10_000, 100_000)),
    "batch_size": ((16, 32, 64, 128), (128, 256, 512, 1024)),
    "channel_size": ((50, 100, 200, 400), (100, 200, 400, 800)),
}


def run_bench(
    device: str = "cpu",
    *,
    profile: str = "quick",
    repeats: int = 5,
    report: Callable[[str], None] = lambda line: None,
) -> dict:
    """Measure every way to compute the recurrence; see the module for what is measured.

    Args:
        device: "cpu" or "cuda".
        profile: "quick" (reduced sizes, about half a minute on two cores) or "paper".
        repeats: how many times each way is measured; the median counts.
        report: is called with a line about what is measured next.

    Returns:
        A dict that JSON can hold: the device, versions and settings; for every case its sizes and
        how many times as fast as the loop each way is (`ratios`), on a GPU also `milliseconds`,
        the floor and the share of it that the fused kernels reach; and under `growth` how the cost
        grows with T, B and n, with the share of its variance that a straight line explains.

    Raises:
        WrnnError: an unknown profile, fewer than one repeat, or no such device.
    """
    if profile not in ("quick", "paper"):
        raise WrnnError(f"unknown profile {profile!r}: choose quick or paper")
    if repeats < 1:
        raise WrnnError(f"repeats must be 1 or more, not {repeats}")
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise WrnnError(f"no device {device!r} here: choose cpu, or cuda where there is one")
    on_gpu = device == "cuda"
    name = torch.cuda.get_device_name() if on_gpu else platform.machine()
    cases = []
    for case in PAPER_CASES if profile == "paper" else QUICK_CASES:
        report(f"{case.name}: T = {case.steps}, B = {case.batch_size}")
        medians = _medians(_ways(case, device), repeats, device)
        entry = asdict(case) | {"ratios": _relative(medians)}
        if on_gpu:
            entry["milliseconds"] = {way: 1e3 * seconds for way, seconds in medians.items()}
            floor = case.floor(name)
            if floor is not None and "triton" in medians:
                share = floor / entry["milliseconds"]["triton"]
                entry |= {"floor_milliseconds": floor, "share_of_floor": share}
        cases.append(entry)
    growth = {}
    for size, (quick, paper) in GROWTH.items():
        report(f"growth with {size}")
        growth[size] = _growth(size, paper if on_gpu else quick, device, repeats)
    return {
        "device": name,
        "kind": device,
        "threads": torch.get_num_threads(),
        "profile": profile,
        "repeats": repeats,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "cases": cases,
        "growth": growth,
    }


def _parameters(case: Case, device: str) -> list[Tensor]:
    """Draw V, u and the readout, each with its bias; the recurrence has a gain below 1."""
    generator = torch.Generator().manual_seed(0)
    hidden = max(1, case.num_channels) * case.channel_size
    kernel = (case.num_channels,) * 2 + (3,) if case.num_channels else (hidden, hidden)
    shapes = [(hidden, case.input_size), (hidden,), kernel, kernel[:1]]
    shapes += [(case.output_size, hidden), (case.output_size,)]
    drawn = [torch.randn(shape, generator=generator) * 0.1 for shape in shapes]
    drawn[2] *= 5 / math.sqrt(kernel[0] * (3 if case.num_channels else 1))
    return [tensor.to(device).requires_grad_() for tensor in drawn]


def _ways(case: Case, device: str, best_only: bool = False) -> dict[str, Callable[[], object]]:
    """Return a training step, without the optimiser, for each way to compute the case."""
    x = torch.randn(case.steps, case.batch_size, case.input_size, device=device)
    parameters = _parameters(case, device)

    def training_step(outputs: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(outputs(x, *parameters).square().mean(), parameters)

    if not case.num_channels:
        plain, library = _irnn_loop, _irnn_library
        return {
            "loop": partial(training_step, partial(plain, every_step=case.every_step)),
            "torch.nn.RNN": partial(training_step, partial(library, every_step=case.every_step)),
        }

    def outputs(x, weight_ih, bias_ih, weight_hh, bias_hh, weight_out, bias_out, **options):
        h_0 = x.new_zeros(case.batch_size, len(weight_ih))
        readout = {"weight_out": weight_out, "bias_out": bias_out}
        tensors = (x, h_0, weight_ih, bias_ih, weight_hh, bias_hh)
        options["last_only"] = not case.every_step
        return wave_recurrence(*tensors, **readout, **options)

    best, _ = choose_backend(x, parameters[2])
    if best_only:
        return {best: partial(training_step, partial(outputs, backend=best))}
    ways = {"loop": partial(training_step, partial(outputs, backend="loop"))}
    if device == "cuda":
        ways["CUDA graph"] = _graphed(ways["loop"])
        compiled = partial(_compiled_loop, step=torch.compile(loop.one_step), case=case)
        ways["torch.compile"] = partial(training_step, compiled)
    if best != "loop":
        ways[best] = partial(training_step, partial(outputs, backend=best))
    if best == "triton":
        tf32 = partial(outputs, backend=best, precision="tf32")
        ways["triton, tf32"] = partial(training_step, tf32)
    return ways


def _compiled_loop(x, weight_ih, bias_ih, weight_hh, bias_hh, weight_out, bias_out, *, step, case):
    """Run the loop with its step compiled; a whole sequence would take minutes to compile."""
    readout = weight_out if case.every_step else None
    h_0 = x.new_zeros(case.batch_size, len(weight_ih))
    tensors = (x, h_0, weight_ih, bias_ih, weight_hh, bias_hh, readout)
    output, h_n = loop.step_loop(*tensors, "relu", not case.every_step, step)
    return output + bias_out if case.every_step else F.linear(h_n, weight_out, bias_out)


def _irnn_loop(x, weight_ih, bias_ih, weight_hh, bias_hh, weight_out, bias_out, *, every_step):
    """Run the iRNN step by step."""
    h = x.new_zeros(x.shape[1], len(weight_ih))
    states = []
    for x_t in x:
        h = torch.relu(F.linear(x_t, weight_ih, bias_ih) + F.linear(h, weight_hh, bias_hh))
        states.append(h)
    return F.linear(torch.stack(states) if every_step else h, weight_out, bias_out)


def _irnn_library(x, weight_ih, bias_ih, weight_hh, bias_hh, weight_out, bias_out, *, every_step):
    """Run the iRNN through torch.nn.RNN."""
    layer = nn.RNN(x.shape[-1], len(weight_ih), nonlinearity="relu", device=x.device)
    names = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")
    weights = dict(zip(names, (weight_ih, bias_ih, weight_hh, bias_hh), strict=True))
    output, _ = torch.func.functional_call(layer, weights, (x,))
    return F.linear(output if every_step else output[-1], weight_out, bias_out)


def _graphed(step: Callable[[], object]) -> Callable[[], None]:
    """Record a training step as a CUDA graph; returns what replays it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _medians(ways: dict[str, Callable], repeats: int, device: str) -> dict[str, float]:
    """Let the ways take turns; returns the median seconds of each, but for the first turn."""
    seconds = {way: [] for way in ways}
    for turn in range(repeats + 1):
        for way, step in ways.items():
            _wait(device)
            start = time.perf_counter()
            step()
            _wait(device)
            if turn:
                seconds[way].append(time.perf_counter() - start)
    return {way: statistics.median(values) for way, values in seconds.items()}


def _wait(device: str) -> None:
    """Wait for the GPU, where there is one."""
    if device == "cuda":
        torch.cuda.synchronize()


def _relative(medians: dict[str, float]) -> dict[str, float]:
    """Return how many times as fast as the loop each way is."""
    return {way: medians["loop"] / seconds for way, seconds in medians.items() if way != "loop"}


def _growth(size: str, values: tuple[int, ...], device: str, repeats: int) -> dict:
    """Measure the copy configuration as one of its sizes grows, and fit a straight line."""
    base = Case("growth", 100, 32 if device == "cpu" else 128, 100, 6, 2, 1)
    ways = {}
    for value in values:
        case = replace(base, **{size: value})
        (ways[str(value)],) = _ways(case, device, best_only=True).values()
    medians = list(_medians(ways, repeats, device).values())
    mean_value, mean_time = statistics.mean(values), statistics.mean(medians)
    slope = sum(
        (v - mean_value) * (m - mean_time) for v, m in zip(values, medians, strict=True)
    ) / sum((v - mean_value) ** 2 for v in values)
    fitted = [mean_time + slope * (v - mean_value) for v in values]
    unexplained = sum((m - f) ** 2 for m, f in zip(medians, fitted, strict=True))
    total = sum((m - mean_time) ** 2 for m in medians)
    return {
        "values": list(values),
        "relative_time": [m / medians[0] for m in medians],
        "relative_line": [f / medians[0] for f in fitted],
        "r_squared": 1 - unexplained / total,
    }


def format_table(result: dict) -> str:
    """Return the result of `run_bench` as plain text, a line per case and per growing size."""
    ways = list(dict.fromkeys(way for case in result["cases"] for way in case["ratios"]))
    on_gpu = result["kind"] == "cuda"
    head = ["times as fast as the loop", "T", "B", *ways]
    head += ["best (ms)", "floor (ms)", "share of floor"] if on_gpu else []
    rows = [head]
    for case in result["cases"]:
        ratios = [f"{case['ratios'][way]:.2f}" if way in case["ratios"] else "-" for way in ways]
        row = [case["name"], str(case["steps"]), str(case["batch_size"]), *ratios]
        if on_gpu:
            floor = case.get("floor_milliseconds")
            row.append(f"{min(case['milliseconds'].values()):.3g}")
            row += [f"{floor:.2g}", f"{case['share_of_floor']:.0%}"] if floor else ["-", "-"]
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [f"{result['device']}, {result['threads']} threads, median of {result['repeats']}"]
    for row in rows:
        cells = [
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    for size, fit in result["growth"].items():
        times = ", ".join(
            f"{v}: {t:.3g}" for v, t in zip(fit["values"], fit["relative_time"], strict=True)
        )
        lines.append(f"time as {size} grows: {times}; a line explains {fit['r_squared']:.1%}")
    return "\n".join(lines)
