"""Fast, exact, interpretable audio representations for singing-voice separation."""

from rlsv_fast import nn, ops, reference
from rlsv_fast._library import build_info

__version__ = "0.1.0"
__all__ = ["build_info", "nn", "ops", "reference"]
