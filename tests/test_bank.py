"""The bank, against the adapters it was made of."""

import dataclasses

from flax.traverse_util import flatten_dict
import jax
import numpy as np
import pytest
import tiny
from tiny import CONFIG, relative_error

from lloco_jax.nn.lora import projection_shapes, stack_adapters
from lloco_jax.serving import bank as module
from lloco_jax.serving.bank import AdapterBank

ADAPTERS = {
  'one': tiny.adapter(1, rank=1, alpha=3.0, targets=('q_proj', 'up_proj')),
  'two': tiny.adapter(2, rank=3, alpha=2.0, targets=('up_proj', 'o_proj')),
  'three': tiny.adapter(3, rank=2, alpha=5.0),
}


def deltas(bank, name):
  """What an adapter of the bank adds to each projection of each layer."""
  leaves = flatten_dict(bank.adapter.weights)
  index = bank.id_of(name)
  found = {}
  for path in leaves:
    a, b = (np.asarray(leaves[*path[:-1], side]) for side in 'ab')
    found[path[:-1]] = a[:, index] @ b[index]
  return found


def expected(adapter):
  found = {}
  for block, projections in adapter.weights['layers'].items():
    for name, pair in projections.items():
      for layer in range(CONFIG.num_hidden_layers):
        a, b = np.asarray(pair['a'][layer]), np.asarray(pair['b'][layer])
        found[f'layers_{layer}', block, name] = adapter.scale * a @ b
  return found


def shapes(bank):
  return {leaf.shape for leaf in flatten_dict(bank.adapter.weights).values()}


@pytest.mark.parametrize('capacity, rank', [(4, 8), (1, 1)])
def test_every_adapter_adds_what_it_adds_alone(capacity, rank):
  """With room for all, and growing with each."""
  bank = AdapterBank(capacity, rank)
  assert bank.adapter is None
  for count, name in enumerate(ADAPTERS, 1):
    bank.add(name, ADAPTERS[name])
    for other in list(ADAPTERS)[:count]:
      actual, wanted = deltas(bank, other), expected(ADAPTERS[other])
      for path, delta in actual.items():
        if path in wanted:
          assert relative_error(delta, wanted[path]) < 1e-6, (other, path)
        else:
          assert not delta.any(), (other, path)
      assert wanted.keys() <= actual.keys()
  assert bank.names == list(ADAPTERS)
  assert [bank.id_of(name) for name in (*ADAPTERS, None)] == [0, 1, 2, -1]


def test_what_fits_changes_no_shape():
  bank = AdapterBank(capacity=2, rank=2)
  full = projection_shapes(CONFIG)
  for count, seed in enumerate(range(5), 1):
    bank.add(str(seed), tiny.adapter(seed, rank=1 + seed % 2))
    room = {1: 2, 2: 2, 3: 4, 4: 4, 5: 8}[count]
    assert shapes(bank) == {
      shape
      for inputs, outputs in full.values()
      for shape in [(inputs, room, 2), (room, 2, outputs)]
    }
  bank.add('wide', tiny.adapter(9, rank=5))
  assert {min(shape) for shape in shapes(bank)} == {8}


def test_a_name_keeps_its_adapter():
  bank = AdapterBank()
  bank.add('one', ADAPTERS['one'])
  bank.add('one', ADAPTERS['one'])
  assert bank.names == ['one']
  with pytest.raises(ValueError, match="another adapter 'one'.*its own"):
    bank.add('one', ADAPTERS['two'])
  with pytest.raises(ValueError, match="no adapter 'two'.*has 'one'"):
    bank.id_of('two')
  with pytest.raises(ValueError, match='has none'):
    AdapterBank().hash_of('two')
  with pytest.raises(ValueError, match="'both' is a bank.*one by one"):
    bank.add('both', stack_adapters([ADAPTERS['one'], ADAPTERS['two']]))
  with pytest.raises(ValueError, match='room for 0 adapters of rank 8'):
    AdapterBank(0)


def test_growth_that_fails_leaves_the_bank_as_it_was(monkeypatch):
  bank = AdapterBank(capacity=1, rank=1)
  bank.add('a', tiny.adapter(1, rank=1))
  before = bank.adapter
  other = tiny.adapter(2, rank=3)
  with monkeypatch.context() as patch:
    patch.setattr(module, '_put', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      bank.add('b', other)
  assert bank.names == ['a']
  assert jax.tree.all(
    jax.tree.map(np.array_equal, bank.adapter.weights, before.weights)
  )
  bank.add('b', other)
  twin = AdapterBank(capacity=1, rank=1)
  twin.add('a', tiny.adapter(1, rank=1)), twin.add('b', other)
  assert jax.tree.all(
    jax.tree.map(np.array_equal, bank.adapter.weights, twin.adapter.weights)
  )


def test_numbers_that_are_not_finite_are_refused():
  broken = jax.tree.map(lambda leaf: leaf / 0, tiny.adapter(1))
  with pytest.raises(ValueError, match="'a' holds numbers that are not fin"):
    AdapterBank().add('a', broken)


@pytest.mark.parametrize('name', [None, 7])
def test_names_that_no_request_can_give_are_refused(name):
  with pytest.raises(ValueError, match=f'name of an adapter is {name}'):
    AdapterBank().add(name, tiny.adapter())


def test_hashes_are_of_what_an_adapter_computes():
  bank = AdapterBank()
  for name, adapter in ADAPTERS.items():
    bank.add(name, adapter)
  one = ADAPTERS['one']
  bank.add('same', dataclasses.replace(one, alpha=one.alpha))
  bank.add('scaled', dataclasses.replace(one, alpha=2 * one.alpha))
  names = [*ADAPTERS, 'scaled', None]
  assert len({bank.hash_of(name) for name in names}) == len(names)
  assert bank.hash_of('same') == bank.hash_of('one')
  assert bank.hash_of(None) == ''
