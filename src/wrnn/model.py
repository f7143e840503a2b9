"""The models: the Wave-RNN, its locally connected variant, the identity RNN, and a readout.

The Wave-RNN (paper section 2) is a simple RNN, ``h_t = act(u * h_{t-1} + V x_t + b)``, whose
recurrent product is a circular cross-correlation on rings of units. Paper symbols: ``u`` is
``weight_hh``, ``V`` is ``weight_ih``, ``c`` is ``num_channels``, ``n`` is ``channel_size`` (units
per channel) and ``f`` is ``kernel_size``. ``b`` is ``bias_ih`` plus ``bias_hh``, as in the
released code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wrnn import init
from wrnn.errors import WrnnError
from wrnn.recurrence import choose_backend, local_recurrence, wave_recurrence


class WaveRNN(nn.Module):
    """``num_channels`` rings of ``channel_size`` recurrent units, called as torch.nn.RNN is.

    ``output, h_n = rnn(x, h_0)`` with x (T, B, input_size), output (T, B, hidden_size) and h_n
    (1, B, hidden_size); ``batch_first=True`` swaps T and B of x and output. hidden_size is
    num_channels * channel_size, and unit ``channel * channel_size + site`` is that channel's site.

    Parameters: weight_ih (hidden_size, input_size), bias_ih (hidden_size,), weight_hh
    (num_channels, num_channels, kernel_size), cross-correlated on the ring, and bias_hh
    (num_channels,). A new layer is initialised as in the released code; :meth:`reset_parameters`
    has the switches.

    Args:
        nonlinearity: "relu" (the paper), "tanh" or "identity".
        backend: "auto", or one of :data:`wrnn.recurrence.BACKENDS` by name.

    Raises:
        WrnnError: a size below 1, a kernel that is even or larger than the ring, an unknown
            nonlinearity or backend, or an input of the wrong rank or width.
    """

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
    ):
        super().__init__()
        sizes = dict(input_size=input_size, channel_size=channel_size, num_channels=num_channels)
        for name, size in sizes.items():
            _require_size(name, size)
        if kernel_size < 1 or kernel_size % 2 == 0 or kernel_size > channel_size:
            raise WrnnError(
                f"kernel_size {kernel_size} is not allowed: use an odd size from 1 to "
                f"channel_size ({channel_size})"
            )
        if nonlinearity not in ("relu", "tanh", "identity"):
            raise WrnnError(
                f"unknown nonlinearity {nonlinearity!r}: use 'relu', 'tanh' or 'identity'"
            )
        self.input_size, self.channel_size, self.num_channels = sizes.values()
        self.hidden_size = num_channels * channel_size
        self.kernel_size = kernel_size
        self.nonlinearity = nonlinearity
        self.batch_first = batch_first
        self.backend = backend
        self.weight_ih = nn.Parameter(torch.empty(self.hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(self._kernel_shape()))
        if bias:
            self.bias_ih = nn.Parameter(torch.empty(self.hidden_size))
            self.bias_hh = nn.Parameter(torch.empty(self._kernel_bias_shape()))
        else:
            self.register_parameter("bias_ih", None)
            self.register_parameter("bias_hh", None)
        self.reset_parameters()

    def _kernel_shape(self) -> tuple[int, ...]:
        return (self.num_channels, self.num_channels, self.kernel_size)

    def _kernel_bias_shape(self) -> tuple[int, ...]:
        return (self.num_channels,)

    def reset_parameters(
        self,
        *,
        recurrent: str = "shift",
        velocity: float = 1.0,
        input: str = "ones",
        input_bias: str = "zero",
        recurrent_bias: str = "default",
        generator: torch.Generator | None = None,
    ) -> None:
        """Initialise every parameter; the defaults are what the released code does with V-init.

        Without V-init the released code starts with ``input="normal", input_bias="uniform"``.

        Args:
            recurrent: "shift" (u-shift), "identity" (a shift of velocity 0) or PyTorch's "default".
            velocity: sites per step of the shift, one number or one per channel.
            input: "ones" or "identity" (V-init, :func:`wrnn.init.single_site_`), "normal" for
                N(0, 0.001), or "default" for torch.nn.Linear's U(-1/sqrt(d), 1/sqrt(d)), where d is
                the input size.
            input_bias: "zero", or "uniform" for torch.nn.Linear's U(-1/sqrt(d), 1/sqrt(d)).
            recurrent_bias: "default" is PyTorch's U(-1/sqrt(c f), 1/sqrt(c f)), which the released
                code leaves in place; "zero" starts the layer as exactly the shift.
            generator: source of randomness; None is PyTorch's global one.
        """
        fan_in = self.num_channels * self.kernel_size
        if self.kernel_size == 1 and recurrent == "shift":
            recurrent = "identity"
        if recurrent in ("shift", "identity"):
            init.shift_(self.weight_hh, velocity if recurrent == "shift" else 0.0)
        elif recurrent == "default":
            init.fan_in_uniform_(self.weight_hh, fan_in, generator)
        else:
            raise WrnnError(f"unknown recurrent init {recurrent!r}: use shift, identity or default")
        if input == "normal":
            nn.init.normal_(self.weight_ih, std=0.001, generator=generator)
        elif input == "default":
            init.fan_in_uniform_(self.weight_ih, self.input_size, generator)
        elif input in ("ones", "identity"):
            init.single_site_(self.weight_ih, self.num_channels, kind=input)
        else:
            raise WrnnError(f"unknown input init {input!r}: use ones, identity, normal or default")
        if self.bias_ih is None:
            return
        _start_bias_(self.bias_ih, input_bias, self.input_size, generator, "input bias")
        if recurrent_bias == "default":
            init.fan_in_uniform_(self.bias_hh, fan_in, generator)
        elif recurrent_bias == "zero":
            nn.init.zeros_(self.bias_hh)
        else:
            raise WrnnError(f"unknown recurrent bias init {recurrent_bias!r}: use default or zero")

    def forward(self, x: Tensor, h_0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run the whole sequence; shapes as in the class."""
        output = self.compute(x, h_0)  # (T, B, hidden)
        h_n = output[-1:]  # (1, B, hidden)
        return (output.transpose(0, 1) if self.batch_first else output), h_n

    def compute(self, x: Tensor, h_0: Tensor | None = None, **options) -> Tensor:
        """Run the sequence and return, time first, only what is asked for.

        Options are ``last_only`` and, not for :class:`LocalWaveRNN`, ``weight_out``, ``bias_out``
        and ``shared_from`` of :func:`wrnn.recurrence.wave_recurrence`: what is not needed is never
        written out.
        """
        if x.dim() != 3 or x.shape[-1] != self.input_size:
            axes = "B, T" if self.batch_first else "T, B"
            raise WrnnError(
                f"input has shape {tuple(x.shape)}: expected ({axes}, {self.input_size}), "
                "time, batch and input_size"
            )
        if self.batch_first:
            x = x.transpose(0, 1)  # (T, B, input)
        batch_size = x.shape[1]
        if h_0 is None:
            h_0 = x.new_zeros(1, batch_size, self.hidden_size)
        elif h_0.shape != (1, batch_size, self.hidden_size):
            raise WrnnError(
                f"h_0 has shape {tuple(h_0.shape)}: expected (1, {batch_size}, {self.hidden_size})"
            )
        return self._recurrence(
            x,
            h_0[0],
            self.weight_ih,
            self.bias_ih,
            self.weight_hh,
            self.bias_hh,
            nonlinearity=self.nonlinearity,
            **options,
        )

    def _recurrence(self, *tensors: Tensor, **options) -> Tensor:
        return wave_recurrence(*tensors, backend=self.backend, **options)

    def extra_repr(self) -> str:
        """Sizes shown by print(model)."""
        return (
            f"{self.input_size}, {self.channel_size}, num_channels={self.num_channels}, "
            f"kernel_size={self.kernel_size}, nonlinearity={self.nonlinearity!r}"
        )


class LocalWaveRNN(WaveRNN):
    """The Wave-RNN without weight sharing: every site has a kernel and a bias of its own.

    Same call and same initialisers as :class:`WaveRNN`; weight_hh is (num_channels, num_channels,
    channel_size, kernel_size) and bias_hh (num_channels, channel_size). It is in the released code
    only. There is one way to compute it, the step loop.
    """

    def _kernel_shape(self) -> tuple[int, ...]:
        return (self.num_channels, self.num_channels, self.channel_size, self.kernel_size)

    def _kernel_bias_shape(self) -> tuple[int, ...]:
        return (self.num_channels, self.channel_size)

    def _recurrence(self, *tensors: Tensor, **options) -> Tensor:
        return local_recurrence(*tensors, **options)


class IdentityRNN(nn.RNN):
    """The iRNN (Le et al. 2015): torch.nn.RNN with ReLU, whose recurrent matrix starts as identity.

    Same call and same parameter names as torch.nn.RNN. Keyword arguments go to torch.nn.RNN. On a
    CPU a layer of one level and one direction is computed as a Wave-RNN is: its units are channels
    of a single site, which the same compiled loops run faster.
    """

    def __init__(self, input_size: int, hidden_size: int, *, nonlinearity: str = "relu", **kwargs):
        _require_size("input_size", input_size)
        _require_size("hidden_size", hidden_size)
        if nonlinearity not in ("relu", "tanh"):
            raise WrnnError(f"unknown nonlinearity {nonlinearity!r}: use 'relu' or 'tanh'")
        super().__init__(input_size, hidden_size, nonlinearity=nonlinearity, **kwargs)

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
            input: "normal" is N(0, 0.001), the released code for copy and adding; "uniform" is
                torch.nn.Linear's U(-1/sqrt(d), 1/sqrt(d)), its choice for images; "default" is
                torch.nn.RNN's U(-1/sqrt(n), 1/sqrt(n)); "ones" or "identity" is the wRNN's V-init
                on one ring.
            input_bias: "zero", or "uniform" for torch.nn.Linear's U(-1/sqrt(d), 1/sqrt(d)).
            recurrent_bias: "default" is zero; "uniform" is U(-1/sqrt(n), 1/sqrt(n)).
            generator: source of randomness; None is PyTorch's global one.
        """
        recurrent_bias = "zero" if recurrent_bias == "default" else recurrent_bias
        for name, parameter in self.named_parameters():
            if name.startswith("bias_ih"):
                _start_bias_(parameter, input_bias, self.input_size, generator, "input bias")
            elif name.startswith("bias_hh"):
                _start_bias_(
                    parameter, recurrent_bias, self.hidden_size, generator, "recurrent bias"
                )
            elif name.startswith("weight_hh"):
                if recurrent == "identity":
                    init.identity_(parameter)
                elif recurrent == "shift":
                    init.shift_matrix_(parameter)
                elif recurrent == "default":
                    init.fan_in_uniform_(parameter, self.hidden_size, generator)
                else:
                    raise WrnnError(
                        f"unknown recurrent init {recurrent!r}: use identity, shift or default"
                    )
            elif input == "normal":
                nn.init.normal_(parameter, std=0.001, generator=generator)
            elif input == "uniform":
                init.fan_in_uniform_(parameter, self.input_size, generator)
            elif input == "default":
                init.fan_in_uniform_(parameter, self.hidden_size, generator)
            else:
                init.single_site_(parameter, 1, kind=input)

    def forward(self, x: Tensor, h_0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run the whole sequence as torch.nn.RNN does; the input must have three axes."""
        if x.dim() != 3 or x.shape[-1] != self.input_size:
            axes = "B, T" if self.batch_first else "T, B"
            raise WrnnError(
                f"input has shape {tuple(x.shape)}: expected ({axes}, {self.input_size}), "
                "time, batch and input_size"
            )
        if not self._compiled(x):
            return super().forward(x, h_0)
        output = self.compute(x.transpose(0, 1) if self.batch_first else x, h_0)  # (T, B, hidden)
        return (output.transpose(0, 1) if self.batch_first else output), output[-1:]

    def _compiled(self, x: Tensor) -> bool:
        """Whether the compiled recurrence computes this layer for this input."""
        if (
            self.num_layers > 1
            or self.bidirectional
            or x.dtype not in (torch.float32, torch.float64)
        ):
            return False
        return choose_backend(x, self.weight_hh_l0.unsqueeze(-1))[0] == "numba"

    def compute(
        self,
        x: Tensor,
        h_0: Tensor | None = None,
        *,
        last_only: bool = False,
        weight_out: Tensor | None = None,
        bias_out: Tensor | None = None,
        shared_from: int | None = None,
    ) -> Tensor:
        """Run the sequence, time first, and return only what is asked for, as `WaveRNN.compute`."""
        if not self._compiled(x):
            output, _ = super().forward(x.transpose(0, 1) if self.batch_first else x, h_0)
            output = output.transpose(0, 1) if self.batch_first else output  # (T, B, hidden)
            output = output[-1:] if last_only else output
            return output if weight_out is None else F.linear(output, weight_out, bias_out)
        return wave_recurrence(
            x,
            x.new_zeros(x.shape[1], self.hidden_size) if h_0 is None else h_0[0],
            self.weight_ih_l0,
            self.bias_ih_l0 if self.bias else None,
            self.weight_hh_l0.unsqueeze(-1),
            self.bias_hh_l0 if self.bias else None,
            nonlinearity=self.nonlinearity,
            backend="numba",
            last_only=last_only,
            weight_out=weight_out,
            bias_out=bias_out,
            shared_from=shared_from,
        )


class SequenceModel(nn.Module):
    """A recurrent layer with a readout: (T, B, input) -> (T, B, output), or (B, output).

    Args:
        rnn: any layer called as torch.nn.RNN is, with time first.
        output_size: width of the readout.
        readout: "linear", or "mlp" with one hidden layer of 100 ReLU units (Table 2, wRNN + MLP).
        every_step: read out at every step (copy) or only at the last one (all other tasks).
    """

    def __init__(
        self, rnn: nn.Module, output_size: int, *, readout: str = "linear", every_step: bool = False
    ):
        super().__init__()
        _require_size("output_size", output_size)
        if getattr(rnn, "batch_first", False):
            raise WrnnError("SequenceModel takes a layer with time first: use batch_first=False")
        self.rnn = rnn
        self.every_step = every_step
        if readout == "linear":
            self.readout = nn.Linear(rnn.hidden_size, output_size)
        elif readout == "mlp":
            self.readout = nn.Sequential(
                nn.Linear(rnn.hidden_size, 100), nn.ReLU(), nn.Linear(100, output_size)
            )
        else:
            raise WrnnError(f"unknown readout {readout!r}: use 'linear' or 'mlp'")

    def forward(self, x: Tensor, *, shared_from: int | None = None) -> Tensor:
        """Map x (T, B, input) to (T, B, output) where every_step, else to (B, output).

        From step ``shared_from`` on all samples have the same input, which saves time; see
        :func:`wrnn.recurrence.wave_recurrence`.
        """
        fused = type(self.rnn) in (WaveRNN, IdentityRNN)
        options = {"shared_from": shared_from} if fused else {}
        if isinstance(self.rnn, WaveRNN | IdentityRNN) and not self.every_step:
            return self.readout(self.rnn.compute(x, last_only=True, **options)[0])
        if fused and self.every_step and isinstance(self.readout, nn.Linear):
            options |= {"weight_out": self.readout.weight, "bias_out": self.readout.bias}
            return self.rnn.compute(x, **options)
        output, _ = self.rnn(x)  # (T, B, hidden)
        return self.readout(output if self.every_step else output[-1])


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Count trainable parameters, with and without biases (the paper mostly prints the latter)."""
    counts = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    biases = sum(count for name, count in counts.items() if "bias" in name)
    total = sum(counts.values())
    return {"with_biases": total, "without_biases": total - biases}


def _start_bias_(
    bias: Tensor, kind: str, fan_in: int, generator: torch.Generator | None, name: str
) -> None:
    """Fill a bias with zeros or, as torch.nn.Linear does, U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    if kind == "zero":
        nn.init.zeros_(bias)
    elif kind == "uniform":
        init.fan_in_uniform_(bias, fan_in, generator)
    else:
        raise WrnnError(f"unknown {name} init {kind!r}: use zero or uniform")


def _require_size(name: str, size: int) -> None:
    if not isinstance(size, int) or size < 1:
        raise WrnnError(f"{name} is {size!r}: expected a whole number of at least 1")
