"""The sizes that benchmarks are run at, in one place."""

P2 = {"B": 8, "N": 44100, "C": 800, "L": 2048, "S": 256, "T": 173}
"""The training batch of the Sinkhorn paper: B items of N samples, C components, L taps, hop S,
T = ceil(N / S) frames."""

SMALL = {"B": 2, "N": 16000, "C": 64, "L": 512, "S": 128, "T": 125}
"""A batch at which call overhead shows."""

SHAPES = {"P2": P2, "small": SMALL}

LARGE_BATCH = {**P2, "B": 64}
"""Eight of the paper's batches at once: enough work to fill a large GPU."""
