"""Run by test_streaming.py in a process of 8 devices: loads and compares.

python sharded_loading.py FOLDER
"""

import pathlib
import sys

import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
import test_gguf
from test_huggingface import CONFIG, flat, tensors_of, tree_of, write_shards

from lloco_jax import sharding
from lloco_jax.nn.quantize import quantize_params
from lloco_jax.weights import huggingface, layout, streaming
from lloco_jax.weights.checkpoint import load

# Of CONFIG's sizes 8, 12, 6 and 36; no axis of 11 can be split.
AXES = {'o_proj': ('tensor', None), 'down_proj': ('tensor', 'fsdp')}


def shardings(mesh, kind):
  """A function of the tree of shapes, for a mesh of 4 by 2."""

  def choose(path, leaf):
    path = [key.key for key in path]
    spec = [None] * leaf.ndim
    if kind == 'outputs' and path[0] == 'layers':
      spec[-1] = 'tensor'
    elif kind == 'inputs' and path[0] == 'layers':
      spec[1] = 'tensor'
    elif kind == 'both' and leaf.ndim == 3:
      spec[1:] = AXES.get(path[2], (None, 'tensor'))
    elif kind == 'layers' and path[0] == 'layers':
      spec[0] = 'tensor'
    return NamedSharding(mesh, PartitionSpec(*spec))

  return lambda tree: jax.tree_util.tree_map_with_path(choose, tree)


def compare(folder, expected, choose, quantize, piece):
  """The tree of a folder has those bytes, and lies where it was told."""
  streaming.PIECE_BYTES = piece
  params = huggingface.load_params(folder, CONFIG, 'float32', quantize, choose)
  found, asked = flat(params), flat(choose(expected))
  assert found.keys() == asked.keys()
  for path, leaf in flat(expected).items():
    assert found[path].sharding.is_equivalent_to(asked[path], leaf.ndim), path
    np.testing.assert_array_equal(found[path], leaf, str(path))
  return params


def count_reads(places, mesh):
  """Values read of every matrix: once, however many devices there are."""
  read = {}

  def tensor(name, shape):
    values = np.ones(shape, np.float32)

    def some(index):
      read[name] = read.get(name, 0) + values[index].size
      return values[index]

    return layout.Tensor(shape, some)

  tensors = {name: tensor(name, slot.shape) for name, slot in places.items()}
  for kind in ('nothing', 'outputs', 'inputs'):
    for quantize in (None, 'int8'):
      read.clear()
      streaming.load_leaves(
        places, tensors, np.dtype('float32'), quantize, shardings(mesh, kind)
      )
      for name, slot in places.items():
        if len(slot.shape) == 2:
          assert read[name] == np.prod(slot.shape), (kind, quantize, name)


def main(folder: pathlib.Path):
  mesh = jax.make_mesh(
    (4, 2), ('fsdp', 'tensor'), (jax.sharding.AxisType.Auto,) * 2
  )
  tensors = tensors_of(CONFIG)
  write_shards(folder, tensors)
  plain = tree_of(tensors, CONFIG)
  trees = {None: plain, 'int8': quantize_params(plain)}
  for kind in ('nothing', 'outputs', 'inputs', 'both', 'layers'):
    for quantize, expected in trees.items():
      # All layers at once, or one at a time.
      for piece in (2**20,) if kind in ('nothing', 'outputs') else (2**20, 1):
        choose = shardings(mesh, kind)
        params = compare(folder, expected, choose, quantize, piece)
  tree = jax.tree.map(lambda leaf: leaf.sharding, params)
  (folder / 'config.json').write_text(
    '{"vocab_size": 11, "hidden_size": 8, "intermediate_size": 36,'
    '"num_hidden_layers": 2, "num_attention_heads": 4,'
    '"num_key_value_heads": 2, "head_dim": 4}'
  )
  model = load(folder, quantize='int8', shardings=tree)
  assert jax.tree.map(lambda leaf: leaf.sharding, model.params) == tree
  count_reads(layout.slots(CONFIG), mesh)
  read_gguf_on_a_mesh(folder / 'tiny.gguf')


def read_gguf_on_a_mesh(path):
  """Leaves are read to where they lie, and never all to one device."""
  tensors = test_gguf.tensors_of()
  test_gguf.write(path, tensors)
  places = []
  read = streaming.load_leaves

  def noted(*arguments):
    places.append(arguments[-1])
    return read(*arguments)

  streaming.load_leaves = noted
  with sharding.use(sharding.make_placement({**sharding.AXES, 'fsdp': 8})):
    model = load(path)
    expected = sharding.shardings_in_use(model.config, model.params)
    assert places[0](model.params) == expected
  assert jax.tree.map(lambda x: x.sharding, model.params) == expected
  test_gguf.assert_params(model.params, tensors)


if __name__ == '__main__':
  main(pathlib.Path(sys.argv[1]))
