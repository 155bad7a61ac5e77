"""Runs: what training and evaluation of every kind do with a workdir."""

import hashlib
import importlib.metadata
import pathlib
import platform

from ml_collections import ConfigDict

from lloco_jax.compression.corpus import compressor_fingerprint
from lloco_jax.data.examples import Dataset
from lloco_jax.finetuning.checkpoints import claim_workdir
from lloco_jax.model import Model


def versions() -> dict[str, str]:
  """Of Python and the packages that results depend on."""
  names = ('jax', 'jaxlib', 'flax', 'optax', 'numpy')
  found = {name: importlib.metadata.version(name) for name in names}
  return {'python': platform.python_version(), **found}


def announce(config: ConfigDict, workdir=None) -> pathlib.Path:
  """Prints the config, and gives the workdir, by default runs/NAME."""
  workdir = pathlib.Path(workdir or pathlib.Path('runs') / config.name)
  print(f'Config, to be saved in {workdir}:')
  for name, value in _flat(config.to_dict()):
    print(f'  {name} = {value!r}')
  print(flush=True)
  return workdir


def _flat(fields: dict, prefix: str = ''):
  """The names of values as --config.NAME sets them, and the values."""
  for name, value in sorted(fields.items()):
    if isinstance(value, dict):
      yield from _flat(value, f'{prefix}{name}.')
    else:
      yield f'{prefix}{name}', value


def claim(
  workdir: pathlib.Path,
  config: ConfigDict,
  model: Model,
  dataset: Dataset | None = None,
  **fingerprints: str,
) -> None:
  """Ties the workdir to the config, the weights and the training data.

  It comes after all other checks, so that a config that was refused can be
  mended and run in the same workdir.
  """
  fingerprints['model'] = compressor_fingerprint(model)
  fingerprints['tokenizer'] = model.tokenizer.fingerprint
  if dataset is not None:
    examples = dataset.splits.get('train', ())
    texts = [each.text for each in dataset.documents_of('train')]
    data = repr((examples, texts)).encode('utf-8', 'surrogatepass')
    fingerprints['training_data'] = hashlib.sha256(data).hexdigest()
  claim_workdir(workdir, {**config.to_dict(), 'fingerprints': fingerprints})
