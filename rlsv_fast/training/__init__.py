"""Training: settings, the loop, checkpoints and the log of a run."""

from rlsv_fast.training.build import Losses, build_losses, build_model
from rlsv_fast.training.checkpoint import (
    load_run,
    load_run_and_step,
    load_run_config,
    load_run_settings,
)
from rlsv_fast.training.checkpoint_files import read_checkpoint
from rlsv_fast.training.config import (
    PRESETS,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    TrainingConfig,
)
from rlsv_fast.training.distributed import check_processes
from rlsv_fast.training.graph import check_device
from rlsv_fast.training.lock import RunIsBusy, lock_run
from rlsv_fast.training.log import read_log
from rlsv_fast.training.memory import keep_freed_memory
from rlsv_fast.training.run import check_new_run, check_resumable, train
from rlsv_fast.training.settings import (
    REPRESENTATION,
    Schema,
    flatten,
    load_config,
    parse_override,
    resolve,
    to_toml,
)
from rlsv_fast.training.signals import Interrupted
from rlsv_fast.training.step import StepLosses, training_losses
from rlsv_fast.training.throughput import describe_throughput
from rlsv_fast.training.trainer import Monitor, Trainer

__all__ = [
    "PRESETS",
    "REPRESENTATION",
    "Config",
    "DataConfig",
    "Interrupted",
    "LossConfig",
    "Losses",
    "ModelConfig",
    "Monitor",
    "RunIsBusy",
    "Schema",
    "StepLosses",
    "Trainer",
    "TrainingConfig",
    "build_losses",
    "build_model",
    "check_device",
    "check_new_run",
    "check_processes",
    "check_resumable",
    "describe_throughput",
    "flatten",
    "keep_freed_memory",
    "load_config",
    "load_run",
    "load_run_and_step",
    "load_run_config",
    "load_run_settings",
    "lock_run",
    "parse_override",
    "read_checkpoint",
    "read_log",
    "resolve",
    "to_toml",
    "train",
    "training_losses",
]
