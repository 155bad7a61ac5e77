"""The job that finetunes one adapter on several data sets (Tan et al. 2024).

A config has `sets`, each with the `data`, `prompt` and `evaluation` of an
experiment of its own; all else is shared.
"""

import contextlib
import pathlib

from ml_collections import ConfigDict

from lloco_jax.data.examples import Dataset
from lloco_jax.data.prompts import Prompt
from lloco_jax.data.splits import join
from lloco_jax.evaluation.results import Results
from lloco_jax.evaluation_job import evaluate
from lloco_jax.evaluation_settings import evaluation_settings
from lloco_jax.finetuning.checkpoints import (
  CONFIG_FILE,
  IGNORED,
  read_config,
  refuse_other_config,
)
from lloco_jax.finetuning_job import (
  adapter_folder,
  check_adapters,
  examples_of,
  load_data,
  train_adapters,
)
from lloco_jax.inputs import check_dataset
from lloco_jax.runs import announce, workdir_of
from lloco_jax.weights import peft

# An evaluation may have them from elsewhere, or more or fewer of them.
_ELSEWHERE = IGNORED | {'path', 'validation_documents', 'validation_examples'}


def finetune_combined(config: ConfigDict, workdir=None) -> None:
  """Compresses the documents of all sets, and finetunes on all their examples.

  Raises:
    ValueError, OSError: the config, a data set or the workdir is unusable.
  """
  check_adapters(config)
  parts = _experiments(config)
  dataset = join({name: _load(part, name) for name, part in parts.items()})
  taught, later = [], []
  for name, part in parts.items():
    prompt = Prompt(**part.prompt)
    for split, examples in dataset.splits.items():
      mine = [each for each in examples if each.id.startswith(f'{name}/')]
      if split == 'train':
        taught.append((prompt, mine))
      else:
        later.append((prompt, mine, part.evaluation.max_new_tokens))
  examples_of(dataset, 'train')
  train_adapters(config, announce(config, workdir), dataset, taught, later)


def evaluate_combined(config: ConfigDict, workdir=None) -> dict[str, Results]:
  """Evaluates the adapters of `finetune_combined` on every set.

  Each has its report under `evaluations/` in the workdir.

  Raises:
    FileNotFoundError: an adapter has not been trained.
    ValueError, OSError: the config, a data set or the workdir is unusable.
  """
  workdir = workdir_of(config, workdir)
  parts = _experiments(config)
  _refuse_other_run(workdir, config)
  found = {}
  for name, part in parts.items():
    part.compression.store = config.compression.store or str(workdir / 'store')
    for adapter in config.adapters:
      if part.evaluation.adapters.get(adapter):
        continue
      folder = adapter_folder(workdir, adapter)
      if not (folder / peft.CONFIG).is_file():
        raise FileNotFoundError(
          f"The adapter '{adapter}' is missing in {workdir}; run train.py with "
          'the same config first.'
        )
      part.evaluation.adapters[adapter] = str(folder)
    found[name] = evaluate(part, workdir / 'evaluations' / name)
  return found


def _refuse_other_run(workdir: pathlib.Path, config: ConfigDict) -> None:
  """Raises ValueError where the adapters were trained by another config.

  Of its sets some may be evaluated, on other documents.
  """
  path = workdir / CONFIG_FILE
  if not path.exists():
    return
  theirs, ours = read_config(path), config.to_dict()
  trained = theirs.get('sets', {})
  untrained = [name for name in ours['sets'] if name not in trained]
  if untrained:
    raise ValueError(
      f"The adapters in '{workdir}' were trained on {', '.join(trained)}, and "
      f'not on {", ".join(untrained)}; leave that out, or name another '
      '--workdir.'
    )
  theirs['sets'] = {name: trained[name] for name in ours['sets']}
  for fields in (theirs, ours):
    # Of weights and data, which every set's evaluation reads and checks.
    fields.pop('fingerprints', None)
  refuse_other_config(workdir, theirs, ours, _ELSEWHERE)


def _experiments(config: ConfigDict) -> dict[str, ConfigDict]:
  """The experiment of every set, whose data all have a place.

  Raises:
    ValueError: one has not, or cannot be evaluated so; nothing is fetched
      before that is told.
  """
  parts = {name: experiment_of(config, name) for name in config.sets}
  for name, part in parts.items():
    with _named(name):
      check_dataset(part.data, part.evaluation.split)
      evaluation_settings(part.evaluation)
  return parts


def _load(part: ConfigDict, name: str) -> Dataset:
  print(f'The set {name}:')
  with _named(name):
    return load_data(part)


@contextlib.contextmanager
def _named(name: str):
  """Puts the keys of a set in the place of those that it has on its own."""
  try:
    yield
  except (ValueError, OSError) as error:
    said = str(error)
    for field in ('data', 'evaluation'):
      said = said.replace(f'config.{field}.', f'config.sets.{name}.{field}.')
    # Others may be of kinds that are not made of a sentence alone.
    if said == str(error):
      raise
    raise type(error)(said) from None


def experiment_of(config: ConfigDict, name: str) -> ConfigDict:
  """The experiment that one of the sets is on its own."""
  part = ConfigDict(config.to_dict())
  part.update(part.sets[name])
  del part['sets']
  part.job = 'finetuning'
  part.name = f'{config.name} on {name}'
  return part
