"""What eight devices compute, and how far it is from what one does.

A program of its own, since the number of devices is fixed when JAX starts; it
prints its findings as JSON. Run by test_sharding.py.
"""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import re
import sys
import time
from unittest import mock

os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=8'

import grain
import jax
import jax.numpy as jnp
import numpy as np
import tiny

from lloco_jax import api, sharding
from lloco_jax.compression.lockstep import compress_batch, keep_vectors
from lloco_jax.compression.schedule import CompressionConfig
from lloco_jax.data.batches import pack
from lloco_jax.data.contexts import Context
from lloco_jax.finetuning import loop
from lloco_jax.finetuning.compressor import Compressor, compressor_task
from lloco_jax.finetuning.questions import question_task
from lloco_jax.generation.answering import Asked, answer_all
from lloco_jax.nn import attention
from lloco_jax.nn.autocompressor import (
  CompressionState,
  grow_prefix,
  init_state,
)
from lloco_jax.nn.lora import LoraConfig
from lloco_jax.nn.quantize import quantize_params

# Every axis divides by eight, but for the two key-value heads.
CONFIG = dataclasses.replace(
  tiny.CONFIG,
  vocab_size=64,
  num_attention_heads=8,
  num_key_value_heads=2,
  max_position_embeddings=96,
)
ROWS = 8
MESHES = {
  'data': {'data': 8},
  'fsdp': {'fsdp': 8},
  'tensor': {'tensor': 8},
  'fsdp x tensor': {'fsdp': 2, 'tensor': 4},
  'data x fsdp x tensor': {'data': 2, 'fsdp': 2, 'tensor': 2},
}


def placement(name):
  return sharding.make_placement({**sharding.AXES, **MESHES[name]})


def as_dtype(tree, dtype):
  return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


def network(dtype, layers=2, quantization=None):
  """A model and an adapter, where the placement in use has them."""
  config = dataclasses.replace(CONFIG, num_hidden_layers=layers)
  model = tiny.model(config)
  params = as_dtype(model.params, dtype)
  if quantization:
    params = quantize_params(params, quantization)
  params = sharding.place_tree(config, params)
  adapter = as_dtype(tiny.adapter(1, config=config), dtype)
  return dataclasses.replace(model, params=params), adapter


def question_batch(dtype, rows=ROWS, seed=0):
  rng = np.random.default_rng(seed)
  questions = [
    [
      ([*rng.integers(0, 60, 3 + row % 3)], [*rng.integers(0, 60, 2)])
      for _ in range(2)
    ]
    for row in range(rows)
  ]
  return {
    **pack(questions, 16, 4),
    'context': rng.normal(size=(rows, 4, CONFIG.hidden_size)).astype(dtype),
    'context_lengths': np.arange(rows, dtype=np.int32) % 4 + 1,
  }


def gradient(task):
  """The program of one microbatch: losses and the adapter's gradient."""
  return jax.jit(jax.value_and_grad(task.loss, has_aux=True))


def finetuning(dtype, layers=2, remat='projections', quantization=None):
  """The program of a finetuning microbatch, and its arguments."""
  model, adapter = network(dtype, layers, quantization)
  task = question_task(model, adapter, (), remat)
  batch = sharding.place_batch(question_batch(dtype), task.batch_sharding)
  key = jax.random.key(0)
  return gradient(task), (task.trainable, task.frozen, batch, key)


def compressor_training(dtype):
  """With summary tokens spread over segments; `summaries` has them behind."""
  model, adapter = network(dtype)
  config = dataclasses.replace(model.config, summary_interleaved=True)
  model = dataclasses.replace(model, config=config)
  lora = LoraConfig(adapter.rank, adapter.alpha, 0.0, adapter.targets)
  table = model.params['embed_summary']['embedding']
  batch = {
    **{k: v for k, v in question_batch(dtype).items() if 'context' not in k},
    'segments': tiny.ids(3, ROWS, 3, 6, vocab_size=60),
    'lengths': np.tile(np.int32([6, 5, 2]), (ROWS, 1)),
  }
  task = compressor_task(
    model,
    lora,
    jax.random.key(0),
    (),
    'full',
    language=0.5,
    naming=0.5,
    distillation=0.5,
    start=Compressor(adapter, jnp.asarray(table)),
  )
  batch = sharding.place_batch(batch, task.batch_sharding)
  key = jax.random.key(0)
  return gradient(task), (task.trainable, task.frozen, batch, key)


def summaries(dtype):
  """Vectors of eight documents of one to three segments."""
  model, _ = network(dtype)
  lengths = (20, 24, 8, 17, 9, 16, 23, 5)
  documents = [tiny.ids(row, n, vocab_size=60) for row, n in enumerate(lengths)]
  config = CompressionConfig(segment_length=8, rows=ROWS)
  found = {}
  for _, done in compress_batch(
    model.params, model.config, config, documents, [(0, None)] * ROWS
  ):
    found.update(done)
  return [found[row] for row in range(ROWS)]


def tokens(dtype, rows=ROWS):
  """Generated behind contexts and prompts of several lengths."""
  model, adapter = network(dtype)
  context = tiny.normal(5, rows, 4, CONFIG.hidden_size).astype(dtype)
  return api.generate(
    model,
    tiny.ids(6, rows, 5, vocab_size=60),
    context,
    sharding.place_tree(model.config, adapter),
    12,
    lengths=np.arange(rows) % 5 + 1,
    context_lengths=np.arange(rows) % 4 + 1,
    stop_tokens=(),
  )


def answers(dtype):
  """Of five documents, which is no multiple of the rows of any mesh."""
  model, adapter = network(dtype)
  rng = np.random.default_rng(7)
  asked = [
    Asked(
      Context(rng.normal(size=(index + 2, CONFIG.hidden_size)).astype(dtype)),
      [[*rng.integers(0, 60, 3)], [*rng.integers(0, 60, 5)]],
    )
    for index in range(5)
  ]
  adapter = sharding.place_tree(model.config, adapter)
  found = answer_all(model, asked, adapter, 6, ())
  return np.array([each.tokens for each in found])


def gradients(program, dtype):
  step, arguments = program(dtype)
  return step(*arguments)


def by_tiles(run):
  """With attention in tiles, as of many more tokens."""
  with mock.patch.multiple(attention, AT_ONCE=0, CPU_TILE=(8, 8)):
    return run()


PARTS = {
  'finetuning': lambda dtype: gradients(finetuning, dtype),
  'tiles': lambda dtype: by_tiles(lambda: gradients(finetuning, dtype)),
  'int8': lambda dtype: gradients(
    functools.partial(finetuning, quantization='int8'), dtype
  ),
  'compressor': lambda dtype: gradients(compressor_training, dtype),
  'summaries': summaries,
  'tokens': tokens,
  'one row': lambda dtype: tokens(dtype, 1),
  'answers': answers,
}


def results(dtype, parts):
  """What is compared, as numpy arrays."""
  found = {}
  for name in parts:
    began = time.monotonic()
    found[name] = jax.tree.map(sharding.to_host, PARTS[name](dtype))
    print(f'{name}: {time.monotonic() - began:.1f} s', file=sys.stderr)
  return found


def errors(actual, expected):
  """The largest relative error of the leaves of each result."""
  return {
    name: max(
      float(tiny.relative_error(ours, theirs))
      for ours, theirs in zip(
        jax.tree.leaves(actual[name]), jax.tree.leaves(expected[name])
      )
    )
    for name in expected
  }


def parity(dtype, *names):
  """Relative errors of every mesh, in all parts or those named."""
  parts = [name for name in names if name in PARTS] or PARTS
  expected = results(dtype, parts)
  found = {}
  for name in names:
    if name in MESHES:
      with sharding.use(placement(name)):
        found[name] = errors(results(dtype, parts), expected)
  return found


def all_gathers(name, layers):
  with sharding.use(placement(name)):
    step, arguments = finetuning('float32', layers)
    text = step.lower(*arguments).compile().as_text()
  return len(re.findall(r' all-gather(?:-start)?\(', text))


def programs():
  """What the programs of a mesh say."""
  step, arguments = finetuning('float32', remat='none')
  lowered = step.lower(*arguments)
  # A product with the shape of a base's weight would be its gradient.
  d, f = CONFIG.hidden_size, CONFIG.intermediate_size
  weights = rf'f32\[(?:1,)?(?:{d},{f}|{f},{d})\]\S* dot\('
  with sharding.use(placement('fsdp x tensor')):
    placed, placed_arguments = finetuning('float32')
    constrained = placed.lower(*placed_arguments).as_text()
    model, adapter = network('float32')
    places = jax.tree.map(lambda x: str(x.sharding.spec), model.params)
    adapter = sharding.place_tree(model.config, adapter)
    _, grads = placed(*placed_arguments)
    prefix = grow_prefix(init_state(CONFIG, jnp.zeros((ROWS, 0, d))), 3).prefix
    keep_vectors(
      model.params,
      CONFIG,
      CompressionState(prefix, jnp.int32(0), jnp.zeros((ROWS, 3, d))),
    )
    same = jax.tree.map(
      lambda a, b: a.sharding.is_equivalent_to(b.sharding, a.ndim),
      adapter,
      grads,
    )
  return {
    'constraints on one device': lowered.as_text().count('constraint'),
    'constraints': constrained.count('sdy.sharding_constraint'),
    'dots': len(re.findall(r' dot\(', lowered.compile().as_text())),
    'gradients of weights': len(
      re.findall(weights, lowered.compile().as_text())
    ),
    'places': places['layers']['self_attn'],
    'gradients lie as the adapter does': all(jax.tree.leaves(same)),
    'prefix': [str(prefix.key.sharding.spec), prefix.key.is_deleted()],
    'all-gathers': {
      name: [all_gathers(name, layers) for layers in (2, 4)]
      for name in ('fsdp x tensor',)
    },
  }


def train(workdir, name=None, stop_after=None):
  """Finetunes for six steps on a mesh or one device, or stops after some.

  Gives all losses so far, and the first batch that this call read.
  """
  read, taken = [], []

  def positions(batch):
    if len(taken) == stop_after:
      raise KeyboardInterrupt
    taken.append(batch)
    return loop.integer_positions(batch)

  def batch(index):
    read.append(index)
    return question_batch('float32', seed=index)

  batches = grain.MapDataset.range(100).map(batch)
  with sharding.use(name and placement(name)):
    model, adapter = network('float32')
    with contextlib.suppress(KeyboardInterrupt):
      task = question_task(model, adapter, batches.to_iter_dataset())
      loop.train(
        dataclasses.replace(task, positions=positions),
        loop.TrainingConfig(
          6, checkpoint_every=2, log_every=0, tensorboard=False
        ),
        workdir,
      )
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line)['loss'] for line in lines], int(min(read))


def resumed(folder):
  """Losses of a run that changed devices twice, and of one that did not."""
  folder = pathlib.Path(folder)
  _, *begun = train(folder / 'moved', 'fsdp', 3)
  begun.append(train(folder / 'moved', 'fsdp x tensor', 3)[1])
  moved, last = train(folder / 'moved')
  stayed, _ = train(folder / 'stayed')
  return {'moved': moved, 'stayed': stayed, 'begun': [*begun, last]}


if __name__ == '__main__':
  what, *rest = sys.argv[1:]
  if 'float64' in rest:
    jax.config.update('jax_enable_x64', True)
  made = {'parity': parity, 'programs': programs, 'resumed': resumed}[what](
    *rest
  )
  print(json.dumps(made))
