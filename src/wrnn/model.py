"""The models: the Wave-RNN, its locally connected variant, the identity RNN, and a readout.

The Wave-RNN (paper section 2) is a simple RNN, ``h_t = act(u * h_{t-1} + V x_t + b)``, whose
recurrent product is a circular cross-correlation on rings of units. Paper symbols: ``u`` is
``weight_hh``, ``V`` is ``weight_ih`` and ``b`` is ``bias_ih`` plus ``bias_hh``, as in the released
code; ``c`` is ``num_channels``, ``n`` is ``channel_size`` and ``f`` is ``kernel_size``.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.nn.utils.rnn import PackedSequence

from wrnn import init
from wrnn.errors import (
    WrnnError,
    check_choice,
    check_device,
    check_flag,
    check_generator,
    check_integer,
    check_tensor,
    shown,
)
from wrnn.recurrence import (
    BACKENDS,
    check_kernel_size,
    check_tensors,
    choose_backend,
    read_out,
    recurrent_states,
    without_autocast,
    without_half,
)
from wrnn.recurrence.loop import Tensors

FLOATS = (torch.float32, torch.float64)
# Arguments of torch.nn.RNN that these layers have at one value only, and what to do instead.
REFUSED = {
    "num_layers": (1, "put one layer behind the other"),
    "dropout": (0, "put a torch.nn.Dropout between layers"),
    "bidirectional": (False, "give a second layer the sequence turned round, x.flip(0)"),
    "proj_size": (0, "put a torch.nn.Linear behind the layer"),
}


class RecurrentLayer(nn.Module):
    """The call of torch.nn.RNN for one layer of either kind; see :class:`WaveRNN` for the shapes.

    Parameters are weight_ih (hidden_size, input_size), bias_ih (hidden_size,), weight_hh and
    bias_hh of the shapes that a kind gives, each with ``suffix`` behind its name.
    """

    suffix = ""
    local = False

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        kernel_shape: tuple[int, ...],
        kernel_bias_shape: tuple[int, ...],
        refused: dict[str, Any],
        *,
        nonlinearity: str,
        bias: bool,
        batch_first: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        backend: str,
    ):
        super().__init__()
        for name, value in refused.items():
            only, instead = REFUSED.get(name, (None, "see the API reference for what there is"))
            if not isinstance(value, int | float) or value != only:
                raise WrnnError(f"{type(self).__name__} has no {name}={shown(value)}: {instead}")
        check_choice("backend", backend, BACKENDS)
        if not (dtype is None or (isinstance(dtype, torch.dtype) and dtype in FLOATS)):
            raise WrnnError(f"dtype must be torch.float32 or torch.float64, not {shown(dtype)}")
        device = None if device is None else check_device(device)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.nonlinearity = nonlinearity
        self.bias = check_flag("bias", bias)
        self.batch_first = check_flag("batch_first", batch_first)
        self.backend = backend
        for name, shape in (
            ("weight_ih", (hidden_size, input_size)),
            ("weight_hh", kernel_shape),
            ("bias_ih", (hidden_size,)),
            ("bias_hh", kernel_bias_shape),
        ):
            there = self.bias or name.startswith("weight")
            value = nn.Parameter(torch.empty(shape, device=device, dtype=dtype)) if there else None
            self.register_parameter(name + self.suffix, value)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run the whole sequence from the state hx, or from zero; shapes as in the class."""
        x, h_0 = self._check(input, hx)
        states, h_n = self._states(x, h_0, batch_first=self.batch_first)
        output = read_out(states, h_n)
        h_n = h_n.unsqueeze(0)  # (1, B, hidden)
        if input.dim() == 2:
            return output.squeeze(1), h_n.squeeze(1)
        return (output.transpose(0, 1) if self.batch_first else output), h_n

    def compute(self, input: Tensor, hx: Tensor | None = None, **options) -> Tensor:
        """Run the sequence and return, time first, only what is asked for.

        Options are ``last_only``, ``weight_out``, ``bias_out``, ``checkpoint_every``,
        ``shared_from`` and ``one_hot`` of :func:`wrnn.recurrence.wave_recurrence`: what is not
        needed is never written out.
        """
        x, h_0 = self._check(input, hx)
        results = self._states(x, h_0, **options)
        output = read_out(*results, options.get("weight_out"), options.get("bias_out"))
        return output.squeeze(1) if input.dim() == 2 else output

    def _states(
        self,
        x: Tensor,
        h_0: Tensor,
        weight_out: Tensor | None = None,
        bias_out: Tensor | None = None,
        **options: Any,
    ) -> tuple[Tensor | None, Tensor]:
        """Return the states or readouts of all steps, if asked for, and the last state."""
        names = ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
        weights = (getattr(self, name + self.suffix) for name in names)
        tensors = Tensors._make((x, h_0, *weights, weight_out, bias_out))
        return self._run(tensors, **options)

    def _run(self, tensors: Tensors, **options: Any) -> tuple[Tensor | None, Tensor]:
        kind = {"nonlinearity": self.nonlinearity, "backend": self.backend, "local": self.local}
        return recurrent_states(tensors, **kind, **options)  # type: ignore[arg-type]

    def _check(self, x: Tensor, h_0: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return x (T, B, input) and h_0 (B, hidden), and raise where one does not fit."""
        if isinstance(x, PackedSequence):
            raise WrnnError("a PackedSequence is not taken: pad the sequences to one length")
        check_tensor("input", x)
        axes = "B, T" if self.batch_first else "T, B"
        if x.dim() not in (2, 3) or x.shape[-1] != self.input_size:
            raise WrnnError(
                f"input has shape {tuple(x.shape)}: expected ({axes}, {self.input_size}), time, "
                f"batch and input_size, or (T, {self.input_size}) for one sequence"
            )
        batched = x.dim() == 3
        if not batched:
            x = x.unsqueeze(1)
        elif self.batch_first:
            x = x.transpose(0, 1)
        if not x.shape[0]:
            raise WrnnError("input has no time steps: expected one or more")
        shape = (1, x.shape[1], self.hidden_size) if batched else (1, self.hidden_size)
        if h_0 is None:
            h_0 = x.new_zeros(shape)
        else:
            check_tensor("hx", h_0)
            if h_0.shape != shape:
                raise WrnnError(f"hx has shape {tuple(h_0.shape)}: expected {shape}")
        h_0 = h_0[0] if batched else h_0
        weight = getattr(self, f"weight_ih{self.suffix}")
        x, h_0 = without_half(x), without_half(h_0)
        for name, tensor in (("input", x), ("hx", h_0)):
            if (tensor.dtype, tensor.device) != (weight.dtype, weight.device):
                raise WrnnError(
                    f"{name} is {tensor.dtype} on {tensor.device}, but the layer is "
                    f"{weight.dtype} on {weight.device}"
                )
        return x, h_0

    def extra_repr(self) -> str:
        """Sizes, and what is not as by default, shown by print(model)."""
        usual = {"bias": True, "batch_first": False, "backend": "auto"}
        changed = [f"{k}={getattr(self, k)!r}" for k, v in usual.items() if getattr(self, k) != v]
        return ", ".join([self._sizes(), f"nonlinearity={self.nonlinearity!r}", *changed])

    def _sizes(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"

    def __prepare_scriptable__(self):
        raise WrnnError("torch.jit.script is not supported: use torch.compile or torch.export")


class WaveRNN(RecurrentLayer):
    """``num_channels`` rings of ``channel_size`` recurrent units, called as torch.nn.RNN is.

    ``output, h_n = rnn(input, hx)``: input (T, B, input_size) and output (T, B, hidden_size), or
    (B, T, ...) with ``batch_first=True``; hx, which is zero by default, and h_n (1, B,
    hidden_size). One sequence is (T, input_size), its states (T, hidden_size) and (1, hidden_size).
    hidden_size is num_channels * channel_size, and unit ``channel * channel_size + site`` is that
    channel's site.

    Parameters: weight_ih (hidden_size, input_size), bias_ih (hidden_size,), weight_hh
    (num_channels, num_channels, kernel_size), cross-correlated on the ring, and bias_hh
    (num_channels,). A new layer is initialised as in the released code; :meth:`reset_parameters`
    has the switches.

    Args:
        input_size: numbers per step.
        channel_size: units on a ring.
        num_channels: rings.
        kernel_size: units of a ring, itself in the middle, that reach a unit in a step; odd.
        nonlinearity: "relu" (the paper), "tanh" or "identity".
        bias: whether there are bias_ih and bias_hh.
        batch_first: whether batch comes before time in input and output.
        backend: "auto", "loop", "numba" or "triton".
        device: where the parameters are.
        dtype: torch.float32 or torch.float64; None is PyTorch's default.

    Raises:
        WrnnError: an argument that is not one of these, here or in a call.

    Where other processes use the same cores, set ``OMP_WAIT_POLICY=passive`` in the environment
    before torch is imported, as the package ``companion`` does: by default PyTorch's threads spin
    for a while where they wait, and steps can take many times as long.

    >>> rnn = WaveRNN(3, 8, num_channels=2)
    >>> x = torch.rand(5, 4, 3)
    >>> output, h_n = rnn(x)
    >>> output.shape, h_n.shape
    (torch.Size([5, 4, 16]), torch.Size([1, 4, 16]))

    What it computes, step by step:

    >>> bias = rnn.bias_ih.view(2, 8) + rnn.bias_hh.unsqueeze(-1)
    >>> h = torch.zeros(4, 2, 8)  # (B, channels, sites)
    >>> for x_t in x:
    ...     ring = F.pad(h, (1, 1), mode="circular")
    ...     h = F.relu(F.conv1d(ring, rnn.weight_hh) + (x_t @ rnn.weight_ih.T).view(4, 2, 8) + bias)
    >>> torch.allclose(h.flatten(1), h_n[0])
    True
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None

    def __init__(
        self,
        input_size: int,
        channel_size: int,
        num_channels: int = 1,
        *,
        kernel_size: int = 3,
        nonlinearity: str = "relu",
        bias: bool = True,
        batch_first: bool = False,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **refused,
    ):
        input_size = check_integer("input_size", input_size, 1)
        channel_size = check_integer("channel_size", channel_size, 1)
        num_channels = check_integer("num_channels", num_channels, 1)
        kernel_size = check_integer("kernel_size", kernel_size, 1)
        check_kernel_size(kernel_size, channel_size)
        check_choice("nonlinearity", nonlinearity, ("relu", "tanh", "identity"))
        sites = (channel_size,) if self.local else ()
        super().__init__(
            input_size,
            num_channels * channel_size,
            (num_channels, num_channels, *sites, kernel_size),
            (num_channels, *sites),
            refused,
            nonlinearity=nonlinearity,
            bias=bias,
            batch_first=batch_first,
            device=device,
            dtype=dtype,
            backend=backend,
        )
        self.channel_size = channel_size
        self.num_channels = num_channels
        self.kernel_size = kernel_size
        self.reset_parameters()

    def reset_parameters(
        self,
        *,
        recurrent: str = "shift",
        velocity: float | Sequence[float] | Tensor = 1.0,
        input: str = "ones",
        input_bias: str = "zero",
        recurrent_bias: str = "default",
        generator: torch.Generator | None = None,
    ) -> None:
        """Initialise every parameter; the defaults are what the released code does with V-init.

        Without V-init the released code starts with ``input="normal", input_bias="uniform"``.

        Args:
            recurrent: "shift" (u-shift, the kernel [0, 1 - v, v] from each channel to itself),
                "identity" (a shift of velocity 0) or PyTorch's "default".
            velocity: v, sites per step of the shift, one number or one per channel; a kernel of
                size 1 stays where it is.
            input: "ones" or "identity" (V-init: input enters at site 0 of every channel; from all
                inputs with weight 1, or input i into channel i), "normal" for a normal
                distribution of standard deviation 0.001, or "default" for torch.nn.Linear's
                U(-1/sqrt(d), 1/sqrt(d)), where d is the input size.
            input_bias: "zero", or "uniform" for torch.nn.Linear's U(-1/sqrt(d), 1/sqrt(d)).
            recurrent_bias: "default" is PyTorch's U(-1/sqrt(c f), 1/sqrt(c f)), which the released
                code leaves in place; "zero" starts the layer as exactly the shift.
            generator: source of randomness; None is PyTorch's global one.
        """
        check_generator(generator)
        check_choice("recurrent init", recurrent, ("shift", "identity", "default"))
        check_choice("input init", input, ("ones", "identity", "normal", "default"))
        check_choice("input bias init", input_bias, ("zero", "uniform"))
        check_choice("recurrent bias init", recurrent_bias, ("default", "zero"))
        fan_in = self.num_channels * self.kernel_size
        if recurrent == "default":
            init.fan_in_uniform_(self.weight_hh, fan_in, generator)
        else:
            still = recurrent == "identity" or self.kernel_size == 1
            init.shift_(self.weight_hh, 0.0 if still else velocity)
        if input == "normal":
            nn.init.normal_(self.weight_ih, std=0.001, generator=generator)
        elif input == "default":
            init.fan_in_uniform_(self.weight_ih, self.input_size, generator)
        else:
            init.single_site_(self.weight_ih, self.num_channels, kind=input)
        _start_bias_(self.bias_ih, input_bias, self.input_size, generator)
        kind = "uniform" if recurrent_bias == "default" else "zero"
        _start_bias_(self.bias_hh, kind, fan_in, generator)

    def _sizes(self) -> str:
        return (
            f"{self.input_size}, {self.channel_size}, num_channels={self.num_channels}, "
            f"kernel_size={self.kernel_size}"
        )


class LocalWaveRNN(WaveRNN):
    """The Wave-RNN without weight sharing: every site has a kernel and a bias of its own.

    Same call and same initialisers as :class:`WaveRNN`; weight_hh is (num_channels, num_channels,
    channel_size, kernel_size) and bias_hh (num_channels, channel_size). It is in the released code
    only. There is one way to compute it, the step loop.

    >>> rnn = LocalWaveRNN(3, 8, num_channels=2)
    >>> rnn.weight_hh.shape, rnn(torch.rand(5, 4, 3))[0].shape
    (torch.Size([2, 2, 8, 3]), torch.Size([5, 4, 16]))
    """

    local = True


class IdentityRNN(RecurrentLayer):
    """The iRNN (Le et al. 2015): torch.nn.RNN with ReLU, whose recurrent matrix starts as identity.

    Same call and same parameter names as torch.nn.RNN: weight_ih_l0 (hidden_size, input_size),
    weight_hh_l0 (hidden_size, hidden_size), bias_ih_l0 and bias_hh_l0 (hidden_size,). On a CPU with
    numba, and a batch of at least a sixth of the units, it is computed as a Wave-RNN whose channels
    have a single site, which the same compiled loops run faster; elsewhere as torch.nn.RNN is. Any
    other backend than "auto" computes it as such a Wave-RNN, whatever the batch.

    Args:
        input_size: numbers per step.
        hidden_size: units.
        nonlinearity: "relu" or "tanh".
        bias: whether there are bias_ih_l0 and bias_hh_l0.
        batch_first: whether batch comes before time in input and output.
        backend: "auto", "loop" or "numba".
        device: where the parameters are.
        dtype: torch.float32 or torch.float64; None is PyTorch's default.

    Raises:
        WrnnError: an argument that is not one of these, here or in a call.

    >>> rnn = IdentityRNN(3, 6, batch_first=True)
    >>> output, h_n = rnn(torch.rand(4, 5, 3), torch.rand(1, 4, 6))
    >>> output.shape, h_n.shape
    (torch.Size([4, 5, 6]), torch.Size([1, 4, 6]))
    """

    suffix = "_l0"
    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor | None
    bias_hh_l0: Tensor | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        nonlinearity: str = "relu",
        bias: bool = True,
        batch_first: bool = False,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **refused,
    ):
        input_size = check_integer("input_size", input_size, 1)
        hidden_size = check_integer("hidden_size", hidden_size, 1)
        check_choice("nonlinearity", nonlinearity, ("relu", "tanh"))
        super().__init__(
            input_size,
            hidden_size,
            (hidden_size, hidden_size),
            (hidden_size,),
            refused,
            nonlinearity=nonlinearity,
            bias=bias,
            batch_first=batch_first,
            device=device,
            dtype=dtype,
            backend=backend,
        )
        self.reset_parameters()
        self.flatten_parameters()

    def reset_parameters(
        self,
        *,
        recurrent: str = "identity",
        input: str = "normal",
        input_bias: str = "zero",
        recurrent_bias: str = "default",
        generator: torch.Generator | None = None,
    ) -> None:
        """Initialise every parameter; d is the input size, n the number of units.

        The released code starts with ``input_bias="uniform"`` wherever it does not use V-init, and
        with ``recurrent_bias="uniform"`` where ``recurrent="default"``.

        Args:
            recurrent: "identity", "shift" (the shift matrix, Table 4's Sigma-init), or "default"
                for PyTorch's U(-1/sqrt(n), 1/sqrt(n)).
            input: "normal" is of standard deviation 0.001, the released code for copy and adding;
                "uniform" is torch.nn.Linear's U(-1/sqrt(d), 1/sqrt(d)), its choice for images;
                "default" is torch.nn.RNN's U(-1/sqrt(n), 1/sqrt(n)); "ones" or
                "identity" is the wRNN's V-init on one ring.
            input_bias: "zero", or "uniform" for torch.nn.Linear's U(-1/sqrt(d), 1/sqrt(d)).
            recurrent_bias: "default" is zero; "uniform" is U(-1/sqrt(n), 1/sqrt(n)).
            generator: source of randomness; None is PyTorch's global one.
        """
        check_generator(generator)
        check_choice("recurrent init", recurrent, ("identity", "shift", "default"))
        check_choice("input init", input, ("normal", "uniform", "default", "ones", "identity"))
        check_choice("input bias init", input_bias, ("zero", "uniform"))
        check_choice("recurrent bias init", recurrent_bias, ("default", "zero", "uniform"))
        if input == "normal":
            nn.init.normal_(self.weight_ih_l0, std=0.001, generator=generator)
        elif input in ("uniform", "default"):
            fan_in = self.input_size if input == "uniform" else self.hidden_size
            init.fan_in_uniform_(self.weight_ih_l0, fan_in, generator)
        else:
            init.single_site_(self.weight_ih_l0, 1, kind=input)
        if recurrent == "identity":
            init.identity_(self.weight_hh_l0)
        elif recurrent == "shift":
            init.shift_matrix_(self.weight_hh_l0)
        else:
            init.fan_in_uniform_(self.weight_hh_l0, self.hidden_size, generator)
        _start_bias_(self.bias_ih_l0, input_bias, self.input_size, generator)
        kind = "zero" if recurrent_bias == "default" else recurrent_bias
        _start_bias_(self.bias_hh_l0, kind, self.hidden_size, generator)

    def _run(self, tensors: Tensors, **options: Any) -> tuple[Tensor | None, Tensor]:
        x, kernel = tensors.x, tensors.weight_hh.unsqueeze(-1)  # (hidden, hidden, 1)
        as_rings = tensors._replace(weight_hh=kernel)
        numba = x.shape[1] and choose_backend(x, kernel)[0] == "numba"
        if numba or self.backend != "auto" or options.get("checkpoint_every") is not None:
            return super()._run(as_rings, **options)
        return self._run_library(as_rings, **options)

    def _run_library(
        self,
        as_rings: Tensors,
        *,
        last_only: bool = False,
        batch_first: bool = False,
        checkpoint_every: None = None,
        shared_from: int | None = None,
        one_hot: bool = False,
    ) -> tuple[Tensor | None, Tensor]:
        """Compute it as torch.nn.RNN does; options that only save work are checked, and no more."""
        check_flag("last_only", last_only)
        check_flag("one_hot", one_hot)
        if shared_from is not None:
            check_integer("shared_from", shared_from, 0)
        tensors = check_tensors(as_rings)
        x, matrix = tensors.x, tensors.weight_hh.squeeze(-1)  # (hidden, hidden)
        run = torch.rnn_relu if self.nonlinearity == "relu" else torch.rnn_tanh
        weights = [tensors.weight_ih, matrix]
        weights += [tensors.bias_ih, tensors.bias_hh] if self.bias else []  # type: ignore[list-item]
        sizes = (self.bias, 1, 0.0, torch.is_grad_enabled(), False, False)
        with without_autocast(x):
            states, h_n = run(x, tensors.h_0.unsqueeze(0), weights, *sizes)  # (T, B, hidden)
            output = None if last_only else states
            if output is not None and tensors.weight_out is not None:
                output = F.linear(output, tensors.weight_out, tensors.bias_out)
        return output, h_n[0]

    def flatten_parameters(self) -> None:
        """Lay the parameters out one behind the other, as cuDNN wants them, where it is used."""
        weights: list[Tensor] = list(self.parameters())
        if weights[0].is_cuda and torch.backends.cudnn.is_acceptable(weights[0]):
            mode = 0 if self.nonlinearity == "relu" else 1
            sizes = (self.input_size, mode, self.hidden_size, 0, 1)
            with torch.no_grad(), torch.cuda.device_of(weights[0]):
                torch._cudnn_rnn_flatten_weight(weights, len(weights), *sizes, False, False)

    def _apply(self, function, recurse: bool = True):
        super()._apply(function, recurse)
        self.flatten_parameters()
        return self


class SequenceModel(nn.Module):
    """A recurrent layer with a readout: (T, B, input) -> (T, B, output), or (B, output).

    One sequence (T, input) gives (T, output), or (output,).

    Args:
        rnn: any layer called as torch.nn.RNN is, with time first.
        output_size: width of the readout.
        readout: "linear", or "mlp" with one hidden layer of 100 ReLU units (Table 2, wRNN + MLP).
        every_step: read out at every step (copy) or only at the last one (all other tasks).

    Raises:
        WrnnError: an argument that is not one of these.

    >>> model = SequenceModel(WaveRNN(3, 8, num_channels=2), output_size=7)
    >>> model(torch.rand(5, 4, 3)).shape
    torch.Size([4, 7])
    """

    def __init__(
        self, rnn: nn.Module, output_size: int, *, readout: str = "linear", every_step: bool = False
    ):
        super().__init__()
        output_size = check_integer("output_size", output_size, 1)
        check_choice("readout", readout, ("linear", "mlp"))
        hidden_size = getattr(rnn, "hidden_size", None)
        if not isinstance(rnn, nn.Module) or not isinstance(hidden_size, int):
            raise WrnnError(f"rnn must be a layer with a hidden_size, not {shown(rnn)}")
        if getattr(rnn, "batch_first", False):
            raise WrnnError("SequenceModel takes a layer with time first: use batch_first=False")
        if getattr(rnn, "bidirectional", False) or getattr(rnn, "proj_size", 0):
            raise WrnnError("SequenceModel takes a layer with one direction and no projection")
        self.rnn = rnn
        self.every_step = check_flag("every_step", every_step)
        like = next(rnn.parameters(), torch.empty(0))
        kind: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        self.readout: nn.Module
        if readout == "linear":
            self.readout = nn.Linear(hidden_size, output_size, **kind)
        else:
            self.readout = nn.Sequential(
                nn.Linear(hidden_size, 100, **kind),
                nn.ReLU(),
                nn.Linear(100, output_size, **kind),
            )

    def forward(
        self,
        x: Tensor,
        h_0: Tensor | tuple[Tensor, Tensor] | None = None,
        *,
        shared_from: int | None = None,
        one_hot: bool = False,
    ) -> Tensor:
        """Map x to the output, shapes as in the class, from the state h_0 as the layer takes it.

        From step ``shared_from`` on all samples have the same input, or all inputs are ``one_hot``,
        which saves time; see :func:`wrnn.recurrence.wave_recurrence`.
        """
        if (
            isinstance(self.rnn, RecurrentLayer)
            and _is_plain(self.rnn, RecurrentLayer)
            and not isinstance(h_0, tuple)  # which is the state of an LSTM
        ):
            options: dict[str, Any] = {"shared_from": shared_from, "one_hot": one_hot}
            if not self.every_step:
                return self.readout(self.rnn.compute(x, h_0, last_only=True, **options)[0])
            linear = isinstance(self.readout, nn.Linear) and _is_plain(self.readout, nn.Linear)
            if linear and not self.rnn.local:
                options |= {"weight_out": self.readout.weight, "bias_out": self.readout.bias}
                return self.rnn.compute(x, h_0, **options)
        output, _ = self.rnn(x, h_0)  # (T, B, hidden)
        return self.readout(output if self.every_step else output[-1])


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Count trainable parameters, with and without biases (the paper mostly prints the latter).

    >>> count_parameters(WaveRNN(3, 8, num_channels=2))
    {'with_biases': 78, 'without_biases': 60}
    """
    if not isinstance(model, nn.Module):
        raise WrnnError(f"model must be a torch.nn.Module, not {shown(model)}")
    counts = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    biases = sum(
        count
        for name, count in counts.items()
        if any(part.startswith("bias") or part.endswith("bias") for part in name.split("."))
    )
    total = sum(counts.values())
    return {"with_biases": total, "without_biases": total - biases}


def _start_bias_(
    bias: Tensor | None, kind: str, fan_in: int, generator: torch.Generator | None
) -> None:
    """Fill a bias with zeros or, as torch.nn.Linear does, U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    if bias is not None and kind == "zero":
        nn.init.zeros_(bias)
    elif bias is not None:
        init.fan_in_uniform_(bias, fan_in, generator)


def _is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module computes as its kind does and nothing waits for it to be called.

    A short cut would do neither.
    """
    kinds = ("forward_hooks", "forward_pre_hooks", "backward_hooks", "backward_pre_hooks")
    hooked = any(getattr(module, f"_{k}") or getattr(hooks, f"_global_{k}") for k in kinds)
    own = type(module).forward is not kind.forward or "forward" in vars(module)
    return not (hooked or own)
