"""The companion: the experiments of the paper, their records, what they show, and the book."""
