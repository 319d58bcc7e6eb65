"""Evaluation: metrics, oracle masks, STFT baselines, separation with known sources."""

from rlsv_fast.evaluation.evaluate import evaluate
from rlsv_fast.evaluation.masks import binary_mask
from rlsv_fast.evaluation.metrics import additivity, is_active
from rlsv_fast.evaluation.oracle import reconstruct, separate_oracle
from rlsv_fast.evaluation.result import (
    SCHEMA_VERSION,
    Evaluation,
    Segment,
    Statistics,
    read_json,
    summarize,
    write_json,
)
from rlsv_fast.evaluation.stft import STFT
from rlsv_fast.evaluation.table import CELL, format_table, table_cells, table_notes

__all__ = [
    "CELL",
    "SCHEMA_VERSION",
    "STFT",
    "Evaluation",
    "Segment",
    "Statistics",
    "additivity",
    "binary_mask",
    "evaluate",
    "format_table",
    "is_active",
    "read_json",
    "reconstruct",
    "separate_oracle",
    "summarize",
    "table_cells",
    "table_notes",
    "write_json",
]
