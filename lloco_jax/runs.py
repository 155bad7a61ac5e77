"""Runs: what training and evaluation of every kind do with a workdir."""

import atexit
import contextlib
import hashlib
import importlib.metadata
import json
import pathlib
import platform

import jax
from ml_collections import ConfigDict

from lloco_jax.compression.corpus import compressor_fingerprint
from lloco_jax.data.examples import Dataset
from lloco_jax.files import named_path
from lloco_jax.finetuning.checkpoints import (
  CONFIG_FILE,
  IGNORED,
  claim_workdir,
  read_config,
)
from lloco_jax.model import Model
from lloco_jax.nn.placement import placement_in_use

try:
  import fcntl
except ImportError:  # Windows: two runs in a workdir are not noticed
  fcntl = None

# Open files, whose locks end with the process.
_LOCKS = {}


@atexit.register
def _close_locks() -> None:
  for file in _LOCKS.values():
    file.close()


def versions() -> dict[str, str]:
  """Of Python and the packages that results depend on."""
  names = ('jax', 'jaxlib', 'flax', 'optax', 'numpy')
  found = {name: importlib.metadata.version(name) for name in names}
  return {'python': platform.python_version(), **found}


def device() -> str:
  """What runs, and the mesh of it where it is more than one."""
  kind, placement = jax.devices()[0].device_kind, placement_in_use()
  if placement is None:
    return kind
  mesh = placement.mesh.shape
  sizes = ' x '.join(f'{name}={size}' for name, size in mesh.items())
  return f'{placement.mesh.size} of {kind} ({sizes})'


def workdir_of(config: ConfigDict, workdir=None) -> pathlib.Path:
  """The folder that was named, or runs/NAME.

  Raises:
    ValueError: what was named is empty.
  """
  if workdir is None:
    return pathlib.Path('runs') / config.name
  return named_path(workdir)


def announce(config: ConfigDict, workdir=None) -> pathlib.Path:
  """Prints the config, and gives the workdir, by default runs/NAME.

  Of a workdir that has a config already only what differs from it is printed.
  """
  workdir = workdir_of(config, workdir)
  fields = dict(_flat(config.to_dict()))
  path = workdir / CONFIG_FILE
  if path.exists():
    theirs = dict(_flat(read_config(path)))
    fields = {
      name: value
      for name, value in fields.items()
      if theirs.get(name) != json.loads(json.dumps(value))
    }
    print(f'Config: {path}' + (', but for:' if fields else ''))
  else:
    print(f'Config, to be saved in {workdir}:')
  for name, value in fields.items():
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
  ignored: frozenset[str] = IGNORED,
  **fingerprints: str,
) -> None:
  """Ties the workdir to the config, the weights and the training data.

  What is `ignored` may differ from a run that is there. It comes after all
  other checks, so that a config that was refused can be mended and run in the
  same workdir.

  Raises:
    ValueError: the workdir is of another run, or another run is at work in it.
    OSError: it cannot be written.
  """
  fingerprints['model'] = compressor_fingerprint(model)
  fingerprints['tokenizer'] = model.tokenizer.fingerprint
  if dataset is not None:
    fingerprints['training_data'] = training_data(dataset)
  with writing_to(workdir):
    fields = {**config.to_dict(), 'fingerprints': fingerprints}
    claim_workdir(workdir, fields, ignored)
    _lock(workdir)


@contextlib.contextmanager
def writing_to(workdir: pathlib.Path):
  """Tells of an OSError inside what helps."""
  try:
    yield
  except OSError as error:
    raise OSError(
      f"The workdir '{workdir}' cannot be written ({error.strerror or error}); "
      'choose another with --workdir.'
    ) from error


def training_data(dataset: Dataset) -> str:
  """A hash of the training examples and the texts that they are about."""
  digest = hashlib.sha256()

  def add(text):
    digest.update(text.encode('utf-8', 'surrogatepass'))

  add(f'({dataset.splits.get("train", ())!r}, [')
  for place, document in enumerate(dataset.documents_of('train')):
    add(f'{", " if place else ""}{document.text!r}')
  add('])')
  return digest.hexdigest()


def _lock(workdir: pathlib.Path) -> None:
  """Keeps the workdir to this process, until it ends.

  Raises:
    ValueError: another process has it.
  """
  if fcntl is None or jax.process_count() > 1:
    return
  path = workdir / '.lock'
  # Locks are of processes: one that has it may take it again.
  file = _LOCKS.get(path.resolve()) or path.open('w')
  try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except (BlockingIOError, PermissionError):
    file.close()
    raise ValueError(
      f"Another run is at work in '{workdir}'; wait for it, stop it, or choose "
      'another workdir with --workdir.'
    ) from None
  _LOCKS[path.resolve()] = file
