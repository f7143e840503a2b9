"""How runs are trained: one step, one run or several seeds of it, and many runs in turn."""
