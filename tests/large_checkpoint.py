"""A checkpoint of 2 GB, and the memory of a process that loads it.

    python large_checkpoint.py FOLDER [int8]

prints three numbers of bytes: of the process before, of the parameters that
it keeps, and of the process at its peak. Run by test_streaming.py.
"""

import json
import pathlib
import re
import sys

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import ml_dtypes
import numpy as np
import safetensors.numpy

from lloco_jax.nn.config import LlamaConfig
from lloco_jax.weights import layout
from lloco_jax.weights.checkpoint import load

# The heaviest leaves, of the MLP, are 470 MB each.
FIELDS = {
  'vocab_size': 8_000,
  'hidden_size': 2_048,
  'intermediate_size': 7_168,
  'num_hidden_layers': 16,
  'num_attention_heads': 16,
  'num_key_value_heads': 8,
}
SHARDS = 4


def write(folder: pathlib.Path) -> int:
  """Writes random bfloat16 shard by shard, and gives the bytes of all."""
  config = LlamaConfig.from_huggingface(FIELDS)
  names = layout.slots(config)
  random = np.random.default_rng(0)
  noise = random.normal(size=2**20).astype(ml_dtypes.bfloat16)
  weight_map, total = {}, 0
  for number in range(SHARDS):
    file = f'model-{number}.safetensors'
    shard = {}
    for name in list(names)[number::SHARDS]:
      shape = names[name].shape
      shard[name] = np.resize(noise, shape)
      total += shard[name].nbytes
      weight_map[name] = file
    safetensors.numpy.save_file(shard, folder / file)
  index = folder / 'model.safetensors.index.json'
  index.write_text(json.dumps({'weight_map': weight_map}))
  (folder / 'config.json').write_text(json.dumps(FIELDS))
  return total


def memory(name: str) -> int:
  """Bytes of this process: 'VmRSS', or 'VmHWM' for its peak."""
  status = pathlib.Path('/proc/self/status').read_text()
  return 1024 * int(re.search(rf'{name}:\s+(\d+) kB', status)[1])


def main(folder, quantize=''):
  mesh = jax.make_mesh((4, 2), ('fsdp', 'tensor'), (AxisType.Auto,) * 2)

  def sharding(leaf):
    spec = [None, 'fsdp', 'tensor'][-leaf.ndim :]
    if leaf.shape[0] == FIELDS['num_hidden_layers']:
      spec[0] = None
    return NamedSharding(mesh, PartitionSpec(*spec))

  jax.block_until_ready(jax.numpy.zeros(8))
  before = memory('VmRSS')
  model = load(
    folder,
    'bfloat16',
    quantize or None,
    lambda shapes: jax.tree.map(sharding, shapes),
  )
  kept = sum(
    shard.data.nbytes
    for leaf in jax.tree.leaves(model.params)
    for shard in leaf.addressable_shards
  )
  print(before, kept, memory('VmHWM'))


if __name__ == '__main__':
  main(*sys.argv[1:])
