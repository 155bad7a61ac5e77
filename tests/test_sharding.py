"""Eight devices compute what one does; see mesh_program.py."""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny

from lloco_jax import sharding
from lloco_jax.nn.joining import unstack_layers
from lloco_jax.nn.lora import stack_adapters
from lloco_jax.nn.placement import constrain

PROGRAM = pathlib.Path(__file__).with_name('mesh_program.py')
MESHES = ('data', 'fsdp', 'tensor', 'fsdp x tensor', 'data x fsdp x tensor')


def run(*arguments):
  """What the program with eight devices printed."""
  result = subprocess.run(
    [sys.executable, str(PROGRAM), *map(str, arguments)],
    capture_output=True,
    text=True,
    env={**os.environ, 'PYTHONPATH': str(PROGRAM.parents[1])},
  )
  assert result.returncode == 0, result.stderr
  return json.loads(result.stdout.splitlines()[-1])


def check_parity(found, tolerance):
  # Gradients through three segments amplify rounding.
  tolerances = {'compressor': 5 * tolerance}
  tolerances |= dict.fromkeys(('tokens', 'one row', 'answers'), 0)
  for mesh, errors in found.items():
    for name, error in errors.items():
      assert error <= tolerances.get(name, tolerance), (mesh, name)


def test_a_mesh_computes_what_one_device_does():
  """With fewer key-value heads than the tensor axis has devices."""
  found = run('parity', 'float32', 'fsdp x tensor', 'finetuning', 'summaries')
  assert len(found['fsdp x tensor']) == 2
  check_parity(found, 1e-4)


@pytest.mark.slow
def test_every_mesh_computes_what_one_device_does():
  parts = ('finetuning', 'tiles', 'int8', 'summaries', 'tokens')
  check_parity(run('parity', 'float32', *MESHES, *parts), 1e-4)


@pytest.mark.slow
def test_every_mesh_agrees_in_float64():
  parts = ('finetuning', 'tiles', 'compressor', 'summaries')
  parts += ('tokens', 'one row', 'answers')
  check_parity(run('parity', 'float64', *MESHES, *parts), 1e-9)


@pytest.mark.slow
def test_programs_are_constrained_and_gather_a_layer_at_a_time():
  found = run('programs')
  assert found['constraints on one device'] == 0
  # Of a layer alone: seven, and one at the start and the head each.
  assert found['constraints'] >= 9
  assert found['dots'] > 20 and found['gradients of weights'] == 0
  assert 'tensor' in found['places']['q_proj']['kernel']
  assert 'tensor' not in found['places']['k_proj']['kernel']
  assert found['gradients lie as the adapter does']
  where, given_up = found['prefix']
  assert 'fsdp' in where and 'tensor' not in where and given_up
  for few, many in found['all-gathers'].values():
    assert few == many > 0


@pytest.mark.slow
def test_a_run_goes_on_on_another_number_of_devices(tmp_path):
  """Eight as fsdp 8, then as 2 x 4, then one: the same losses."""
  found = run('resumed', tmp_path)
  assert len(found['moved']) == 6
  # Not from the beginning: then all losses were those of one device.
  assert found['begun'][0] == 0 < found['begun'][1] < found['begun'][2]
  np.testing.assert_allclose(found['moved'], found['stayed'], rtol=1e-4)
  assert found['stayed'][0] != found['stayed'][-1]


@dataclasses.dataclass(frozen=True)
class Device:
  """Stands for a device where only their number matters."""

  id: int
  process_index: int = 0
  platform: str = 'cpu'
  device_kind: str = 'cpu'


def placement(rules=sharding.RULES, **axes):
  sizes = {**sharding.AXES, **axes}
  devices = np.array([Device(i) for i in range(np.prod([*sizes.values()]))])
  mesh = jax.sharding.Mesh(devices.reshape(tuple(sizes.values())), tuple(sizes))
  rules = tuple((axis, tuple(names)) for axis, names in rules)
  return sharding.Placement(mesh, rules)


def spec(of, shape, axes, **counts):
  return tuple(of.sharding(shape, axes, counts).spec)


def test_rules_say_what_an_axis_is_cut_over():
  mesh = placement(data=2, fsdp=2, tensor=2)
  assert spec(mesh, (8, 5, 6), ('batch', None, 'heads')) == (
    ('data', 'fsdp'),
    None,
    'tensor',
  )
  # Dimensions before the named ones are whole: layers, members of a bank.
  assert spec(mesh, (3, 2, 4, 6), ('embed', 'mlp')) == (
    None,
    None,
    'fsdp',
    'tensor',
  )
  assert spec(placement(tensor=2), (8, 4), ('batch', 'embed')) == (None, None)


def test_few_key_value_heads_and_one_row_are_replicated():
  mesh = placement(fsdp=2, tensor=4)
  assert spec(mesh, (16, 12), ('embed', 'kv_heads'), kv_heads=2) == (
    'fsdp',
    None,
  )
  assert spec(mesh, (16, 24), ('embed', 'kv_heads'), kv_heads=4) == (
    'fsdp',
    'tensor',
  )
  assert spec(mesh, (1, 5), ('batch', None)) == (None, None)


@pytest.mark.parametrize(
  'axes, shape, sentence',
  [
    (('batch',), (6,), "'batch' of 6 .* fsdp=4; make the .* multiple of 4"),
    (('mlp',), (7,), "'mlp' of 7 .* tensor=2; choose another size in"),
    (('heads', 'mlp'), (4, 4), "'heads' and 'mlp' of one array are both"),
  ],
)
def test_what_does_not_divide_is_refused(axes, shape, sentence):
  with pytest.raises(ValueError, match=sentence):
    placement(fsdp=4, tensor=2).sharding(shape, axes)


def test_key_value_heads_that_do_not_divide_are_refused():
  with pytest.raises(ValueError, match="'kv_heads' of 6 does not divide"):
    placement(tensor=4).sharding((6,), ('kv_heads',))


@pytest.mark.parametrize(
  'axes, rules, sentence',
  [
    ({'data': 2}, sharding.RULES, "over 'fsdp', which the mesh has not"),
    ({'fsdp': 16}, sharding.RULES, 'fsdp=16 .* there are 8 devices'),
    ({'data': 3, 'fsdp': -1}, sharding.RULES, 'there are 8 devices'),
    ({'data': -1, 'fsdp': -1}, sharding.RULES, 'one of them may be -1'),
    ({'data': 0}, sharding.RULES, 'sizes are 1 or more'),
    ({}, (('embbed', 'fsdp'),), "name the axis 'embbed', which no array has"),
    ({'tensor': 8}, sharding.RULES[:2], "uses the mesh axis 'tensor'"),
  ],
)
def test_a_mesh_that_does_not_fit_is_refused(axes, rules, sentence):
  devices = [Device(index) for index in range(8)]
  if axes != {'data': 2}:
    axes = {**sharding.AXES, **axes}
  with pytest.raises(ValueError, match=sentence):
    sharding.make_placement(axes, rules, devices)


def test_one_device_is_no_mesh():
  assert sharding.make_placement(sharding.AXES) is None
  assert sharding.make_placement({**sharding.AXES, 'fsdp': -1}) is None
  x = tiny.normal(0, 3, 4)
  assert constrain(x, 'batch', 'mlp') is x
  assert sharding.rows_sharding() is None and sharding.rows_here(3) == [0, 1, 2]
  sharding.check_rows(3, 'rows')


def test_several_processes_take_all_devices(monkeypatch):
  """Each would do all of the work otherwise."""
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  for axes in ({}, {'data': 2}):
    with pytest.raises(ValueError, match='several processes takes all of them'):
      sharding.make_placement({**sharding.AXES, **axes}, devices=[None] * 4)


def test_rows_of_a_long_job_have_to_divide():
  with sharding.use(placement(data=2, fsdp=2)):
    sharding.check_rows(8, 'config.batch.rows')
    for rows in (1, 6):
      sentence = f'config.batch.rows is {rows}, which does not divide over .*'
      with pytest.raises(ValueError, match=sentence + 'data=2 x fsdp=2; .* 4'):
        sharding.check_rows(rows, 'config.batch.rows')
    batch, where = {'tokens': np.zeros((3, 2))}, sharding.rows_sharding()
    with pytest.raises(ValueError, match='rows of a batch is 3, which does'):
      sharding.place_batch(batch, where)


def shardings(mesh, tree):
  of = sharding.tree_shardings(mesh, tiny.CONFIG, tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): tuple(leaf.spec)
    for path, leaf in jax.tree_util.tree_leaves_with_path(of)
  }


def test_trees_lie_by_the_names_of_their_leaves():
  config = dataclasses.replace(tiny.CONFIG, vocab_size=64)
  mesh = placement(fsdp=2, tensor=2)
  base = shardings(mesh, tiny.model(config).params)
  assert base['embed_tokens/embedding'] == ('tensor', 'fsdp')
  assert base['lm_head/kernel'] == ('fsdp', 'tensor')
  assert base['layers/mlp/down_proj/kernel'] == (None, 'tensor', 'fsdp')
  assert base['layers/input_layernorm/scale'] == (None, None)
  adapter = shardings(mesh, tiny.adapter())
  q_proj, o_proj = (
    [adapter[f'weights/layers/self_attn/{name}/{side}'] for side in 'ab']
    for name in ('q_proj', 'o_proj')
  )
  assert q_proj == [(None, None, None), (None, None, 'tensor')]
  assert o_proj == [(None, 'tensor', None), (None, None, None)]
  bank = stack_adapters([tiny.adapter(), tiny.adapter(1)])
  found = shardings(mesh, bank)['weights/layers/self_attn/o_proj/a']
  assert found == (None, 'tensor', None, None)
  one_layer = shardings(mesh, unstack_layers(bank.weights))
  assert one_layer['layers_0/self_attn/o_proj/a'] == ('tensor', None, None)
  assert one_layer['layers_0/self_attn/q_proj/b'] == (None, None, 'tensor')


def test_a_large_array_without_names_is_refused():
  def tree(rows):
    return {'memory': jax.ShapeDtypeStruct((rows, 2**10), np.float32)}

  mesh = placement(fsdp=2)
  assert shardings(mesh, tree(2048)) == {'memory': (None, None)}
  with pytest.raises(ValueError, match=re.escape('memory of 9.6 MiB would')):
    shardings(mesh, tree(2450))
