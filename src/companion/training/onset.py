"""In which order the units of a network become active (Figure 2 of the paper)."""

import numpy as np

ONSET_SEQUENCES = 16  # test sequences that the order is found on, others than the one looked at


def sort_by_onset(hidden: np.ndarray, fraction: float = 0.5) -> np.ndarray:
    """Order the sites of `hidden` (T, sites) by when they first become active.

    The onset of a site is the first step at which ``|h|`` reaches `fraction` of that site's own
    maximum; silent sites come last and ties keep their order. Returns indices (sites,). A ring
    has its order built in; the units of an iRNN have none, so Figure 2 sorts them this way.
    """
    size = np.abs(np.asarray(hidden, dtype=np.float64))
    peak = size.max(axis=0)
    onset = np.where(peak > 0, (size >= fraction * peak).argmax(axis=0), len(size))
    return np.argsort(onset, kind="stable")
