"""A network of random weights, and its stages as functions to be timed."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from lloco_jax.compression.segments import compress_in_place, prefix_slots
from lloco_jax.data.batches import pack
from lloco_jax.finetuning.compressor import compressor_task
from lloco_jax.finetuning.loop import empty_sums, initial_state, make_steps
from lloco_jax.finetuning.optimizer import (
  OptimizerConfig,
  make_optimizer,
  make_schedule,
)
from lloco_jax.finetuning.questions import question_task
from lloco_jax.generation.decoding import decode_in_place, prefill
from lloco_jax.model import Model
from lloco_jax.nn.autocompressor import init_state
from lloco_jax.nn.joining import unstack_layers
from lloco_jax.nn.llama import init_params
from lloco_jax.nn.lora import LoraConfig, init_adapter
from lloco_jax.nn.quantize import quantize_params


class Network:
  """A base of random weights with a LoRA adapter of the paper's rank."""

  def __init__(self, config, dtype: str, remat: str, quantization: str = ''):
    make = jax.jit(init_params, static_argnums=(0, 2))
    self.config, self.remat = config, remat
    self.params = make(config, jax.random.key(0), dtype)
    if quantization:
      self.params = quantize_params(self.params, quantization)
    self.model = Model(config, self.params, None, 'random', '')
    self.adapter = init_adapter(config, LoraConfig(), jax.random.key(1))
    self.unstacked_adapter = self.adapter.replace(
      weights=unstack_layers(self.adapter.weights)
    )

  def random_ids(self, count: int) -> list[int]:
    random = np.random.default_rng(count)
    return random.integers(self.config.vocab_size, size=count).tolist()

  def summaries(self, count: int, rows: int = 1):
    """[rows, count, D]; the count may be 0."""
    shape = (rows, count, self.config.hidden_size)
    dtype = self.params['norm']['scale'].dtype
    return jax.random.normal(jax.random.key(2), shape, dtype)

  def answering(
    self, vectors: int, prompt_tokens: int, new_tokens: int, rows: int = 1,
    unstacked: bool = False,
  ):  # fmt: skip
    """A function that answers once: seconds to first token, and by token.

    `unstacked` reads with unstacked layers, too: see `prefill`.
    """
    context = self.summaries(vectors, rows)
    prompt = jnp.asarray(self.random_ids(prompt_tokens), jnp.int32)
    prompts = jnp.tile(prompt, (rows, 1, 1))
    sizes = jnp.full((rows,), vectors), jnp.full((rows, 1), prompt_tokens)
    reads = (context, sizes[0], prompts, sizes[1])
    weights = self.model.unstacked_params
    reader = (self.params, self.adapter)
    if unstacked:
      reader = (weights, self.unstacked_adapter)
    read = prefill.lower(
      reader[0], self.config, *reads, reader[1], None, new_tokens
    ).compile()
    length = sizes[0][:, None] + sizes[1]
    first, cache = read.out_info
    ends = (self.unstacked_adapter, None, jax.random.key(0))
    # The first token comes from the prefill.
    steps = (new_tokens + 1, 0.0, 1.0, ())
    write = decode_in_place.lower(
      weights, self.config, first, cache, length, *ends, *steps
    ).compile()

    def run():
      start = time.perf_counter()
      first, cache = read(reader[0], *reads, reader[1], None)
      jax.block_until_ready(first)
      middle = time.perf_counter()
      jax.block_until_ready(write(weights, first, cache, length, *ends))
      end = time.perf_counter()
      return middle - start, (end - middle) / new_tokens

    return run

  def finetuning(
    self, vectors: int, prompt_tokens: int, answer_tokens: int, rows: int = 1,
    questions: int = 1,
  ):  # fmt: skip
    """A function that makes one update from packed rows: its seconds."""
    question = (self.random_ids(prompt_tokens), self.random_ids(answer_tokens))
    batch = pack([[question] * questions] * rows)
    batch['context'] = self.summaries(vectors, rows)
    batch['context_lengths'] = np.full((rows,), vectors, np.int32)
    task = question_task(self.model, self.adapter, [], self.remat)
    return self._updating(task, batch)

  def compressor_training(self, rows: int, segments: int, segment: int):
    """A function that makes one update of a compressor: its seconds."""
    ids = np.asarray(self.random_ids(rows * segments * segment), np.int32)
    batch = {
      'segments': ids.reshape(rows, segments, segment),
      'lengths': np.full((rows, segments), segment, np.int32),
    }
    task = compressor_task(
      self.model, LoraConfig(), jax.random.key(1), [], self.remat, language=1.0
    )
    return self._updating(task, batch)

  def compressing(self, rows: int, segment: int, earlier: int):
    """A function that reads one segment behind earlier vectors: its seconds."""
    slots = prefix_slots(self.config, -(-earlier // self.config.summary_length))
    dtype = self.params['norm']['scale'].dtype
    nothing = jnp.zeros((rows, 0, self.config.hidden_size), dtype)
    state = init_state(self.config, nothing, slots)
    state = state.replace(prefix_length=jnp.int32(earlier))
    ids = np.asarray(self.random_ids(rows * segment), np.int32)
    ids = jax.device_put(ids.reshape(rows, segment))
    lengths = jnp.full((rows,), segment, jnp.int32)

    rest = state.replace(prefix=None)
    step = compress_in_place.lower(
      self.params, self.config, state.prefix, rest, ids, lengths
    ).compile()

    def run():
      nonlocal state
      start = time.perf_counter()
      rest = state.replace(prefix=None)
      after = step(self.params, state.prefix, rest, ids, lengths)
      jax.block_until_ready(after)
      seconds = time.perf_counter() - start
      state = after.replace(prefix_length=state.prefix_length, vectors=nothing)
      return seconds

    return run

  def _updating(self, task, batch):
    batch = jax.device_put(batch)
    settings = OptimizerConfig(schedule='constant')
    optimizer = make_optimizer(settings, 1)
    state = initial_state(task.trainable, optimizer)
    sums = empty_sums(state)
    accumulate, update = make_steps(
      task.loss, optimizer, make_schedule(settings, 1), state, sums
    )
    rest = (state.step, self.params, batch, jax.random.key(0))
    accumulate = accumulate.lower(sums, state.trainable, *rest).compile()
    update = update.lower(state, sums).compile()

    def run():
      nonlocal state, sums
      start = time.perf_counter()
      rest = (state.step, self.params, batch, jax.random.key(0))
      sums = accumulate(sums, state.trainable, *rest)
      state, sums, metrics = update(state, sums)
      jax.block_until_ready(metrics)
      return time.perf_counter() - start

    return run
