"""The sizes that benchmarks are run at, in one place."""

P2 = {"B": 8, "C": 800, "T": 173, "L": 2048, "S": 256, "N": 44100}
"""The training batch of the second paper."""
