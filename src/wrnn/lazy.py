"""PyTorch, loaded when something of it is first used.

That takes a second and half a gigabyte. Tasks and runs are described, and records read, without.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch as torch
else:

    class _Torch:
        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module("torch"), name)

    torch = _Torch()
