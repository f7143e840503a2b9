"""What the fused kernels take of a GPU, read from their compiled code; no GPU is needed.

``python -m companion.gpu_code`` compiles every configuration of the paper for each generation of
GPU and prints a table. Nothing in it is a measurement. *Cycles* are a bound: every instruction of
the loop over time, issued once by each warp, as fast as a multiprocessor can issue, which is four a
cycle. A step takes longer where instructions wait, for memory or for each other.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

CAPABILITIES = (80, 90, 100)  # Ampere, Hopper, Blackwell: GPUs of data centres
PRECISIONS = ("ieee", "tf32x3", "tf32")
SHARED_BYTES = {80: 166_912, 90: 232_448, 100: 232_448}  # of a program, by capability
REGISTERS = 65_536  # of a multiprocessor
ISSUED = 4  # instructions a cycle
CONFIGURATIONS = {  # n, channels, kernel size, inputs (< 0: one-hot), outputs of every step
    "copy": (100, 6, 3, -10, 10),
    "adding": (100, 27, 3, 2, 0),
    "sequential MNIST": (256, 16, 3, 1, 0),
    "sequential MNIST, n=169": (169, 32, 3, 1, 0),
    "sequential MNIST, n=324": (324, 32, 3, 1, 0),
    "noisy sequential CIFAR10": (256, 16, 3, 96, 0),
}


def kernels_of(
    n: int, channels: int, size: int, inputs: int, outputs: int, precision: str, capability: int
) -> dict[str, dict[str, int]]:
    """Compile both kernels of a configuration; returns what "forward" and "backward" take.

    ``registers`` (of a program) and ``shared`` (bytes), ``stack`` and ``spills`` (0 where all fits
    into registers), counts of ``multiply-adds`` and ``tensor products`` in the code, and ``cycles``
    per step, a bound. Inputs are those of a step, negative where one of them is 1 and the others 0;
    outputs are as in `gpu_kernels`: 0 where only the last state is read.
    """
    from wrnn.recurrence import gpu_kernels  # triton, which is there for Linux only
    from wrnn.recurrence.gpu import INPUTS, layouts

    own = (
        {"INPUTS": max(-1, inputs) if inputs <= INPUTS else 0, "KEEP": True},
        {"OUTPUTS": outputs, "NEEDS_KERNEL": True},
    )
    return {
        direction: _resources(
            getattr(gpu_kernels, direction),
            {**sizes._asdict(), **constants, "NONLINEARITY": "relu"},
            capability,
        )
        for direction, sizes, constants in zip(
            ("forward", "backward"),
            layouts(n, channels, size, precision, capability),
            own,
            strict=True,
        )
    }


def _resources(kernel, constants: dict, capability: int) -> dict[str, int]:
    """Compile a kernel and read its code."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    options = {name: constants.pop(name) for name in ("num_warps", "num_stages", "maxnreg")}
    kinds = dict.fromkeys(constants, "constexpr") | dict.fromkeys(("steps", "batch", "own"), "i32")
    if constants.get("INPUTS", 0) < 0:
        kinds["x"] = "*i32"
    signature = {name: kinds.get(name, "*fp32") for name in kernel.arg_names}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, kind in enumerate(signature.values())
        if kind.startswith("*")
    }
    compiled = triton.compile(
        ASTSource(kernel, signature, constants, attrs=aligned),
        target=GPUTarget("cuda", capability, 32),
        options=options,
    )
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage, code = (
            subprocess.run(
                [str(tools / program), option, file.name],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            for program, option in (("cuobjdump", "--dump-resource-usage"), ("nvdisasm", "-c"))
        )
    warps = options["num_warps"]
    return {
        "registers": int(re.search(r"REG:(\d+)", usage)[1]) * 32 * warps,
        "shared": compiled.metadata.shared,
        "stack": int(re.search(r"STACK:(\d+)", usage)[1]),
        "spills": len(re.findall(r"\b(?:LDL|STL)\b", code)),
        "multiply-adds": len(re.findall(r"\bFFMA2?\b", code)),
        "tensor products": len(re.findall(r"\b[HU][A-Z]*MMA\b", code)),
        "cycles": step_instructions(code, constants.get("TILES", 1)) * warps // ISSUED,
    }


def step_instructions(code: str, tiles: int) -> int:
    """Count the instructions that a warp issues in a step, in code as nvdisasm prints it.

    The loop over time is the longest stretch that ends in a jump back to its beginning. A shorter
    one inside it is the loop over tiles, which is taken `tiles` times.
    """
    labels, jumps, count = {}, [], 0
    for line in code.splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = count
        elif re.match(r"\s*/\*[0-9a-f]{4,}\*/", line):
            count += 1
            target = re.search(r"\bBRA\b.*?`\((\.L_x_\d+)\)", line)
            if target and target[1] in labels:
                jumps.append((labels[target[1]], count))
    start, end = max(jumps, key=lambda jump: jump[1] - jump[0])
    inside = [b - a for a, b in jumps if start <= a and b <= end and (a, b) != (start, end)]
    return end - start + (tiles - 1) * max(inside, default=0)


def main() -> None:
    """Print the table."""
    head = ("configuration", "precision", "sm", "pass", "registers", "shared", "spills", "cycles")
    print("compiled, not run; cycles per step are a bound from the code")
    print("{:<26}{:<10}{:>4} {:<9}{:>10}{:>9}{:>8}{:>8}".format(*head))
    for name, sizes in CONFIGURATIONS.items():
        for precision in PRECISIONS:
            for capability in CAPABILITIES:
                compiled = kernels_of(*sizes, precision, capability)
                for direction, taken in compiled.items():
                    columns = (taken[key] for key in ("registers", "shared", "spills", "cycles"))
                    print(
                        f"{name:<26}{precision:<10}{capability:>4} {direction:<9}"
                        "{:>10,}{:>9,}{:>8}{:>8,}".format(*columns),
                        flush=True,
                    )


if __name__ == "__main__":
    sys.exit(main())
