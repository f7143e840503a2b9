"""The fused kernels: interpreted, compiled for a GPU that need not be there, and on a GPU.

The interpreter needs TRITON_INTERPRET=1 before the kernels are imported and the compiler needs it
away, so both run in processes of their own.
"""

import json
import os
import subprocess
import sys

import pytest
import torch

from wrnn.errors import WrnnError
from wrnn.recurrence import choose_backend, wave_recurrence

pytest.importorskip("triton", reason="triton is published for Linux only")

ERRORS = """
import json, sys, torch
from wrnn.recurrence import triton, wave_recurrence

triton.STRETCH = 2  # so that even a few steps are several stretches

def error(steps, batch, inputs, channels, n, kernel, nonlinearity, outputs, wanted, every):
    generator = torch.Generator().manual_seed(steps + n)
    shapes = [(steps, batch, inputs), (batch, channels * n), (channels * n, inputs),
              (channels * n,), (channels, channels, kernel), (channels,)]
    shapes += [(outputs, channels * n)] if outputs else []
    exact = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    exact[4] *= (channels * kernel) ** -0.5
    results = []
    for backend, dtype in (("loop", torch.float64), ("triton", torch.float32)):
        values = [v.to(dtype).requires_grad_(i in wanted) for i, v in enumerate(exact)]
        def compute():
            return wave_recurrence(
                *values[:6], nonlinearity=nonlinearity, backend=backend, checkpoint_every=every,
                weight_out=values[6] if outputs else None, last_only=outputs == 0)
        with torch.no_grad():
            inferred = compute()
        output = compute()
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
        gradients = torch.autograd.grad(
            (output * weights.to(output)).sum(), [values[i] for i in wanted if i < len(values)])
        results.append([output, inferred, *gradients])
    return [((a - b).abs().max() / a.abs().max().clamp_min(1e-3)).item()
            for a, b in zip(*results, strict=True)]

for case in json.loads(sys.argv[1]):
    print(json.dumps(error(*case)))
"""

RESOURCES = """
import json, pathlib, re, subprocess, sys, tempfile
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from wrnn.recurrence import kernels
from wrnn.recurrence.triton import layout

tools = pathlib.Path(triton.__file__).parent / "backends" / "nvidia" / "bin"

def resources(kernel, constants):
    options = {name: constants.pop(name) for name in ("num_warps", "num_stages", "maxnreg")}
    signature = {name: "constexpr" if name in constants
                 else "i32" if name in ("steps", "batch") else "*fp32"
                 for name in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]]
               for i, kind in enumerate(signature.values()) if kind == "*fp32"}
    compiled = triton.compile(
        ASTSource(kernel, signature, constants, attrs=aligned),
        target=GPUTarget("cuda", 90, 32),
        options=options,
    )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        run = lambda *command: subprocess.run(
            command, check=True, capture_output=True, text=True).stdout
        usage = run(str(tools / "cuobjdump"), "--dump-resource-usage", file.name)
        code = run(str(tools / "nvdisasm"), "-c", file.name)
    return {
        "shared": compiled.metadata.shared,
        "stack": int(re.search(r"STACK:(\\d+)", usage)[1]),
        "spills": len(re.findall(r"\\b(?:LDL|STL)\\b", code)),
        "registers": int(re.search(r"REG:(\\d+)", usage)[1]) * 32 * options["num_warps"],
        "multiply-adds": len(re.findall(r"\\bFFMA\\b", code)),
        "tensor products": len(re.findall(r"\\bH[A-Z]*MMA\\b", code)),
    }

for n, channels, size, inputs, outputs, precision in json.loads(sys.argv[1]):
    constants = layout(n, channels, size, precision) | {"NONLINEARITY": "relu"}
    forward, backward = (
        (kernels.forward_narrow, kernels.backward_narrow) if "GROUPS" in constants
        else (kernels.forward_wide, kernels.backward_wide)
    )
    inputs = inputs if inputs <= 2 else 0
    print(json.dumps([
        resources(forward, constants | {"INPUTS": inputs, "KEEP": True}),
        resources(backward, constants | {"OUTPUTS": outputs, "NEEDS_KERNEL": True}),
    ]))
"""


def lines(script, argument, tmp_path, *, interpret):
    """Run a script in a process of its own; returns its lines of JSON."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    if interpret:
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, "-c", script, json.dumps(argument)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return [json.loads(line) for line in result.stdout.splitlines()]


ALL = tuple(range(7))  # x, h_0, weight_ih, bias_ih, weight_hh, bias_hh, weight_out


def test_kernels_equal_the_loop_in_the_interpreter(tmp_path):
    cases = [  # T, B, inputs, channels, n, kernel size, nonlinearity, outputs (None: states), ...
        (3, 2, 1, 2, 5, 3, "relu", None, ALL, None),
        (3, 2, 2, 5, 4, 3, "tanh", 3, ALL, None),
        (5, 1, 3, 2, 5, 5, "identity", 0, ALL, None),
        (3, 2, 3, 3, 7, 7, "relu", 17, ALL, 2),
        (1, 1, 1, 1, 3, 3, "tanh", 3, ALL, None),
        (4, 2, 1, 1, 3, 3, "relu", 0, ALL, 3),
        # In the wide layout: padded channels, then more than one tile.
        (3, 2, 1, 9, 33, 3, "tanh", None, ALL, None),
        (3, 1, 4, 9, 33, 5, "relu", 3, ALL, None),
        (3, 2, 2, 9, 33, 3, "identity", 17, ALL, 2),
        (2, 2, 1, 32, 70, 3, "relu", 0, ALL, None),
        # Gradients of some arguments only.
        *[(2, 1, 3, 2, 3, 3, "relu", 2, wanted, None) for wanted in ([0], [1], [2, 6], [3], [6])],
        *[(2, 2, 1, 9, 33, 3, "tanh", 0, wanted, None) for wanted in ([4], [0, 5])],
    ]
    errors = lines(ERRORS, cases, tmp_path, interpret=True)
    assert len(errors) == len(cases)
    for case, worst in zip(cases, map(max, errors), strict=True):
        assert worst < 1e-5, f"{case}: {worst}"


CONFIGURATIONS = {  # n, channels, kernel size, input size, outputs of every step
    "copy": (100, 6, 3, 10, 10),
    "adding": (100, 27, 3, 2, 0),
    "sequential MNIST": (256, 16, 3, 1, 0),
    "sequential MNIST, n=169": (169, 32, 3, 1, 0),
    "sequential MNIST, n=324": (324, 32, 3, 1, 0),
    "noisy sequential CIFAR10": (256, 16, 3, 96, 0),
}


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_every_configuration_of_the_paper_fits_a_hopper_gpu(precision, tmp_path):
    wanted = [(*sizes, precision) for sizes in CONFIGURATIONS.values()]
    compiled = lines(RESOURCES, wanted, tmp_path, interpret=False)
    for name, kernels in zip(CONFIGURATIONS, compiled, strict=True):
        for direction, used in zip(("forward", "backward"), kernels, strict=True):
            assert used["shared"] <= 232448, (name, direction, used)
            assert used["stack"] == used["spills"] == 0, (name, direction, used)
            assert used["registers"] <= 65536, (name, direction, used)
            exact = used["multiply-adds"] > 0 and used["tensor products"] == 0
            assert exact == (precision == "ieee" or name == "copy"), (name, direction, used)


def test_the_widest_kernel_fits_shared_memory(tmp_path):
    for kernels in lines(RESOURCES, [(300, 64, 7, 1, 0, "ieee")], tmp_path, interpret=False):
        assert all(used["shared"] <= 232448 for used in kernels)


def tensors(channels=2, kernel=3, **kind):
    """Return the six tensors of a recurrence."""
    shapes = [(4, 2, 1), (2, channels * 8), (channels * 8, 1), (channels * 8,)]
    shapes += [(channels, channels, kernel), (channels,)]
    return [torch.zeros(shape, **kind) for shape in shapes]


@pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter runs on the CPU"
)
def test_by_name_on_a_cpu_is_one_clear_error():
    with pytest.raises(WrnnError, match=r"'triton' cannot compute this: it runs on CUDA"):
        wave_recurrence(*tensors(), backend="triton")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (tensors(kernel=1), "kernel sizes 3, 5 and 7, not 1"),
        (tensors(channels=65), "up to 64 channels, not 65"),
        (tensors(dtype=torch.float64), "float32 and the input is torch.float64"),
    ],
)
def test_what_the_kernels_cannot_do_has_a_reason(values, reason, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # so that the device is not the reason
    name, why = choose_backend(values[0], values[4])
    assert name != "triton" and reason in why
    with pytest.raises(WrnnError, match=reason):
        wave_recurrence(*values, backend="triton")


def test_importing_the_package_does_not_import_triton():
    script = "import sys, wrnn.recurrence; print('wrnn.recurrence.triton' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"


@pytest.mark.gpu
@pytest.mark.parametrize("nonlinearity", ["relu", "tanh", "identity"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_on_a_gpu_equal_to_the_loop_and_to_itself(name, nonlinearity):
    n, channels, kernel, inputs, every_step = CONFIGURATIONS[name]
    generator = torch.Generator().manual_seed(0)
    hidden = channels * n
    shapes = [(50, 32, inputs), (32, hidden), (hidden, inputs), (hidden,)]
    shapes += [(channels, channels, kernel), (channels,)]
    exact = [torch.randn(s, generator=generator).double().cuda() for s in shapes]
    exact[4] *= 0.5 * (channels * kernel) ** -0.5

    def compute(backend, dtype):
        values = [v.to(dtype).requires_grad_() for v in exact]
        output = wave_recurrence(
            *values, nonlinearity=nonlinearity, backend=backend, last_only=not every_step
        )
        return [output, *torch.autograd.grad(output.square().sum(), values)]

    reference = compute("loop", torch.float64)
    first = compute("triton", torch.float32)
    for wanted, value in zip(reference, first, strict=True):
        assert (wanted - value).abs().max() <= 2e-5 * wanted.abs().max()
    for _ in range(100):
        assert all(
            torch.equal(a, b) for a, b in zip(first, compute("triton", torch.float32), strict=True)
        )


@pytest.mark.gpu
def test_on_a_gpu_a_second_backward_is_refused():
    values = [v.cuda().requires_grad_() for v in tensors()]
    loss = wave_recurrence(*values, backend="triton").sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
