"""The programs of a run, to be compiled without arrays or devices.

They are the jitted functions that runs call, lowered for shapes.
"""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from lloco_jax.compression.segments import compress_in_place, prefix_slots
from lloco_jax.data.batches import round_up
from lloco_jax.data.contexts import context_bucket
from lloco_jax.finetuning import compressor, loop, questions
from lloco_jax.finetuning.optimizer import (
  OptimizerConfig,
  make_optimizer,
  make_schedule,
)
from lloco_jax.generation.answering import QUESTION_BUCKETS, WIDTH_MULTIPLE
from lloco_jax.generation.decoding import decode_in_place, prefill
from lloco_jax.model import Model
from lloco_jax.nn.attention import use_backend
from lloco_jax.nn.autocompressor import init_state
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.llama import init_params
from lloco_jax.nn.lora import LoraConfig, init_adapter
from lloco_jax.nn.placement import Placement
from lloco_jax.nn.quantize import quantize_params
from lloco_jax.planning import flops
from lloco_jax.sharding import tree_shardings, use

# Multiples that packed rows are padded to; see data/batches.py.
_TOKENS, _TARGETS = 64, 16


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Of what runs at a time. Lengths are in positions.

  `context` summary vectors are read before `questions` of `prompt` tokens
  each, with answers of `answer` tokens; `segments` of `segment` tokens are
  rows of the compressor's training. There are `rows` of each.
  """

  rows: int = 1
  context: int = 4000
  questions: int = 1
  prompt: int = 64
  answer: int = 32
  segment: int = 1536
  segments: int = 4
  substep: int = 2


@dataclasses.dataclass(frozen=True)
class Base:
  """What is run where: shapes of parameters, each with its sharding."""

  config: LlamaConfig
  params: dict
  lora: LoraConfig
  device: jax.Device
  placement: Placement | None
  backend: str

  def put(self, tree):
    """Shapes of a tree of parameters or adapters, where they lie."""
    if self.placement is None:
      return self.everywhere(tree)
    places = tree_shardings(self.placement, self.config, tree)
    return jax.tree.map(_placed, tree, places)

  def everywhere(self, tree):
    """Shapes of a tree, whole on every device."""
    place = jax.sharding.SingleDeviceSharding(self.device)
    if self.placement is not None:
      place = NamedSharding(self.placement.mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: _placed(leaf, place), tree)

  def array(self, shape, dtype, axes=('batch',)):
    """An array with the names of its axes, the first by default its rows."""
    leaf = jax.ShapeDtypeStruct(shape, dtype)
    if self.placement is None:
      return self.everywhere(leaf)
    axes = (*axes, *(None,) * (len(shape) - len(axes)))
    return _placed(leaf, self.placement.sharding(shape, axes))

  @property
  def dtype(self):
    return self.params['norm']['scale'].dtype

  @contextlib.contextmanager
  def traced(self):
    """Programs that are traced inside are for these devices."""
    with use(self.placement), use_backend(self.backend):
      yield


@dataclasses.dataclass(frozen=True)
class Program:
  """A lowered program, the shapes of its arguments, and its operations by
  formula; `beside` is what stays in memory and is no argument."""

  lowered: jax.stages.Lowered
  arguments: tuple
  flops: int
  positions: int
  beside: tuple = ()


def make_base(
  config: LlamaConfig,
  dtype: str,
  quantization: str | None,
  lora: LoraConfig,
  device: jax.Device,
  placement: Placement | None,
  backend: str = 'splash',
) -> Base:
  """The shapes of a base of a config on a device, or on a placement's mesh."""

  def make():
    params = init_params(config, jax.random.key(0), dtype)
    return quantize_params(params, quantization) if quantization else params

  shapes = jax.eval_shape(make)
  base = Base(config, shapes, lora, device, placement, backend)
  return dataclasses.replace(base, params=base.put(shapes))


def lower_stage(name: str, base: Base, sizes: Sizes, remat: str) -> Program:
  """The largest program of a stage of STAGES."""
  return STAGES[name](base, sizes, remat)


def _finetune(base, sizes, remat):
  config, rows = base.config, sizes.rows
  window = config.max_position_embeddings
  context = context_bucket(sizes.context, window)
  each = sizes.prompt + sizes.answer
  width = round_up(sizes.questions * each, _TOKENS)
  targets = round_up(sizes.questions * sizes.answer, _TARGETS)
  integers = {
    **dict.fromkeys(('tokens', 'offsets', 'groups'), (rows, width)),
    **dict.fromkeys(('predicting', 'targets'), (rows, targets)),
    'context_lengths': (rows,),
  }
  batch = {name: base.array(x, jnp.int32) for name, x in integers.items()}
  batch['context'] = base.array((rows, context, config.hidden_size), 'float32')
  adapter = base.put(_adapter(base))
  task = questions.question_task(_model(base), adapter, (), remat)
  tokens = context + width
  pairs = flops.causal_pairs(tokens, tokens)
  return _gradient(
    base, task.loss, adapter, batch, rows, tokens, pairs, targets
  )


def _train_compressor(base, sizes, remat):
  config, rows, width = base.config, sizes.rows, sizes.segment
  shape = (rows, sizes.segments, width)
  batch = {
    'segments': base.array(shape, jnp.int32),
    'lengths': base.array(shape[:2], jnp.int32),
  }
  start = jax.eval_shape(
    lambda: compressor.init_compressor(
      jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), base.params),
      config,
      base.lora,
      jax.random.key(0),
    )
  )
  start = base.put(start)
  task = compressor.compressor_task(
    _model(base), base.lora, None, (), remat, sizes.substep, 1.0, start=start
  )
  tokens = pairs = 0
  for index in range(sizes.segments):
    # Vectors of earlier substeps run again at the beginning of each.
    again = index if index % sizes.substep == 0 else min(index, 1)
    own = width + (1 + again) * config.summary_length
    tokens += own
    pairs += flops.causal_pairs(
      own, width + (1 + index) * config.summary_length
    )
  return _gradient(
    base, task.loss, start, batch, rows, tokens, pairs, sizes.segments * width
  )


def _gradient(base, loss, trainable, batch, rows, tokens, pairs, head_rows):
  """The half of a training step that runs the network."""
  chosen = OptimizerConfig()
  optimizer = make_optimizer(chosen, 100)
  state = jax.eval_shape(
    lambda tree: loop.State(
      jnp.zeros((), jnp.int32), tree, optimizer.init(tree)
    ),
    trainable,
  )
  moments = base.put(state.optimizer)
  scalar = base.everywhere(jax.ShapeDtypeStruct((), jnp.float32))
  count = base.everywhere(state.step)
  state = loop.State(count, trainable, moments)
  sums = loop.Sums(trainable, scalar, scalar, count)
  accumulate, _ = loop.make_steps(
    loss, optimizer, make_schedule(chosen, 100), state, sums
  )
  key = base.everywhere(jax.eval_shape(lambda: jax.random.key(0)))
  arguments = (sums, trainable, count, base.params, batch, key)
  with base.traced():
    lowered = accumulate.lower(*arguments)
  each = flops.training_flops(base.config, tokens, pairs, head_rows, base.lora)
  return Program(lowered, arguments, rows * each, rows * tokens, (moments,))


def _compress(base, sizes, remat):
  del remat
  config, rows, width = base.config, sizes.rows, sizes.segment
  earlier = -(-sizes.context // config.summary_length)
  slots = prefix_slots(config, earlier)
  # The vectors of the segment before run again, and are kept.
  new = (rows, config.summary_length, config.hidden_size)
  state = jax.eval_shape(
    lambda: init_state(config, jnp.zeros(new, base.dtype), slots)
  )
  axes = (None, 'batch', None, 'kv_heads', None)
  state = dataclasses.replace(
    state,
    prefix=jax.tree.map(
      lambda x: base.array(x.shape, x.dtype, axes), state.prefix
    ),
    prefix_length=base.everywhere(state.prefix_length),
    vectors=base.array(state.vectors.shape, base.dtype),
  )
  arguments = (
    state.prefix,
    state.replace(prefix=None),
    base.array((rows, width), jnp.int32),
    base.array((rows,), jnp.int32),
  )
  with base.traced():
    lowered = compress_in_place.lower(base.params, config, *arguments)
  # Buffers that were full are copied to larger ones: both are there then.
  smaller = (prefix_slots(config, n) for n in range(earlier))
  full = max((size for size in smaller if size < slots), default=0)
  copied = jax.tree.map(
    lambda x: base.array((*x.shape[:2], full, *x.shape[3:]), x.dtype, axes),
    state.prefix,
  )
  queries = width + 2 * config.summary_length
  kept = max(sizes.context - config.summary_length, 0)
  pairs = flops.causal_pairs(queries, queries + kept)
  each = flops.forward_flops(config, queries, pairs, 0)
  return Program(
    lowered,
    (base.params, *arguments),
    rows * each,
    rows * queries,
    (copied,),
  )


@dataclasses.dataclass(frozen=True)
class _Reading:
  """Prefill's program: Q questions of T tokens behind C vectors."""

  lowered: jax.stages.Lowered
  arguments: tuple
  context: int
  questions: int
  prompt: int


def _reading(base, sizes) -> _Reading:
  config, rows = base.config, sizes.rows
  context = context_bucket(sizes.context, config.max_position_embeddings)
  asked = next(x for x in QUESTION_BUCKETS if x >= sizes.questions)
  prompt = round_up(sizes.prompt, WIDTH_MULTIPLE)
  arguments = (
    base.array((rows, context, config.hidden_size), base.dtype),
    base.array((rows,), jnp.int32),
    base.array((rows, asked, prompt), jnp.int32),
    base.array((rows, asked), jnp.int32),
    base.put(_adapter(base)),
  )
  with base.traced():
    lowered = prefill.lower(
      base.params,
      config,
      *arguments,
      None,
      asked * (sizes.answer - 1),
      stacked=True,
    )
  return _Reading(lowered, arguments, context, asked, prompt)


def _prefill(base, sizes, remat):
  del remat
  made = _reading(base, sizes)
  asked, context = made.questions, made.context
  tokens = context + asked * made.prompt
  pairs = flops.causal_pairs(context, context)
  pairs += asked * flops.causal_pairs(made.prompt, context + made.prompt)
  each = flops.forward_flops(base.config, tokens, pairs, asked, base.lora)
  return Program(
    made.lowered,
    (base.params, *made.arguments),
    sizes.rows * each,
    sizes.rows * tokens,
  )


def _decode(base, sizes, remat):
  del remat
  made = _reading(base, sizes)
  config, rows, asked = base.config, sizes.rows, made.questions
  first, cache = made.lowered.out_info

  def placed(leaf):
    # Keys and values of all layers are stacked; what they are has no layers.
    axes = (None, 'batch', 'kv_heads', None, None)
    mine = axes if len(leaf.shape) == 5 else ('batch', None)
    return base.array(leaf.shape, leaf.dtype, mine)

  arguments = (
    base.array(first.shape, first.dtype),
    jax.tree.map(placed, cache),
    base.array((rows, asked), jnp.int32),
    base.put(_adapter(base)),
    None,
    base.array((rows, asked), jax.eval_shape(lambda: jax.random.key(0)).dtype),
  )
  with base.traced():
    lowered = decode_in_place.lower(
      base.params,
      config,
      *arguments,
      sizes.answer,
      0.0,
      1.0,
      config.eos_token_ids,
    )
  pairs = asked * (made.context + made.prompt)
  each = flops.forward_flops(config, asked, pairs, asked, base.lora)
  return Program(
    lowered,
    (base.params, *arguments),
    rows * each,
    rows * asked,
  )


def _adapter(base):
  return jax.eval_shape(
    lambda: init_adapter(base.config, base.lora, jax.random.key(0))
  )


def _model(base):
  return Model(base.config, base.params, None, 'planned', 'planned')


def _placed(leaf, sharding):
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


STAGES = {
  'finetune': _finetune,
  'compressor': _train_compressor,
  'compress': _compress,
  'prefill': _prefill,
  'decode': _decode,
}
