"""The sizes that benchmarks are run at, in one place."""

P2 = {"B": 8, "N": 44100, "C": 800, "L": 2048, "S": 256, "T": 173}
"""The training batch of the Sinkhorn paper: B items of N samples, C components, L taps, hop S,
T = ceil(N / S) frames."""

SMALL = {"B": 2, "N": 16000, "C": 64, "L": 512, "S": 128, "T": 125}
"""A batch at which call overhead shows."""

SHAPES = {"P2": P2, "small": SMALL}

LARGE_BATCH = {**P2, "B": 64}
"""Eight of the paper's batches at once: enough work to fill a large GPU."""

UMSS = {"B": 4, "T": 250, "L": 512, "S": 256, "P": 20}
"""A mixture of four voices of UMSS, 4 seconds at 16 kHz: B signals of T frames of L samples, hop S,
filters of order P."""

UMSS_BATCH = {**UMSS, "B": 60}
"""Its training batch: 15 mixtures."""
