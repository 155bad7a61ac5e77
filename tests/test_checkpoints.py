"""Checkpoints that a kill or a bad disk cannot spoil, and whose they are."""

import json
import shutil

from flax import struct
import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lloco_jax.finetuning import checkpoints
from lloco_jax.finetuning.checkpoints import Checkpoints, claim_workdir
from lloco_jax.finetuning.optimizer import OptimizerConfig, make_optimizer

CONFIG = {'seed': 0, 'optimizer': {'rates': {}, 'b1': 0.9}, 'log_every': 5}


@struct.dataclass
class Trained:
  """Shaped as an adapter: a tree with a field that is no array."""

  weights: dict
  rank: int = struct.field(pytree_node=False)


def state(value=1.0, size=4):
  trainable = Trained({'a': jnp.full((size, 2), value), 'b': jnp.ones(3)}, 2)
  optimizer = make_optimizer(OptimizerConfig(), 10)
  return trainable, optimizer.init(trainable)


def numbers():
  return iter(grain.MapDataset.range(100).to_iter_dataset())


def saved_folder(tmp_path, steps=(1, 2, 3), keep=2):
  """Checkpoints whose values and place in the data are their step."""
  batches = numbers()
  checkpoints = Checkpoints(tmp_path / 'checkpoints', keep, CONFIG)
  for step in steps:
    next(batches)
    checkpoints.save(step, *state(float(step)), batches)
  checkpoints.close()
  return tmp_path / 'checkpoints'


def restore(folder, template=None, config=None):
  batches = numbers()
  checkpoints = Checkpoints(folder, 2, config or CONFIG)
  try:
    found = checkpoints.restore(*(template or state(0.0)), batches)
  finally:
    checkpoints.close()
  return found, next(batches)


def test_newest_state_and_data_position_come_back(tmp_path):
  folder = saved_folder(tmp_path)
  (step, trainable, optimizer), batch = restore(folder)
  assert step == 3 and batch == 3
  expected, expected_optimizer = state(3.0)
  assert jax.tree.structure(trainable) == jax.tree.structure(expected)
  assert jax.tree.structure(optimizer) == jax.tree.structure(expected_optimizer)
  np.testing.assert_array_equal(trainable.weights['a'], expected.weights['a'])
  assert trainable.rank == 2
  assert sorted(path.name for path in folder.iterdir()) == ['2', '3']


def test_nothing_to_restore(tmp_path):
  found, batch = restore(tmp_path / 'checkpoints')
  assert found is None and batch == 0


def test_checkpoint_cut_off_by_a_kill_is_passed_over(tmp_path):
  folder = saved_folder(tmp_path)
  shutil.copytree(folder / '3', folder / '4.orbax-checkpoint-tmp-1')
  (step, _, _), _ = restore(folder)
  assert step == 3
  saved_folder(tmp_path, steps=(4,))
  (step, _, _), _ = restore(folder)
  assert step == 4
  assert sorted(path.name for path in folder.iterdir()) == ['3', '4']


def empty_every_file(folder):
  for path in folder.rglob('*'):
    if path.is_file():
      path.write_bytes(b'')


def cut_arrays(folder):
  for path in (folder / 'trainable').rglob('*'):
    if path.is_file():
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove_data_position(folder):
  shutil.rmtree(folder / 'batches')


def cut_config(folder):
  (path,) = [p for p in (folder / 'run').iterdir() if p.name == 'metadata']
  path.write_text(path.read_text()[:20])


@pytest.mark.parametrize(
  'damage', [empty_every_file, cut_arrays, remove_data_position, cut_config]
)
def test_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, damage):
  folder = saved_folder(tmp_path)
  damage(folder / '3')
  (step, trainable, _), batch = restore(folder)
  assert step == 2 and batch == 2
  assert (trainable.weights['a'] == 2.0).all()
  assert [path.name for path in folder.iterdir()] == ['2']
  aside = folder.with_name(f'{folder.name}_unreadable')
  assert [path.name for path in aside.iterdir()] == ['3']


def test_what_another_process_cannot_read_is_no_checkpoint(
  tmp_path, monkeypatch
):
  """Or processes would go on from different steps."""
  folder = saved_folder(tmp_path)
  # The newest one's arrays, which come second.
  theirs = iter([True, False])
  monkeypatch.setattr(
    checkpoints, 'all_did', lambda mine: mine and next(theirs, True)
  )
  (step, _, _), _ = restore(folder)
  assert step == 2


def test_all_damaged_is_said(tmp_path):
  folder = saved_folder(tmp_path)
  empty_every_file(folder / '2')
  empty_every_file(folder / '3')
  with pytest.raises(ValueError, match='No checkpoint in .* can be read'):
    restore(folder)


def test_other_shapes_are_refused(tmp_path):
  folder = saved_folder(tmp_path)
  with pytest.raises(ValueError) as caught:
    restore(folder, template=state(size=6))
  assert "weights/a was '[4, 2] float32', now '[6, 2]" in str(caught.value)
  assert sorted(path.name for path in folder.iterdir()) == ['2', '3']


def test_other_config_is_refused(tmp_path):
  folder = saved_folder(tmp_path)
  other = {'seed': 0, 'optimizer': {'rates': {'a': 2.0}, 'b1': 0.8}}
  with pytest.raises(ValueError) as caught:
    restore(folder, config=other)
  assert (
    'another config (optimizer.b1 was 0.9, now 0.8, '
    'optimizer.rates.a was nothing, now 2.0)' in str(caught.value)
  )
  restore(folder, config={**CONFIG, 'log_every': 7})


def test_a_checkpoint_with_a_key_that_has_gone_is_restored(tmp_path):
  batches = numbers()
  earlier = Checkpoints(tmp_path, 2, {**CONFIG, 'eval_every': 0})
  earlier.save(1, *state(), batches)
  earlier.close()
  (step, _, _), _ = restore(tmp_path)
  assert step == 1


def test_saved_arrays_are_those_of_their_step(tmp_path):
  """Donating the arrays right after `save` returns spoils nothing."""
  checkpoints = Checkpoints(tmp_path / 'checkpoints', 3, CONFIG)
  add = jax.jit(lambda x: x + 1, donate_argnums=0)
  x = jnp.zeros((1000, 1000))
  for step in (1, 2, 3):
    x = add(x)
    checkpoints.save(step, {'x': x}, {'count': jnp.int32(step)}, numbers())
    for _ in range(10):
      x = add(x)
  checkpoints.close()
  found, _ = restore(
    tmp_path / 'checkpoints', ({'x': x}, {'count': jnp.int32(0)})
  )
  assert found[0] == 3
  assert (found[1]['x'] == 23).all()


def test_workdir_is_claimed_by_its_first_config(tmp_path):
  workdir = tmp_path / 'runs/demo'
  claim_workdir(workdir, CONFIG)
  assert json.loads((workdir / 'config.json').read_text()) == CONFIG
  claim_workdir(workdir, {**CONFIG, 'log_every': 50})
  with pytest.raises(
    ValueError, match='another config .seed was 0, now 1.*dir'
  ):
    claim_workdir(workdir, {**CONFIG, 'seed': 1})
  claim_workdir(workdir, {**CONFIG, 'seed': 1}, ignored={'seed', 'log_every'})
  assert json.loads((workdir / 'config.json').read_text()) == CONFIG


def test_data_may_lie_elsewhere_where_it_trains_the_same(tmp_path):
  def config(path, hash, **fields):
    data = {'data': {'path': path}, 'fingerprints': {'training_data': hash}}
    return {**CONFIG, **data, **fields}

  claim_workdir(tmp_path, config('here', 'a', adapters=('lloco',)))
  claim_workdir(tmp_path, config('there', 'a', adapters=('lloco', 'full')))
  with pytest.raises(
    ValueError, match="data.path was 'here', now 'there'.*'b'"
  ):
    claim_workdir(tmp_path, config('there', 'b'))
  with pytest.raises(ValueError, match='seed was 0, now 1'):
    claim_workdir(tmp_path, config('there', 'a', seed=1))


def test_tuples_are_the_lists_that_json_makes_of_them(tmp_path):
  claim_workdir(tmp_path, {'targets': ('q_proj', 'v_proj')})
  claim_workdir(tmp_path, {'targets': ('q_proj', 'v_proj')})
  with pytest.raises(ValueError, match='targets was'):
    claim_workdir(tmp_path, {'targets': ('q_proj',)})


@pytest.mark.parametrize('text', ['{"seed": 0, "opt', '', '[1, 2]'])
def test_damaged_config_is_named(tmp_path, text):
  (tmp_path / 'config.json').write_text(text)
  with pytest.raises(ValueError, match='config.json is damaged'):
    claim_workdir(tmp_path, CONFIG)
