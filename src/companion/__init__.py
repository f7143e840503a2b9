"""The companion: the experiments of the paper, their records, what they show, and the book."""

import os

# Threads of PyTorch that wait give up their core. Where another process has one, each operation
# otherwise waits a time slice for it, and steps take many times as long. PyTorch reads this
# when it is imported, which comes later; what is set already stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
