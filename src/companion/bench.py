"""How fast the recurrence is: every way to compute it, side by side, on the paper's configurations.

One measurement is the forward and the backward pass of one training step, readout included. The
ways take turns in one process and medians are compared, because clocks and neighbours drift. On a
CPU, which shares its time with other programs, only ratios are reported; on a GPU milliseconds too.
There nothing rounds factors to TF32 unless its name says so, and what a launch costs is taken away
from the loop and the fused way alike: each is measured as it is and recorded in a CUDA graph.
Results are kept as ``records/bench/NAME.json``, one per device; the performance chapter reads them.
"""

import contextlib
import importlib.util
import json
import math
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from companion.evidence.tables import counted
from companion.records.provenance import device_name, versions
from companion.runs.run import Run, wrnn_config
from companion.training.step import EAGER_STEPS, Replicas, TrainingState
from wrnn.errors import WrnnError
from wrnn.model import IdentityRNN, WaveRNN
from wrnn.recurrence import choose_backend, loop, wave_recurrence
from wrnn.recurrence.loop import Tensors
from wrnn.tasks import CopyTask

DEPENDENT_STEP = 0.15e-6  # seconds; an assumption on every card, see `Case.floors`
# Copy bandwidth (bytes/s) and exact multiply-adds (FLOP/s) that floors are computed with before a
# benchmark has measured those of its own card.
PEAKS = {"H200": (4.3e12, 67e12)}
LIMITS = ("memory bandwidth", "arithmetic", "the chain of steps")
LIBRARY = "torch.nn.RNN"
GRAPH = "CUDA graph"
LAST = "last state alone"
FORMER = {"compiled": "numba", "compiled, checkpointed": "numba, checkpointed"}  # in old files
WEIGHTS = ("weight_ih", "bias_ih", "weight_hh", "bias_hh")  # as in every layer
CPU_STATES = 1e9  # bytes of states; the loop takes about five times as much


@dataclass(frozen=True)
class Case:
    """One configuration: sizes as in the paper, `num_channels` 0 for the iRNN.

    Targets are what the project aims for: `gpu_target` milliseconds on an H200 in exact float32,
    `cpu_target` times as fast as the loop.
    """

    name: str
    steps: int
    batch_size: int
    channel_size: int
    num_channels: int
    input_size: int
    output_size: int
    every_step: bool = False
    gpu_target: float | None = None
    cpu_target: float | None = None
    shared_from: int | None = None  # the step from which on every sample has the same input

    @property
    def state_bytes(self) -> int:
        """Bytes of all states of a sequence in float32, which a backward pass needs."""
        hidden = max(1, self.num_channels) * self.channel_size
        return 4 * self.steps * self.batch_size * hidden

    def floors(self, bandwidth: float, speed: float) -> dict[str, float]:
        """Return the least milliseconds of a training step by what limits it; see `LIMITS`.

        States written and read once at full bandwidth (bytes/s); three products with the kernel
        (state, gradient of the state, gradient of the kernel) and two with the input (drive,
        gradient of V), of the steps whose input is each sample's own, at full speed (FLOP/s); 2 T
        dependent steps, each of `DEPENDENT_STEP`. The largest of them is the floor. Empty for the
        iRNN.
        """
        if not self.num_channels:
            return {}
        own = (self.shared_from or self.steps) / self.steps
        factors = 3 * 3 * self.num_channels + 2 * self.input_size * own
        products = 2 * (self.state_bytes / 4) * factors
        chain = 2 * self.steps * DEPENDENT_STEP
        seconds = (2 * self.state_bytes / bandwidth, products / speed, chain)
        return {limit: 1e3 * value for limit, value in zip(LIMITS, seconds, strict=True)}


PAPER_CASES = (
    Case("copy, 100 steps", 100, 128, 100, 6, 10, 10, True, cpu_target=3.0),
    Case("copy, 120 steps", 120, 128, 100, 6, 10, 10, True, gpu_target=0.25),
    Case("copy, 500 steps", 500, 128, 100, 6, 10, 10, True),
    Case("adding, T = 400", 400, 128, 100, 27, 2, 1, cpu_target=2.5),
    Case("adding, T = 1000", 1000, 128, 100, 27, 2, 1, gpu_target=6.2),
    Case("sMNIST, n = 256, c = 16", 784, 128, 256, 16, 1, 10, gpu_target=3.0, cpu_target=2.8),
    Case("sMNIST, n = 169, c = 32", 784, 128, 169, 32, 1, 10),
    Case("sMNIST, n = 324, c = 32", 784, 128, 324, 32, 1, 10),
    Case("nsCIFAR10, n = 256, c = 16", 1000, 256, 256, 16, 96, 10, shared_from=32),
    Case("copy, iRNN n = 100", 100, 128, 100, 0, 10, 10, True),
    Case("sMNIST, iRNN n = 256", 784, 128, 256, 0, 1, 10),
)
QUICK_CASES = (
    Case("copy, 100 steps", 100, 128, 100, 6, 10, 10, True, cpu_target=3.0),
    Case("adding, T = 50", 50, 32, 100, 27, 2, 1),
    Case("sMNIST, 49 of 784 steps", 49, 32, 256, 16, 1, 10),
    Case("copy, iRNN n = 100", 100, 128, 100, 0, 10, 10, True),
)
GROWTH = {  # which size grows, and by what: in the quick profile and in the paper profile
    "steps": ((50, 100, 200, 400), (100, 1000, 10_000, 100_000)),
    "batch_size": ((16, 32, 64, 128), (128, 256, 512, 1024)),
    "channel_size": ((50, 100, 200, 400), (100, 200, 400, 800)),
}
REPLICA_COUNTS = (1, 2, 4, 8)


def run_bench(
    device: str = "cpu",
    *,
    profile: str = "quick",
    repeats: int = 5,
    match: str = "",
    report: Callable[[str], None] = lambda line: None,
    save: Callable[[dict], None] = lambda result: None,
) -> dict:
    """Measure every way to compute the recurrence; see the module for what is measured.

    Args:
        device: "cpu" or "cuda".
        profile: "quick" (reduced sizes, a minute or two on two cores) or "paper" (on a CPU a
            quarter of an hour, 8 GB of memory, and fewer sequences where the loop needs more).
        repeats: how many times each way is measured; the median counts.
        match: a regular expression; only cases and growths ("growth with steps") with it in their
            name are measured.
        report: is called with a line about what is measured next.
        save: is called after each case and each growth with the result so far.

    Returns:
        A dict that JSON can hold: the device, threads, versions and settings; for every case its
        sizes and targets, the name of the best way that there is for it (`best`), how many times as
        fast as the loop each way is (`ratios`), the peak memory of a step as a multiple of its
        states where it can be measured (`memory`), how long a layer takes that is called as
        torch.nn.RNN is, as a multiple of its time for the last state alone (`calls`), and under
        `failed` the ways that could not run, as for want of memory, with the reason. On a GPU also
        `milliseconds`, the `floors` and the `share_of_floor` that the best way reaches, for the
        card's `peaks` (bytes/s and FLOP/s), as measured here by a copy and a product of matrices.
        Under `growth`: how the cost grows with T (each ⌈√T⌉-th state kept), B and n, see
        `fit_line`; and on a GPU with the number of replicas that train together, the optimiser
        included.

    Raises:
        WrnnError: an unknown profile, fewer than one repeat, no such device, nothing that matches,
            or a case whose loop or best way cannot run.
    """
    if profile not in ("quick", "paper"):
        raise WrnnError(f"unknown profile {profile!r}: choose quick or paper")
    if repeats < 1:
        raise WrnnError(f"repeats must be 1 or more, not {repeats}")
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise WrnnError(f"no device {device!r} here: choose cpu, or cuda where there is one")
    try:
        pattern = re.compile(match)
    except re.error as error:
        raise WrnnError(f"--case {match!r} is not a regular expression: {error}") from error
    cases = [
        c for c in (PAPER_CASES if profile == "paper" else QUICK_CASES) if pattern.search(c.name)
    ]
    sizes = [*GROWTH, *["replicas"] * (device == "cuda")]
    sizes = [size for size in sizes if pattern.search(f"growth with {size}")]
    if not cases and not sizes:
        raise WrnnError(f"no case and no growth of the {profile} profile matches {match!r}")
    found = [name for name in ("numba", "triton") if importlib.util.find_spec(name)]
    compilers = {name: metadata.version(name) for name in found}
    result = {
        "device": device_name(torch.device(device)),
        "kind": device,
        "threads": torch.get_num_threads(),
        "profile": profile,
        "repeats": repeats,
        "versions": versions() | compilers,
        "cases": [],
        "growth": {},
    }
    with _exact_products():
        if device == "cuda":
            report("the card's bandwidth and arithmetic")
            result["peaks"] = _peaks(repeats)
        for case in cases:
            while device == "cpu" and case.state_bytes > CPU_STATES:
                case = replace(case, batch_size=case.batch_size // 2)
            report(f"{case.name}: T = {case.steps}, B = {case.batch_size}")
            result["cases"].append(_entry(case, device, repeats, result.get("peaks")))
            save(result)
        for size in sizes:
            report(f"growth with {size}")
            if size == "replicas":
                result["growth"][size] = _replicas(device, repeats)
            else:
                values = GROWTH[size][profile == "paper"]
                result["growth"][size] = _growth(size, values, device, repeats)
            save(result)
    return result


def _entry(case: Case, device: str, repeats: int, peaks: list[float] | None) -> dict:
    """Measure one case; `peaks` are those of a GPU."""
    best = _best(case, device)
    steps, failed = _running(_ways(case, device))
    for way in ("loop", best):
        if way in failed:
            raise WrnnError(f"{case.name}: {way} cannot run: {failed[way]}")
    medians = _medians(steps, repeats, device)
    del steps  # and the memory that graphs hold
    measured = [way for way in medians if way in ("loop", LIBRARY) or way.startswith(best)]
    memory = {way: _memory(case, device, way) for way in measured if GRAPH not in way}
    entry = asdict(case) | {"state_bytes": case.state_bytes, "best": best}
    entry["ratios"] = {
        way: medians["loop"] / seconds for way, seconds in medians.items() if way != "loop"
    }
    entry["memory"] = {way: peak for way, peak in memory.items() if peak is not None}
    called, refused = _running(
        {way: partial(lambda s: s, step) for way, step in _calls(case, device).items()}
    )
    calls = _medians(called, repeats, device)
    entry["calls"] = {way: seconds / calls[LAST] for way, seconds in calls.items()}
    entry["failed"] = failed | refused
    if peaks:
        entry["milliseconds"] = {way: 1e3 * seconds for way, seconds in medians.items()}
        if floors := case.floors(*peaks):
            share = max(floors.values()) / entry["milliseconds"][best]
            entry |= {"floors": floors, "share_of_floor": share}
    return entry


@contextlib.contextmanager
def _exact_products() -> Iterator[None]:
    """Let no library round the factors of a product to TF32."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = False
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


def _peaks(repeats: int, device: str = "cuda", size: int = 2**28) -> list[float]:
    """Measure how fast a device copies (bytes/s, read and written) and multiplies (FLOP/s).

    `size` is how many numbers are copied; the factors of the product have a quarter as many each.
    """
    source = torch.ones(size, device=device)
    target = torch.empty_like(source)
    side = math.isqrt(size) // 2
    factor = torch.ones(side, side, device=device)
    product = torch.empty_like(factor)
    ways = {
        "copy": lambda: target.copy_(source),
        "product": lambda: torch.mm(factor, factor, out=product),
    }
    medians = _medians(ways, repeats, device)
    return [2 * source.nbytes / medians["copy"], 2 * side**3 / medians["product"]]


def read_results(folder: Path) -> list[dict]:
    """Return the results of `run_bench` that a folder keeps, by file name; none without a folder.

    Raises:
        WrnnError: a file there is damaged or not such a result.
    """
    results = []
    for path in sorted(folder.glob("*.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"), object_hook=_renamed)
            _check(result)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise WrnnError(f"{path} is not a benchmark result: {reason}") from error
        results.append(result)
    return results


def _renamed(entry: dict) -> dict:
    """Return an object of a kept file with the ways in it under their present names."""
    return {
        FORMER.get(key, key): FORMER.get(value, value) if isinstance(value, str) else value
        for key, value in entry.items()
    }


def _check(result: dict) -> None:
    """Raise ValueError, KeyError or TypeError where something that `run_bench` gives is not so."""
    numbers, signed = [result["threads"], result["repeats"]], []
    if result["kind"] not in ("cpu", "cuda"):
        raise ValueError(f"kind is {result['kind']!r}: expected cpu or cuda")
    if not all(isinstance(text, str) for text in (result["device"], *result["versions"].values())):
        raise ValueError("device and versions must be text")
    for entry in result["cases"]:
        case = Case(
            **{field.name: entry[field.name] for field in fields(Case) if field.name in entry}
        )
        numbers += [case.steps, case.batch_size, case.channel_size, entry["state_bytes"]]
        numbers.append(entry["ratios"].get(entry["best"], 1.0))  # the loop may be the best
        for kind in ("ratios", "memory", *["milliseconds"] * (result["kind"] == "cuda")):
            numbers += entry[kind].values()
        numbers += entry.get("calls", {}).values()  # files before 2026-11-24 have none
        if "floors" in entry:
            numbers += [*entry["floors"].values(), entry["share_of_floor"]]
    numbers += result.get("peaks", ())
    for fit in result["growth"].values():
        columns = (fit["values"], fit["relative_time"], fit["relative_line"])
        for value, seconds, line in zip(*columns, strict=True):
            numbers += [value, seconds]
            signed.append(line)
        numbers += fit.get("memory", [])
        signed.append(fit["exponent"])
    if not all(math.isfinite(number) for number in signed):
        raise ValueError("a fit is not finite")
    for number in numbers:
        if isinstance(number, bool) or not (math.isfinite(number) and number > 0):
            raise ValueError(f"{number!r} where a positive number belongs")


def _tensors(case: Case, device: str) -> Tensors:
    """Draw the input, and V, u and the readout, each with its bias; the recurrence has a gain < 1.

    An iRNN's matrix is a kernel too, whose channels have a single site.
    """
    generator = torch.Generator().manual_seed(0)
    channels, width = (case.num_channels, 3) if case.num_channels else (case.channel_size, 1)
    hidden = channels * (case.channel_size if case.num_channels else 1)
    shapes = [(hidden, case.input_size), (hidden,), (channels, channels, width), (channels,)]
    shapes += [(case.output_size, hidden), (case.output_size,)]
    drawn = [torch.randn(shape, generator=generator) * 0.1 for shape in shapes]
    drawn[2] *= 5 / math.sqrt(channels * width)
    x = torch.randn(case.steps, case.batch_size, case.input_size, generator=generator)
    if case.shared_from is not None:
        x[case.shared_from :] = x[case.shared_from :, :1].clone()
    h_0 = torch.zeros(case.batch_size, hidden)
    weights = [tensor.to(device).requires_grad_() for tensor in drawn]
    return Tensors(x.to(device), h_0.to(device), *weights)


def _best(case: Case, device: str, precision: str = "float32") -> str:
    """Return the name of the fastest way that there is for a case."""
    x = torch.empty(case.steps, case.batch_size, case.input_size, device=device)
    kernel = _tensors(replace(case, steps=1, shared_from=None), device).weight_hh
    best, _ = choose_backend(x, kernel, precision=precision)
    return LIBRARY if best == "loop" and not case.num_channels else best


def _step(case: Case, device: str, outputs: Callable[..., Tensor]) -> Callable[[], object]:
    """Return a training step, without the optimiser, of a model outputs(case, tensors)."""
    tensors = _tensors(case, device)
    return lambda: torch.autograd.grad(outputs(case, tensors).square().mean(), tensors[2:])


def _fused(case: Case, tensors: Tensors, **options) -> Tensor:
    """Run the recurrence with its readout."""
    *first, weight_out, bias_out = tensors
    options |= {"weight_out": weight_out, "bias_out": bias_out, "last_only": not case.every_step}
    return wave_recurrence(*first, **options)


def _compiled_loop(case: Case, tensors: Tensors, *, step: Callable[..., Tensor]) -> Tensor:
    """Run the loop with its step compiled; a whole sequence would take minutes to compile."""
    output, h_n = loop.step_loop(tensors, "relu", not case.every_step, step)
    if case.every_step:
        return output + tensors.bias_out
    return F.linear(h_n, tensors.weight_out, tensors.bias_out)


def _irnn_loop(case: Case, tensors: Tensors) -> Tensor:
    """Run the iRNN step by step."""
    x, h, weight_ih, bias_ih, kernel, bias_hh, *readout = tensors
    states = []
    for x_t in x:
        h = F.linear(x_t, weight_ih, bias_ih) + F.linear(h, kernel.squeeze(-1), bias_hh)
        h = torch.relu(h)  # (B, hidden)
        states.append(h)
    return F.linear(torch.stack(states) if case.every_step else h, *readout)


def _irnn_library(case: Case, tensors: Tensors) -> Tensor:
    """Run the iRNN through torch.nn.RNN."""
    x, h_0, weight_ih, bias_ih, kernel, bias_hh, *readout = tensors
    layer = nn.RNN(x.shape[-1], h_0.shape[-1], nonlinearity="relu", device=x.device)
    weights = weight_ih, bias_ih, kernel.squeeze(-1), bias_hh
    named = dict(zip([f"{name}_l0" for name in WEIGHTS], weights, strict=True))
    output, _ = torch.func.functional_call(layer, named, (x,))
    return F.linear(output if case.every_step else output[-1], *readout)


def _ways(case: Case, device: str) -> dict[str, Callable[[], Callable[[], object]]]:
    """Return what makes a training step for each way to compute the case, the loop first."""
    best, on_gpu = _best(case, device), device == "cuda"
    fused = partial(partial, _fused)
    if case.num_channels:
        models = {"loop": fused(backend="loop")}
        if on_gpu:
            models["torch.compile"] = partial(_compiled_loop, step=torch.compile(loop.one_step))
    else:
        models = {"loop": _irnn_loop, LIBRARY: _irnn_library}
    if best not in models:
        models[best] = fused(backend=best)
        if _best(case, device, "tf32") == best:
            models[f"{best}, tf32"] = fused(backend=best, precision="tf32")
        if case.shared_from is not None:
            models[f"{best}, shared input"] = fused(backend=best, shared_from=case.shared_from)
    if best != LIBRARY:
        every = math.ceil(math.sqrt(case.steps))  # takes the least memory
        models[f"{best}, checkpointed"] = fused(backend=best, checkpoint_every=every)
    ways = {}
    for way, model in models.items():
        ways[way] = partial(_step, case, device, model)
        if on_gpu and case.num_channels and way in ("loop", best):
            ways[GRAPH if way == "loop" else f"{way}, {GRAPH}"] = partial(_graphed, ways[way])
    return ways


def _running(
    ways: dict[str, Callable[[], Callable[[], object]]],
) -> tuple[dict[str, Callable[[], object]], dict[str, str]]:
    """Make and take a step of each way; returns the steps, and of those that failed the reason."""
    steps, failed = {}, {}
    for way, make in ways.items():
        try:
            step = make()
            step()
        except RuntimeError as error:  # out of memory, or what torch.compile could not compile
            failed[way] = str(error).splitlines()[0]
        else:
            steps[way] = step
    return steps, failed


def _calls(case: Case, device: str) -> dict[str, Callable[[], object]]:
    """Return a training step, without readout, for each way to call a layer as torch.nn.RNN is.

    The gradient of the last state, or that of all states, is given. The loop, and torch.nn.RNN
    for an iRNN, are called in the same way.
    """
    sizes = {"device": device, "nonlinearity": "relu"}
    if case.num_channels:
        wave = partial(WaveRNN, case.input_size, case.channel_size, case.num_channels, **sizes)
        layers, suffix = {"": wave, "loop, ": partial(wave, backend="loop")}, ""
    else:
        dense = (IdentityRNN, nn.RNN)
        ours, theirs = (partial(of, case.input_size, case.channel_size, **sizes) for of in dense)
        layers, suffix = {"": ours, f"{LIBRARY}, ": theirs}, "_l0"
    x, h_0, *weights = (tensor.detach() for tensor in _tensors(case, device)[:6])
    weights[2] = weights[2].squeeze(-1) if suffix else weights[2]
    named = dict(zip([name + suffix for name in WEIGHTS], weights, strict=True))
    generator = torch.Generator().manual_seed(1)
    grad_last = torch.randn(1, *h_0.shape, generator=generator).to(device)
    grad_all = torch.randn(case.steps, *h_0.shape, generator=generator).to(device)

    def called(rnn: nn.Module, x: Tensor, call: Callable[..., Tensor], grad: Tensor) -> object:
        return torch.autograd.grad(call(rnn, x), list(rnn.parameters()), grad)

    ways = {}
    for whose, layer in layers.items():
        for first in ("time first", "batch first"):
            rnn = layer(batch_first=first == "batch first")
            rnn.load_state_dict(named)
            given, grad = x, grad_all
            if rnn.batch_first:
                given, grad = (t.transpose(0, 1).contiguous() for t in (x, grad_all))
            step = partial(called, rnn, given)
            if not ways:
                ways[LAST] = partial(step, lambda rnn, x: rnn.compute(x, last_only=True), grad_last)
            ways[f"{whose}h_n, {first}"] = partial(step, lambda rnn, x: rnn(x)[1], grad_last)
            ways[f"{whose}all states, {first}"] = partial(step, lambda rnn, x: rnn(x)[0], grad)
    return ways


def _graphed(make: Callable[[], Callable[[], object]]) -> Callable[[], None]:
    """Record a training step as a CUDA graph; returns what replays it."""
    step = make()
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
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    for turn in range(repeats + 1):
        for way, step in ways.items():
            wait()
            start = time.perf_counter()
            step()
            wait()
            if turn:
                seconds[way].append(time.perf_counter() - start)
    return {way: statistics.median(values) for way, values in seconds.items()}


def _memory(case: Case, device: str, way: str) -> float | None:
    """Return the peak memory of a training step over its states; None where it is not known.

    Inputs and parameters are there before and do not count. On a CPU a process of its own is
    measured, because a long-lived one keeps memory for later.
    """
    if device == "cuda":
        step = _ways(case, device)[way]()
        step()  # lets PyTorch take its workspaces
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / case.state_bytes
    if not Path("/proc/self/clear_refs").exists():
        return None
    code = f"from companion.bench import Case, _resident; print(_resident({case!r}, {way!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return int(done.stdout) / case.state_bytes if done.returncode == 0 else None


def _resident(case: Case, way: str) -> int:
    """Return by how many bytes this process grows at most during a training step (Linux)."""

    def kilobytes(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

    short = replace(case, steps=2, shared_from=None)
    _ways(short, "cpu")[way]()()  # loads and compiles what a first step needs
    step = _ways(case, "cpu")[way]()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = kilobytes("VmRSS")
    step()
    return 1024 * (kilobytes("VmHWM") - before)


def _growth(size: str, values: tuple[int, ...], device: str, repeats: int) -> dict:
    """Measure the best way as one size of the copy configuration grows; with T checkpointed."""
    base = Case("growth", 100, 32 if device == "cpu" else 128, 100, 6, 2, 1)
    cases = [replace(base, **{size: value}) for value in values]
    way = _best(base, device) + (", checkpointed" if size == "steps" else "")
    medians = _medians(
        {str(value): _ways(case, device)[way]() for value, case in zip(values, cases, strict=True)},
        repeats,
        device,
    )
    result = {"way": way} | fit_line(values, list(medians.values()))
    memory = [_memory(case, device, way) for case in cases] if size == "steps" else []
    return result | ({"memory": memory} if memory and None not in memory else {})


def _replicas(device: str, repeats: int) -> dict:
    """Measure a whole training step of the copy task as more replicas of it take it together."""
    run = Run(CopyTask(110), wrnn_config(100, 6), "paper", steps=10**6)
    ways = {}
    for count in REPLICA_COUNTS:
        runs = [replace(run, seed=seed) for seed in range(count)]
        group = Replicas([TrainingState(each, torch.device(device)) for each in runs])
        for _ in range(EAGER_STEPS + 1):
            group.take_step()  # the last of them captures
        ways[str(count)] = group.take_step
    seconds = list(_medians(ways, repeats, device).values())
    return {"way": "replicas"} | fit_line(REPLICA_COUNTS, seconds)


def fit_line(values: Sequence[float], seconds: Sequence[float]) -> dict:
    """Fit a straight line to times, each weighing the same relative to itself.

    Returns times and line as multiples of the first time, and the `exponent` p of the best fit of
    time ∝ size^p, which is 1 where the cost is linear and nothing of it is fixed.
    """
    v, m = np.array(values, float), np.array(seconds)
    slope, start = np.polyfit(v, m, 1, w=1 / m)
    return {
        "values": list(values),
        "relative_time": (m / m[0]).tolist(),
        "relative_line": ((start + slope * v) / m[0]).tolist(),
        "exponent": float(np.polyfit(np.log(v), np.log(m), 1)[0]),
    }


def format_table(result: dict) -> str:
    """Return the result of `run_bench` as plain text, a line per case and per growing size."""
    ways = list(dict.fromkeys(way for case in result["cases"] for way in case["ratios"]))
    on_gpu = result["kind"] == "cuda"
    head = ["times as fast as the loop", "T", "B", *ways, "memory / states"]
    head += ["best (ms)", "floor (ms)", "share of floor", "limit"] if on_gpu else []
    rows = [head]
    for case in result["cases"]:
        best, floors = case["best"], case.get("floors")
        row = {head[0]: case["name"], "T": str(case["steps"]), "B": str(case["batch_size"])}
        row |= {way: f"{ratio:.2f}" for way, ratio in case["ratios"].items()}
        if best in case["memory"]:
            row["memory / states"] = f"{case['memory'][best]:.2f}"
        if on_gpu:
            row["best (ms)"] = f"{case['milliseconds'][best]:.3g}"
        if on_gpu and floors:
            row["limit"] = limit = max(floors, key=floors.get)
            row["floor (ms)"] = f"{floors[limit]:.2g}"
            row["share of floor"] = f"{case['share_of_floor']:.0%}"
        rows.append([row.get(column, "-") for column in head])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    threads = counted(result["threads"], "thread")
    lines = [f"{result['device']}, {threads}, median of {result['repeats']}"]
    if "peaks" in result:
        bandwidth, speed = result["peaks"]
        lines.append(
            f"measured here: {bandwidth / 1e12:.3g} TB/s copied, {speed / 1e12:.3g} TFLOP/s in "
            f"exact products; assumed: {1e6 * DEPENDENT_STEP:.2g} µs for a dependent step"
        )
    for name, *row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths[1:], strict=True)]
        lines.append("  ".join((name.ljust(widths[0]), *cells)).rstrip())
    if not on_gpu:
        lines.append("what limits a configuration is not known here: a CPU has no floor")
    for case in result["cases"]:
        lines += [
            f"{case['name']}: {way} failed: {why}" for way, why in case.get("failed", {}).items()
        ]
    for size, fit in result["growth"].items():
        times = ", ".join(
            f"{v}: {t:.3g}" for v, t in zip(fit["values"], fit["relative_time"], strict=True)
        )
        lines.append(f"time as {size} grows: {times}; as its power {fit['exponent']:.2f}")
    for case in result["cases"]:
        calls = ", ".join(f"{way} {ratio:.2f}" for way, ratio in case.get("calls", {}).items())
        lines += [f"called as torch.nn.RNN is, {case['name']}: {calls}"] if calls else []
    return "\n".join(lines)
