"""Checkpoints of a training run, and the config that a workdir belongs to."""

from collections.abc import Mapping
import json
from pathlib import Path
import shutil
from typing import Any

from absl import logging
import jax
import orbax.checkpoint as ocp

from lloco_jax.files import named_path, write_file
from lloco_jax.finetuning.optimizer import path_names
from lloco_jax.processes import all_did, is_first, wait_for_all

CONFIG_FILE = 'config.json'
# Processes go on from one step: that which all of them can read.
_ANOTHERS_FAILURE = OSError('another process cannot read it')
# They change how a run is watched and scored, and on what it runs, not what
# it trains.
IGNORED = frozenset(
  {
    'log_every',
    'checkpoint_every',
    'keep',
    'tensorboard',
    'evaluation',
    'mesh',
    # Summaries are told by hashes, wherever they are.
    'store',
    # Each is trained apart.
    'adapters',
    # No key any more, but in checkpoints that were made when it was one.
    'eval_every',
  }
)


def flat_config(config: Mapping, ignored=IGNORED, prefix='') -> dict[str, Any]:
  """Dotted keys and JSON values of a nested config, without the ignored."""
  flat = {}
  for key, value in config.items():
    if key in ignored:
      continue
    if isinstance(value, Mapping):
      flat.update(flat_config(value, ignored, f'{prefix}{key}.'))
    else:
      flat[f'{prefix}{key}'] = json.loads(json.dumps(value))
  return flat


def differences(theirs: Mapping, ours: Mapping, ignored=IGNORED) -> str:
  """What differs between two configs, or '' where nothing that matters does.

  A key that theirs does not know yet is a difference where ours is set: zero
  and empty values stand for what was done before there was the key. Where both
  train on the same data, it does not matter where that is, and what else is
  there.
  """
  if _training_data(theirs) == _training_data(ours) is not None:
    ignored = {*ignored, 'data'}
  theirs, ours = flat_config(theirs, ignored), flat_config(ours, ignored)
  absent = object()

  def shown(config, key):
    return repr(config[key]) if key in config else 'nothing'

  return ', '.join(
    f'{key} was {shown(theirs, key)}, now {shown(ours, key)}'
    for key in sorted(theirs.keys() | ours.keys())
    if theirs.get(key, absent) != ours.get(key, absent)
    and (key in theirs or ours[key])
  )


def _training_data(config: Mapping) -> str | None:
  return config.get('fingerprints', {}).get('training_data')


def refuse_other_config(place, theirs: Mapping, ours: Mapping, ignored=IGNORED):
  """Raises ValueError where two configs differ in what matters."""
  changed = differences(theirs, ours, ignored)
  if changed:
    raise ValueError(
      f'{place} holds a run of another config ({changed}); '
      'choose another workdir, or remove that one to start again.'
    )


def claim_workdir(workdir, config: Mapping, ignored=IGNORED):
  """Makes the workdir this config's own, or finds that it is already.

  `config` is nested mappings of JSON values; keys named in `ignored`, at any
  depth, may differ from the run that the workdir holds.

  Raises:
    ValueError: the workdir holds another config's run, or a damaged config.
  """
  workdir = named_path(workdir)
  path = workdir / CONFIG_FILE
  if path.exists():
    theirs = read_config(path)
    refuse_other_config(workdir, theirs, config, ignored)
    return
  workdir.mkdir(parents=True, exist_ok=True)
  if is_first():
    write_file(path, json.dumps(config, indent=2) + '\n')


def read_config(path: Path) -> dict:
  """The config that a workdir holds; raises ValueError where it is damaged."""
  try:
    config = json.loads(path.read_text('utf-8'))
    if not isinstance(config, dict):
      raise ValueError('not a mapping')
  except ValueError as error:
    raise ValueError(
      f'{path} is damaged ({error}), so whose run the workdir holds is '
      'unknown; choose another workdir, or remove that one to start again.'
    ) from None
  return config


class Checkpoints:
  """The latest few states of one run, each with its place in the data.

  A checkpoint is written beside the training and takes its name only when it
  is whole, so a kill leaves the one before it. Beside the arrays it holds the
  config, which a restored run must share.
  """

  def __init__(self, folder, keep: int, config: Mapping):
    self.folder = Path(folder).absolute()
    self.config = json.loads(json.dumps(config))
    options = ocp.CheckpointManagerOptions(
      max_to_keep=keep, create=True, cleanup_tmp_directories=True
    )
    self.manager = ocp.CheckpointManager(self.folder, options=options)

  @property
  def latest(self) -> int | None:
    """Step of the newest checkpoint."""
    return self.manager.latest_step()

  def save(self, step: int, trainable, optimizer, batches):
    """Starts saving; arrays and data position are taken before it returns.

    `batches` is the grain iterator that made the batches up to `step`.
    """
    self.manager.save(
      step,
      args=ocp.args.Composite(
        trainable=ocp.args.StandardSave(trainable),
        optimizer=ocp.args.StandardSave(optimizer),
        # Grain's own handler would tie it to the number of processes, which
        # all stand at the same place.
        batches=ocp.args.JsonSave(batches.get_state()),
        run=ocp.args.JsonSave(
          {'config': self.config, 'shapes': shapes(trainable)}
        ),
      ),
    )

  def restore(self, trainable, optimizer, batches):
    """The newest state that can be read, or None where there is none.

    `trainable` and `optimizer` give shapes, dtypes and shardings of the arrays
    to restore; `batches`, a grain iterator, is put where it was. A checkpoint
    that cannot be read is set aside and the one before it taken.

    Returns:
      step, trainable, optimizer.

    Raises:
      ValueError: the run had another config or other shapes, or no checkpoint
        can be read.
    """
    damage = None
    for step in sorted(self.manager.all_steps(), reverse=True):
      failure = None
      try:
        run = self.manager.restore(
          step, args=ocp.args.Composite(run=ocp.args.JsonRestore())
        )['run']
        theirs, their_shapes = run['config'], run['shapes']
      except Exception as error:  # Orbax raises whatever its stores raise.
        failure = error
      if not all_did(failure is None):
        damage = damage or (step, failure or _ANOTHERS_FAILURE)
        continue
      refuse_other_config(self.folder.parent, theirs, self.config)
      refuse_other_config(
        self.folder.parent, their_shapes, shapes(trainable), ignored=()
      )
      try:
        restored = self.manager.restore(
          step,
          args=ocp.args.Composite(
            trainable=ocp.args.StandardRestore(abstract(trainable)),
            optimizer=ocp.args.StandardRestore(abstract(optimizer)),
            batches=ocp.args.JsonRestore(),
          ),
        )
        batches.set_state(restored['batches'])
      except Exception as error:
        failure = error
      if not all_did(failure is None):
        damage = damage or (step, failure or _ANOTHERS_FAILURE)
        continue
      self._set_aside_after(step)
      return step, restored['trainable'], restored['optimizer']
    if damage:
      step, error = damage
      raise ValueError(
        f'No checkpoint in {self.folder} can be read '
        f'(step {step}: {str(error).splitlines()[0]}); '
        'choose another workdir, or remove that one to start again.'
      ) from error
    return None

  def _set_aside_after(self, step: int):
    """Moves what could not be read away: it may be the disk's fault."""
    aside = self.folder.with_name(f'{self.folder.name}_unreadable')
    for damaged in [s for s in self.manager.all_steps() if s > step]:
      logging.warning(
        'The checkpoint of step %d in %s cannot be read and is moved to %s; '
        'going on from step %d.',
        damaged,
        self.folder,
        aside,
        step,
      )
      if is_first():
        aside.mkdir(exist_ok=True)
        shutil.rmtree(aside / str(damaged), ignore_errors=True)
        (self.folder / str(damaged)).rename(aside / str(damaged))
    wait_for_all('unreadable checkpoints')
    self.manager.reload()

  def close(self):
    """Waits for what is being saved."""
    self.manager.wait_until_finished()
    self.manager.close()


def shapes(tree) -> dict[str, str]:
  """Shape and dtype of every leaf, by its path."""
  return {
    path_names(path): f'{list(leaf.shape)} {leaf.dtype}'
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def abstract(tree):
  """Shapes, dtypes and shardings of a tree of arrays."""
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree
  )
