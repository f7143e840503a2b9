"""The fused kernels: interpreted, compiled for a GPU that need not be there, and on a GPU.

The interpreter needs TRITON_INTERPRET=1 before the kernels are imported and the compiler needs it
away, so both run in processes of their own.
"""

import importlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import weakref
from functools import partial
from pathlib import Path

import pytest
import torch
from recurrences import arguments, errors, results, run
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from companion.gpu_code import (
    CAPABILITIES,
    CONFIGURATIONS,
    PRECISIONS,
    REGISTERS,
    SHARED_BYTES,
    step_instructions,
)
from wrnn.errors import WrnnError
from wrnn.recurrence import choose_backend
from wrnn.recurrence.loop import Tensors, checkpointed

pytest.importorskip("triton", reason="triton is published for Linux only")

ERRORS = """
import json, sys
from recurrences import arguments, errors
from wrnn.recurrence import gpu
import torch

gpu.STRETCH = 2  # so that even a few steps are several stretches

for *sizes, nonlinearity, outputs, wanted, every, shared in json.loads(sys.argv[1]):
    tensors = arguments(*sizes, outputs or 0, shared=shared, dtype=torch.float32)
    tensors.pop("bias_out", None)
    for i, tensor in enumerate(tensors.values()):
        tensor.requires_grad_(i in wanted)
    one_hot = shared == "one-hot"
    found = errors(
        tensors, backend="triton", nonlinearity=nonlinearity, last_only=outputs == 0,
        checkpoint_every=every, one_hot=one_hot, shared_from=None if one_hot else shared)
    print(json.dumps(found))
"""

RESOURCES = """
import json, sys
from companion.gpu_code import kernels_of

for arguments in json.loads(sys.argv[1]):
    print(json.dumps(kernels_of(*arguments)))
"""

TWO_GRAPHS = """
import json, torch
from recurrences import arguments, run

one, two = (arguments(3, 2, 1, 2, 3, 3, 0, seed=seed, dtype=torch.float32) for seed in range(2))
backward = lambda loss, values: torch.autograd.grad(loss.square().sum(), list(values.values()))
alone = [backward(run(values, backend="triton"), values) for values in (one, two)]
first, second = (run(values, backend="triton") for values in (one, two))
together = [backward(second, two), backward(first, one)][::-1]
print(json.dumps(all(torch.equal(a, b) for x, y in zip(alone, together) for a, b in zip(x, y))))
"""

FAR = """
import json, mmap, tempfile, torch
from wrnn.recurrence import gpu_kernels as kernels
from wrnn.recurrence.gpu import layouts

def memory(numbers):
    file = tempfile.TemporaryFile()  # what is never touched of it takes no room
    file.truncate(4 * numbers)
    return mmap.mmap(file.fileno(), 0)

def at(memory, place, count):
    return torch.frombuffer(memory, dtype=torch.float32, offset=4 * place, count=count)

def run(n, channels, batch):
    sizes, _ = layouts(n, channels, 3, "ieee")
    row = (n + 2) * sizes.P
    grad_row = channels * n if sizes.GROUPS else row
    kernel = (channels, channels, 3) if sizes.GROUPS else (sizes.WINDOW + sizes.REST, sizes.WIDTH)
    kernel, steps, x = torch.full(kernel, 0.01), 2, memory(2 * batch)
    states, grads = memory(3 * batch * row), memory(2 * batch * grad_row)
    for t in range(steps):
        at(x, t * batch, 1).fill_(t + 1.0)
        at(grads, t * batch * grad_row, grad_row).fill_(t + 3.0)
    ones, grad_kernel = torch.ones(row), torch.zeros(2 * kernel.numel())
    kind = sizes._asdict() | {"NONLINEARITY": "identity"}
    slots = lambda: [at(states, (1 + t) * batch * row, row).tolist() for t in range(steps)]
    kernels.forward[(1,)](at(states, 0, 1), ones, kernel, at(x, 0, 1), ones, ones, ones, steps,
                          batch, steps, INPUTS=1, KEEP=True, **kind)
    after_forward = slots()
    kernels.backward[(1,)](at(states, 0, 1), kernel, ones, at(grads, 0, 1), ones, grad_kernel,
                           steps, batch, OUTPUTS=-1, NEEDS_KERNEL=True, **kind)
    return [after_forward, slots(), grad_kernel.tolist()]

for n, channels in ((3, 1), (33, 9)):
    near, far = (run(n, channels, batch) for batch in (1, 2**31 // (n * channels) + 1))
    print(json.dumps([near == far, sum(map(sum, near[0])), sum(map(sum, near[1]))]))
"""

RACES = """
import json, sys
import numpy as np
import torch
from recurrences import arguments, gradients, run
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder
from wrnn.recurrence import gpu

gpu.STRETCH = 2

class Watch:
    # Elements at the same place of tensors of one shape are taken to be of one thread, which sees
    # its own stores. Between two barriers no other thread may touch what a thread has stored, nor
    # store where another one has read; and never may two programs meet where one of them stores.

    def __init__(self, keep_barriers):
        self.keep_barriers = keep_barriers
        self.races = {}  # by kernel

    def launch(self, kernel):
        self.kernel, self.owners, self.program = kernel, {}, None
        self.races.setdefault(kernel, 0)
        self.start()

    def start(self):
        self.stored, self.loaded = {}, {}

    def enter(self, program):
        self.program, self.barriers = program, 0
        self.start()

    def barrier(self):
        self.barriers += 1
        if self.keep_barriers or self.barriers == 1:  # the first is before the loop
            self.start()

    def touch(self, pointers, mask, stores):
        addresses = np.asarray(pointers.data)
        inside = np.broadcast_to(np.asarray(mask.data), addresses.shape).ravel()
        for place in np.flatnonzero(inside).tolist():
            address, thread = int(addresses.ravel()[place]), (addresses.shape, place)
            owner = self.owners.get(address, self.program)
            others = {self.stored.get(address, thread)}
            if stores:
                others |= self.loaded.get(address, set())
                self.stored[address] = thread
                self.owners[address] = self.program
            else:
                self.loaded.setdefault(address, set()).add(thread)
            self.races[self.kernel] += len(others - {thread}) + (owner != self.program)

watch = None
plain = {name: getattr(InterpreterBuilder, name) for name in
         ("create_masked_load", "create_masked_store", "set_grid_idx")}
executor = GridExecutor.__call__

def load(self, pointers, mask, *rest):
    watch.touch(pointers, mask, False)
    return plain["create_masked_load"](self, pointers, mask, *rest)

def store(self, pointers, value, mask, *rest):
    watch.touch(pointers, mask, True)
    return plain["create_masked_store"](self, pointers, value, mask, *rest)

def enter(self, *program):
    watch.enter(program)
    return plain["set_grid_idx"](self, *program)

def launch(self, *arguments, **options):
    watch.launch(self.fn.__name__)
    return executor(self, *arguments, **options)

InterpreterBuilder.create_masked_load = load
InterpreterBuilder.create_masked_store = store
InterpreterBuilder.set_grid_idx = enter
InterpreterBuilder.create_barrier = lambda self: watch.barrier()
GridExecutor.__call__ = launch

def races(keep_barriers, *sizes, outputs, shared):
    global watch
    tensors = arguments(*sizes, outputs or 0, shared=shared, dtype=torch.float32)
    tensors.pop("bias_out", None)
    tensors["x"].requires_grad_(False)
    one_hot = shared == "one-hot"
    found = []
    for training in (False, True):
        watch = Watch(keep_barriers)
        with torch.set_grad_enabled(training):
            output = run(tensors, backend="triton", last_only=outputs == 0, one_hot=one_hot,
                         shared_from=None if one_hot else shared)
        if training:
            gradients(output, tensors)
        found.append(watch.races)
    return found

for *sizes, outputs, shared in json.loads(sys.argv[1]):
    found = [races(keep, *sizes, outputs=outputs, shared=shared) for keep in (True, False)]
    print(json.dumps(found))
"""

MESSAGES = """
import sys, torch, triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction
from wrnn.recurrence import gpu_kernels as kernels
from wrnn.recurrence.gpu import fused
from wrnn.recurrence.loop import Tensors

class Hopper:  # as much of a driver as compiling asks for
    get_current_target = lambda self: GPUTarget("cuda", 90, 32)
    get_current_device = lambda self: 0
    get_current_stream = lambda self, device: 0

def call(steps, batch, nonlinearity="relu"):
    shapes = [(steps, batch, 1), (batch, 8), (8, 1), (8,), (1, 1, 3), (1,)]
    fused(Tensors(*map(torch.zeros, shapes)), nonlinearity, last_only=True)

triton.runtime.driver.set_active(Hopper())
launch = JITFunction.run
JITFunction.run = lambda self, *args, warmup, **options: launch(self, *args, warmup=True, **options)
sys.stderr = sys.stdout
sys.stderr.isatty = lambda: True
call(5, 2)
print("then")
for steps, batch in ((1, 1), (7, 16), (64, 3)):
    call(steps, batch)  # other lengths and batches
kernels.forward.device_caches.clear()
call(5, 2)  # from the files of the cache, as in a new process
sys.stderr.isatty = lambda: False
call(5, 2, "tanh")  # not at a terminal
"""


def with_tests_on_the_path():
    """Return the environment of a process that can import what tests share."""
    paths = (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def lines(script, argument, tmp_path, *, interpret, read=json.loads):
    """Run a script in a process of its own; returns its lines of JSON."""
    environment = with_tests_on_the_path()
    environment.pop("TRITON_INTERPRET", None)
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    if interpret:
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, "-c", script, json.dumps(argument)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return [read(line) for line in result.stdout.splitlines()]


ALL = tuple(range(7))  # x, h_0, weight_ih, bias_ih, weight_hh, bias_hh, weight_out


def test_kernels_equal_the_loop_in_the_interpreter(tmp_path):
    some = ALL[1:]  # all but x
    cases = [  # T, B, inputs, channels, n, kernel size, nonlinearity, outputs (None: states), ...
        (3, 2, 1, 2, 5, 3, "relu", None, ALL, None, None),
        (3, 2, 2, 5, 4, 3, "tanh", 3, ALL, None, None),
        (5, 1, 3, 2, 5, 5, "identity", 0, ALL, None, None),
        (3, 1, 3, 2, 7, 7, "relu", 17, ALL, 2, None),
        (1, 1, 1, 1, 3, 3, "tanh", 3, ALL, None, None),
        (4, 2, 1, 1, 3, 3, "relu", 0, ALL, 3, None),
        # In the wide layout: padded channels, then more than one tile.
        (3, 2, 1, 9, 33, 3, "tanh", None, ALL, None, None),
        (3, 1, 4, 9, 33, 5, "relu", 3, ALL, None, None),
        (3, 2, 2, 9, 33, 3, "identity", 17, ALL, 2, None),
        (2, 2, 1, 32, 70, 3, "relu", 0, ALL, None, None),
        # Gradients of some arguments only.
        *[(2, 1, 3, 2, 3, 3, "relu", 2, only, None, None) for only in ([0], [1], [2, 6], [3], [6])],
        *[(2, 2, 1, 9, 33, 3, "tanh", 0, only, None, None) for only in ([4], [0, 5])],
        # The same input for every sample from some step on, with and without its own gradient.
        (5, 2, 3, 2, 5, 3, "relu", 0, some, None, 2),
        (3, 2, 3, 2, 5, 3, "tanh", None, some, None, 0),
        (3, 2, 3, 9, 33, 3, "relu", 0, [2], None, 1),
        (3, 2, 3, 9, 33, 3, "tanh", 3, [3, 4], None, 0),
        (3, 2, 3, 2, 5, 3, "relu", 3, ALL, None, 1),
        (4, 2, 3, 2, 5, 3, "relu", 3, some, 2, 1),
        (2, 2, 2, 2, 5, 3, "relu", 3, some, None, 1),
        # A single 1 among the inputs.
        (2, 2, 10, 6, 5, 3, "relu", 10, some, None, "one-hot"),
        (3, 2, 4, 9, 33, 3, "tanh", 0, ALL, None, "one-hot"),
        (4, 2, 4, 2, 5, 3, "relu", None, some, 2, "one-hot"),
        (3, 2, 2, 2, 5, 3, "relu", 3, some, None, "one-hot"),
        # Products of two parts, and of one that is nearly full.
        (2, 1, 1, 16, 40, 3, "relu", 0, some, None, None),
        (2, 1, 2, 27, 35, 3, "relu", 0, some, None, None),
        (2, 1, 1, 20, 9, 5, "tanh", None, some, None, None),
    ]
    draw = random.Random(0)
    for _ in range(6):
        kernel = draw.choice((3, 5, 7))
        sizes = (draw.randint(1, 4), draw.randint(1, 3), draw.randint(1, 4), draw.randint(1, 12))
        n, outputs = kernel + draw.randint(0, 20), draw.choice((None, 0, 3))
        cases.append((*sizes, n, kernel, draw.choice(("relu", "tanh")), outputs, ALL, None, None))
    for case, found in zip(cases, lines(ERRORS, cases, tmp_path, interpret=True), strict=True):
        assert max(found.values()) < 1e-5, f"{case}: {found}"


def test_no_kernel_races_and_every_one_does_without_its_barrier(tmp_path):
    cases = [  # T, B, inputs, channels, n, kernel size, outputs (None: states), shared from
        (4, 2, 1, 2, 7, 3, 0, None),  # narrow; without gradients in two slots
        (4, 2, 3, 5, 9, 5, 3, None),  # narrow, in groups
        (4, 2, 3, 2, 7, 3, 0, 1),
        (4, 2, 3, 2, 7, 3, 0, "one-hot"),
        (3, 2, 1, 9, 33, 3, 0, None),  # wide; without gradients in two slots
        (3, 1, 4, 9, 33, 5, 3, None),
        (3, 2, 3, 9, 33, 3, None, 1),
        (3, 1, 1, 32, 70, 3, 0, None),  # wide, in tiles
    ]
    races = lines(RACES, cases, tmp_path, interpret=True)
    for case, (right, mutant) in zip(cases, races, strict=True):
        for found in right:  # without gradients, then with them
            assert "forward" in found and not any(found.values()), (case, found)
        assert right[1].keys() == {"forward", "backward"}
        assert all(min(found.values()) > 0 for found in mutant), (case, mutant)


def test_two_live_graphs_share_nothing(tmp_path):
    assert lines(TWO_GRAPHS, None, tmp_path, interpret=True) == [True]


def test_slots_may_lie_further_apart_than_32_bits_reach(tmp_path):
    found = lines(FAR, None, tmp_path, interpret=True)
    assert len(found) == 2
    for equal, states, deltas in found:
        assert equal and states > 0 and deltas > 0


def test_only_a_first_call_compiles_and_says_so_at_a_terminal(tmp_path):
    said, *rest = lines(MESSAGES, None, tmp_path, interpret=False, read=str)
    assert rest == ["then"]
    assert re.fullmatch(
        r"wrnn: compiled forward for n = 8, C = 1, K = 3 in \d+\.\d s \(once per machine\)",
        said,
    )


LENGTHS = {"copy": (120, 128), "adding": (400, 128), "noisy sequential CIFAR10": (1000, 256)}


def paper_tensors(name, device, **kind):
    """Return the tensors of a configuration of the paper at its length and batch size."""
    n, channels, kernel, inputs, outputs = map(abs, CONFIGURATIONS[name])
    steps, batch = LENGTHS.get(name, (784, 128))
    hidden = channels * n
    shapes = [(steps, batch, inputs), (batch, hidden), (hidden, inputs), (hidden,)]
    shapes += [(channels, channels, kernel), (channels,), *[(outputs, hidden)] * (outputs > 0)]
    return [
        torch.zeros(shape, device=device, requires_grad=i > 1, **kind)
        for i, shape in enumerate(shapes)
    ]


def train(values, compute, **options):
    """Run forward and backward; with a seventh tensor, it is read out at every step."""
    last_only = len(values) == 6
    output, h_n = compute(Tensors(*values), "relu", last_only=last_only, **options)
    (h_n if last_only else output).sum().backward()


class Memory(TorchDispatchMode):
    """Counts the bytes of all that is alive, and of the most that ever was."""

    def __init__(self, given):
        super().__init__()
        self.alive = {}
        self.total = self.peak = 0
        self.count(given)

    def count(self, tensors):
        for tensor in tensors:
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            if id(storage) not in self.alive:
                self.alive[id(storage)] = storage.nbytes()
                self.total += storage.nbytes()
                weakref.finalize(storage, self.forget, id(storage))
        self.peak = max(self.peak, self.total)

    def forget(self, name):
        self.total -= self.alive.pop(name)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.count(tree_leaves(result))
        return result


class NoKernel:
    """Stands in for a kernel where tensors have shapes only."""

    def __getitem__(self, grid):
        return lambda *arguments, **constants: None


@pytest.fixture(params=["meta", pytest.param("cuda", marks=pytest.mark.gpu)])
def fused(request, monkeypatch):
    """Return the function that is tested, and a device.

    On meta, where tensors have no values, reading one, as .item() does, is an error. A call that
    gets through there never waits for a device, which a CUDA graph asks for.
    """
    module = importlib.import_module("wrnn.recurrence.gpu")
    if request.param == "meta":
        for name in ("forward", "backward"):
            monkeypatch.setattr(module.kernels, name, NoKernel())
    return module.fused, request.param


def own_memory(call, values):
    """Return the most bytes that a call takes beside its arguments, when all is warmed up."""
    if values[0].is_meta:
        with Memory(values) as memory:
            call()
        return memory.peak - sum(value.nbytes for value in values)
    call()  # compiles, and lets PyTorch take its workspaces
    for value in values:
        value.grad = None
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    return torch.cuda.max_memory_allocated() - before


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_training_takes_the_memory_of_the_states(name, fused):
    compute, device = fused
    values = paper_tensors(name, device)
    given = sum(tensor.nbytes for tensor in values)
    states = len(values[0]) * values[1].nbytes
    own = own_memory(lambda: train(values, compute), values)
    assert states < own + given <= 1.25 * (states + given)


@pytest.mark.parametrize("fused", ["meta"], indirect=True)
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_without_gradients_only_some_states_are_kept(name, fused):
    values = paper_tensors(name, "meta")
    last_only = len(values) == 6
    with torch.no_grad():
        call = partial(fused[0], Tensors(*values), "relu", last_only=last_only)
        own = own_memory(call, values)
    kept = 2 if last_only and values[0].shape[2] <= 2 else 33
    assert own < (kept + 3) * 1.1 * values[1].nbytes


def test_a_hundred_thousand_steps_train_in_the_memory_of_seven_hundred(fused):
    x, *values = paper_tensors("sequential MNIST", fused[1])
    values = [x.new_zeros(100_000, *x.shape[1:]), *values]
    compute = checkpointed(partial(fused[0], nonlinearity="relu"), 316)
    own = own_memory(lambda: compute(Tensors(*values), last_only=True)[1].sum().backward(), values)
    assert own <= 700 * values[1].nbytes


def check_that_they_fit(wanted, capability, folder):
    """Compile configurations of the paper, and check what their kernels take."""
    cases = [(*CONFIGURATIONS[name], precision, capability) for name, precision in wanted]
    compiled = lines(RESOURCES, cases, folder, interpret=False)
    for (name, precision), kernels in zip(wanted, compiled, strict=True):
        in_parts = name != "copy" and precision != "ieee"
        for direction, used in kernels.items():
            where = (name, precision, direction, used)
            assert used["shared"] <= SHARED_BYTES[capability], where
            assert used["stack"] == used["spills"] == 0, where
            assert used["registers"] <= REGISTERS // (2 if name == "copy" else 1), where
            assert used["cycles"] > 0, where
            assert (used["tensor products"] > 0) == in_parts, where
            assert used["tensor products"] or used["multiply-adds"], where


def test_configurations_of_the_paper_fit_a_gpu(tmp_path):
    wanted = [("copy", "ieee"), ("adding", "ieee"), ("sequential MNIST", "tf32x3")]
    check_that_they_fit(wanted, 90, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_configuration_of_the_paper_fits_every_gpu(precision, capability, tmp_path):
    names = [name for name in CONFIGURATIONS if name != "copy" or precision == "ieee"]
    check_that_they_fit([(name, precision) for name in names], capability, tmp_path)


@pytest.mark.slow
def test_the_widest_and_the_smallest_kernels_fit_too(tmp_path):
    sizes = [(300, 64, 7, 1, 0, "ieee"), (32, 8, 7, 3, 0, "ieee"), (3, 9, 3, 1, 0, "tf32")]
    compiled = lines(RESOURCES, [(*size, 90) for size in sizes], tmp_path, interpret=False)
    wide, narrow, small = (kernels.values() for kernels in compiled)
    assert all(used["shared"] <= SHARED_BYTES[90] for used in wide)
    assert all(used["stack"] == used["spills"] == 0 for used in (*narrow, *small))


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_products_are_padded_by_less_than_half(kernel_size):
    layouts = importlib.import_module("wrnn.recurrence.gpu").layouts
    for channels in range(9, 65):
        for sizes in layouts(100, channels, kernel_size, "ieee"):
            taps = sizes.WINDOW + sizes.REST
            assert kernel_size * channels <= kernel_size * sizes.P <= taps
            assert taps <= 1.5 * kernel_size * sizes.P or taps == 16 * (taps // 16) <= 48
            assert {bin(size).count("1") for size in (sizes.WINDOW, sizes.BLOCK)} == {1}
            assert sizes.REST & (sizes.REST - 1) == 0 and sizes.BLOCK * sizes.TILES >= 100
    adding, _ = layouts(100, 27, 3, "ieee")
    products = adding.BLOCK * adding.TILES * (adding.WINDOW + adding.REST) * adding.WIDTH
    assert products < 1.8 * 100 * 81 * 27


def test_instructions_of_a_step_are_those_of_the_loop_over_time():
    """Three before the loop; in it four and, for every tile, two; then the trap at the end."""
    code = """
        /*0000*/ MOV R1 ;
        /*0010*/ MOV R2 ;
        /*0020*/ MOV R3 ;
    .L_x_1:
        /*0030*/ LDG R4 ;
        /*0040*/ BAR.SYNC ;
    .L_x_0:
        /*0050*/ FFMA R5 ;
        /*0060*/ @P0 BRA `(.L_x_0) ;
        /*0070*/ STG R5 ;
        /*0080*/ @P1 BRA `(.L_x_1) ;
        /*0090*/ EXIT ;
    .L_x_2:
        /*00a0*/ BRA `(.L_x_2);
    """
    assert step_instructions(code, 1) == 6
    assert step_instructions(code, 3) == 10


def small(channels=2, kernel=3, **kind):
    """Return tensors of a small recurrence in float32."""
    return arguments(4, 2, 1, channels, 8, kernel, 0, **{"dtype": torch.float32} | kind)


@pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter runs on the CPU"
)
def test_by_name_on_a_cpu_is_one_clear_error():
    with pytest.raises(WrnnError, match=r"'triton' cannot compute this: it runs on CUDA"):
        run(small(), backend="triton")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (small(kernel=1), "kernel sizes 3, 5 and 7, not 1"),
        (small(channels=65), "up to 64 channels, not 65"),
        (small(dtype=torch.float64), "float32 and the input is torch.float64"),
    ],
)
def test_what_the_kernels_cannot_do_has_a_reason(values, reason, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # so that the device is not the reason
    name, why = choose_backend(values["x"], values["weight_hh"])
    assert name != "triton" and reason in why
    with pytest.raises(WrnnError, match=reason):
        run(values, backend="triton")


def test_importing_the_package_does_not_import_triton():
    script = "import sys, wrnn.recurrence; print('wrnn.recurrence.gpu' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"


def drawn(steps, batch, channels, n, kernel=3, inputs=1, outputs=0, shared=None):
    """Return tensors on the GPU in float32, with a kernel of half the gain."""
    sizes = (steps, batch, inputs, channels, n, kernel, outputs)
    tensors = arguments(*sizes, shared=shared, gain=0.5, dtype=torch.float32, device="cuda")
    tensors.pop("bias_out", None)
    return tensors


def same_bits(first, *others):
    """Whether results are equal to the last bit."""
    return all(torch.equal(first[name], other[name]) for other in others for name in first)


@pytest.mark.gpu
@pytest.mark.parametrize("nonlinearity", ["relu", "tanh", "identity"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_on_a_gpu_equal_to_the_loop_and_to_itself(name, nonlinearity):
    n, channels, kernel, inputs, outputs = CONFIGURATIONS[name]
    shared = "one-hot" if inputs < 0 else None
    tensors = drawn(50, 32, channels, n, kernel, abs(inputs), outputs, shared)
    options = {"backend": "triton", "nonlinearity": nonlinearity, "last_only": not outputs}
    options["one_hot"] = inputs < 0
    assert max(errors(tensors, **options).values()) <= 2e-5
    first = results(tensors, **options)
    assert all(same_bits(first, results(tensors, **options)) for _ in range(100))


@pytest.mark.gpu
@pytest.mark.parametrize("batch", [128, 256])
@pytest.mark.parametrize(("n", "channels"), [(100, 6), (256, 16), (169, 32)])
def test_on_a_gpu_equal_inputs_give_equal_bits_at_full_length(n, channels, batch):
    tensors = drawn(784, batch, channels, n)
    first = results(tensors, backend="triton", last_only=True)
    assert torch.equal(first["inferred"], first["output"])  # two slots, used in turn
    for _ in range(30):
        assert same_bits(first, results(tensors, backend="triton", last_only=True))


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["sequential MNIST", "sequential MNIST, n=169", "adding"])
def test_on_a_gpu_three_parts_are_as_exact_as_float32(name):
    n, channels, kernel, inputs, _ = CONFIGURATIONS[name]
    tensors = drawn(200, 32, channels, n, kernel, inputs)
    found = errors(tensors, backend="triton", precision="tf32x3", last_only=True)
    assert max(found.values()) <= 2e-5, found


@pytest.mark.gpu
@pytest.mark.parametrize(("n", "channels"), [(100, 6), (256, 16)])
def test_on_a_gpu_more_than_2_to_the_31_states(n, channels):
    steps, batch = 2**31 // (512 * n * channels) + 2, 512
    tensors = drawn(steps, batch, channels, n)

    def compute(x, h_0):
        values = tensors | {"x": x.clone().requires_grad_(), "h_0": h_0.clone().requires_grad_()}
        last = run(values, nonlinearity="tanh", backend="triton", last_only=True)
        grads = torch.autograd.grad(last.sum(), (values["x"], values["h_0"]))
        return last[0, -1], *(grad[..., -1, :] for grad in grads)

    x, h_0 = tensors["x"].detach(), tensors["h_0"].detach()
    together = compute(x, h_0)  # the last sample, when it is far from the first
    alone = compute(x[:, -1:].contiguous(), h_0[-1:])
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.gpu
def test_on_a_gpu_two_cuda_graphs_replay_what_eager_steps_compute():
    def compute(values):
        output = run(values, backend="triton", nonlinearity="tanh")
        return [output, *torch.autograd.grad(output.square().sum(), list(values.values()))]

    inputs = [drawn(20, 8, channels=2, n=100), drawn(20, 8, channels=2, n=100)]
    inputs[1]["x"].data.neg_()
    wanted = [[t.clone() for t in compute(values)] for values in inputs]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for values in inputs:
            compute(values)
    torch.cuda.current_stream().wait_stream(stream)
    graphs, replayed = [torch.cuda.CUDAGraph() for _ in inputs], []
    for graph, values in zip(graphs, inputs, strict=True):
        with torch.cuda.graph(graph):
            replayed.append(compute(values))
    for graph in (*graphs, *reversed(graphs)):
        graph.replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(replayed, wanted)


def compute_sanitizer():
    """Return where compute-sanitizer is: on the path, in a toolkit or in a wheel; or None."""
    folders = [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))]
    folders += [Path(part) / "nvidia" for part in sys.path]
    files = (file for folder in folders for file in folder.rglob("compute-sanitizer"))
    return shutil.which("compute-sanitizer") or next(filter(Path.is_file, files), None)


SANITIZED = """
import torch
from recurrences import arguments, run

for n, channels, inputs, outputs in ((9, 5, 1, 3), (40, 9, 4, 3), (70, 32, 2, 0)):
    tensors = arguments(4, 3, inputs, channels, n, 3, outputs, dtype=torch.float32, device="cuda")
    run(tensors, backend="triton", last_only=not outputs).sum().backward()
torch.cuda.synchronize()
"""


@pytest.mark.gpu
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_on_a_gpu_compute_sanitizer_finds_nothing(tool):
    program = compute_sanitizer()
    if program is None:
        pytest.skip("compute-sanitizer is not installed")
    result = subprocess.run(
        [program, "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", SANITIZED],
        # So that memory has its bounds.
        env=with_tests_on_the_path() | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-2000:]


@pytest.mark.gpu
def test_on_a_gpu_a_second_backward_is_refused():
    loss = run(small(device="cuda"), backend="triton").sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
