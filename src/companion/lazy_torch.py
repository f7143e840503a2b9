"""Imported before PyTorch, this has it load when something of it is first used, and not before.

Loading it takes a second and half a gigabyte, which ``wrnn status`` and ``--help`` do without:
what they import may name PyTorch in annotations and functions, but not use it at its top.
"""

import importlib.util
import multiprocessing
import sys
import types


class _Unloaded(types.ModuleType):
    """A module whose code runs when an attribute is looked for that it does not have yet.

    importlib's LazyLoader runs it at the next ``import`` already (before Python 3.12.3).
    """

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") and name != "__path__":  # looked for in any module
            raise AttributeError(name)
        self.__class__ = types.ModuleType
        self.__path__ = self.__spec__.submodule_search_locations
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


_spec = importlib.util.find_spec("torch")
_needed = multiprocessing.parent_process() is not None  # by a worker, in whichever of its threads
if "torch" not in sys.modules and _spec is not None and not _needed:
    _module = importlib.util.module_from_spec(_spec)
    del _module.__path__  # whoever imports a part of PyTorch needs the whole
    _module.__class__ = _Unloaded
    sys.modules["torch"] = _module
