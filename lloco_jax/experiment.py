"""The stages of a run: what train.py and eval.py call."""

import contextlib

import jax
from ml_collections import ConfigDict

from lloco_jax.combined_job import evaluate_combined, finetune_combined
from lloco_jax.compressor_job import evaluate_compressor, train_compressor
from lloco_jax.evaluation_job import evaluate as evaluate_finetuning
from lloco_jax.finetuning_job import finetune
from lloco_jax.library_job import finetune_library, refuse_evaluation
from lloco_jax.nn.remat import REMAT_POLICIES
from lloco_jax.processes import one_voice, start_processes
from lloco_jax.sharding import check_rows, make_placement, use

# What trains, and what evaluates, by config.job.
_JOBS = {
  'finetuning': (finetune, evaluate_finetuning),
  'combined': (finetune_combined, evaluate_combined),
  'compressor': (train_compressor, evaluate_compressor),
  'library': (finetune_library, refuse_evaluation),
}

# Keys that are 1 or more, of the configs that have them.
_COUNTS = (
  'epochs',
  'batch.rows',
  'batch.questions_per_row',
  'compression.rows',
  'compression.segment_length',
  'compression.token_cap',
)


def train(config: ConfigDict, workdir=None) -> None:
  """Runs the training that a config describes; see configs/common.py.

  A run that was stopped goes on where it was.

  Raises:
    ValueError: the config, the data or the workdir is unusable.
    OSError: a file is missing.
    FloatingPointError: loss or gradient is not finite.
  """
  trains, _ = _job(config)
  if config.remat not in REMAT_POLICIES:
    raise ValueError(
      f"config.remat is '{config.remat}'; it must be one of "
      f'{", ".join(REMAT_POLICIES)}.'
    )
  with _devices(config):
    check_rows(config.batch.rows, 'config.batch.rows')
    trains(config, workdir)


def evaluate(config: ConfigDict, workdir=None):
  """Evaluates what `train` left, writes the report, and returns the results.

  Of several processes only the first reports; the others return None.

  Raises:
    ValueError: the config, the data or the workdir is unusable.
    OSError: a file is missing.
  """
  _, evaluates = _job(config)
  with _devices(config):
    return evaluates(config, workdir)


@contextlib.contextmanager
def _devices(config: ConfigDict):
  """Puts the mesh of a config in use, and tells of devices it leaves."""
  if config.mesh.processes:
    start_processes()
  placement = make_placement(config.mesh.axes.to_dict(), config.mesh.rules)
  there, taken = jax.device_count(), placement.mesh.size if placement else 1
  with one_voice(), use(placement):
    if taken < there:
      print(
        f'This run takes {taken} of {there} devices; config.mesh.axes say how '
        'many.'
      )
    if 'compression' in config:
      check_rows(config.compression.rows, 'config.compression.rows')
    yield


def _job(config: ConfigDict):
  """What trains and what evaluates; raises ValueError for bad counts."""
  if config.job not in _JOBS:
    raise ValueError(
      f"config.job is '{config.job}'; it must be one of {', '.join(_JOBS)}."
    )
  for name in _COUNTS:
    group, _, key = name.rpartition('.')
    keys = config.get(group, {}) if group else config
    if key in keys and keys[key] < 1:
      raise ValueError(f'config.{name} is {keys[key]}; it must be 1 or more.')
  return _JOBS[config.job]
