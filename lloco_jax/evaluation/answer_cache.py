"""Answers kept on disk, so that a stopped evaluation goes on where it was."""

import dataclasses
import hashlib
import json
import pathlib

import jax
import numpy as np

from lloco_jax import processes
from lloco_jax.data.contexts import Context
from lloco_jax.files import write_file
from lloco_jax.generation.answering import Answers
from lloco_jax.model import Model
from lloco_jax.nn.lora import Adapter
from lloco_jax.sharding import to_host


class AnswerCache:
  """Answers by all that they depend on, in a folder or in this process.

  A file that cannot be read counts as missing, and is written again. `how` they
  are answered, the device for one, changes no answer, but the seconds: those of
  another are unknown.
  """

  def __init__(self, folder: pathlib.Path | None = None, how: str = ''):
    self._folder = folder
    self._how = how
    self._known = {}
    self._adapters = {}

  def key(
    self,
    model: Model,
    adapter: Adapter | None,
    context: Context,
    prompts: list[list[int]],
    *settings,
  ) -> str:
    """Identifies the answers to prompts behind a context."""
    if id(adapter) not in self._adapters:
      # The adapter is kept with it, or another could come to have its id.
      self._adapters[id(adapter)] = (adapter, _hash_tree(adapter))
    digest = hashlib.sha256(f'{context.values.dtype}'.encode())
    digest.update(np.ascontiguousarray(context.values).tobytes())
    parts = [model.fingerprint, model.dtypes, model.config]
    parts += [self._adapters[id(adapter)][1], digest.hexdigest()]
    parts += [prompts, settings]
    return hashlib.sha256(repr(parts).encode()).hexdigest()

  def find(self, key: str) -> Answers | None:
    """The answers of a key, or None.

    Raises:
      OSError: the first of several processes has them, and this one cannot read
        them.
    """
    if key in self._known or self._folder is None:
      return self._known.get(key)
    path = self._folder / f'{key}.json'
    try:
      fields = json.loads(path.read_text('utf-8'))
      how = fields.pop('how', '')
      found = Answers(**fields)
    except (OSError, ValueError, TypeError, AttributeError):
      found = None
    if not all(processes.agreed([found is not None])):
      return None
    if found is None:
      raise OSError(
        f'The first process reads {path}, and this one cannot; the folders of '
        'a run have to be shared by all its hosts.'
      )
    if how != self._how:
      return dataclasses.replace(
        found, seconds_to_first_token=None, seconds=None
      )
    return found

  def save(self, key: str, answers: Answers) -> None:
    self._known[key] = answers
    if self._folder is not None and processes.is_first():
      self._folder.mkdir(parents=True, exist_ok=True)
      fields = {**dataclasses.asdict(answers), 'how': self._how}
      write_file(self._folder / f'{key}.json', json.dumps(fields).encode())


def _hash_tree(adapter: Adapter | None) -> str:
  digest = hashlib.sha256()
  if adapter is not None:
    digest.update(f'{adapter.rank} {adapter.alpha}'.encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(adapter.weights):
      digest.update(f'{jax.tree_util.keystr(path)} {leaf.shape}'.encode())
      digest.update(to_host(leaf).tobytes())
  return digest.hexdigest()
