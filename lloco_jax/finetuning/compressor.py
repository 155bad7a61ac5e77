"""Training of the compressor (Chevalier et al. 2023, section 3).

The segments of a row are compressed in order. Gradients pass through the
compression steps of one substep and stop between substeps, where all earlier
vectors are handed on as constants and run again.
"""

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from lloco_jax.data.batches import IGNORED
from lloco_jax.finetuning.distillation import divergence, states_of_whole_text
from lloco_jax.finetuning.loop import Task
from lloco_jax.finetuning.loss import cross_entropy, packed_loss
from lloco_jax.finetuning.naming import naming_loss
from lloco_jax.model import Model
from lloco_jax.nn.autocompressor import (
  compress_segment,
  init_state,
)
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.lora import Adapter, LoraConfig, init_adapter
from lloco_jax.sharding import place_tree, rows_sharding


@struct.dataclass
class Compressor:
  """What training a compressor changes: the summary embeddings, and LoRA or, in
  the adapter's place, `base`, all parameters of the base."""

  adapter: Adapter | None
  embed_summary: jax.Array
  base: dict | None = None

  @property
  def dropout(self) -> float:
    return 0.0 if self.adapter is None else self.adapter.dropout


def init_compressor(
  params: dict,
  config: LlamaConfig,
  lora: LoraConfig | None,
  key: jax.Array,
) -> Compressor:
  """A fresh one; summary embeddings start from the EOS token's.

  Without `lora` all parameters are trained, in float32.
  """
  if not config.eos_token_ids:
    raise ValueError(
      'The base has no EOS token, from which summary embeddings start; set '
      'eos_token_id in its config.json.'
    )
  table = params['embed_tokens']['embedding']
  row = table[config.eos_token_ids[0]].astype(jnp.float32)
  embed_summary = jnp.tile(row[None], (config.summary_length, 1))
  if lora is not None:
    return Compressor(init_adapter(config, lora, key), embed_summary)
  base = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
  return Compressor(None, embed_summary, base)


def with_summary_tokens(params: dict, compressor: Compressor) -> dict:
  """The parameters that the adapter goes on top of: the base's, or the trained
  ones in their place, with the compressor's summary embeddings."""
  params = params if compressor.base is None else compressor.base
  return {**params, 'embed_summary': {'embedding': compressor.embed_summary}}


def compress_rows(
  params: dict,
  config: LlamaConfig,
  segments,
  lengths,
  adapter: Adapter | None = None,
  dropout_key=None,
  remat: str = 'none',
  substep: int = 2,
):
  """Differentiable compression of the segments of every row.

  Args:
    params: base parameters with summary embeddings.
    config: its config, with `summary_length` K.
    segments: [B, S, T] token ids, padded on the right.
    lengths: [B, S] tokens that count; 0 where a row has no more segments.
    adapter, dropout_key, remat: see nn/llama.py.
    substep: segments that gradients pass through.

  Returns:
    Hidden states [B, S, T + K, D] of the segments' and the summary tokens,
    and the summary vectors [B, S K, D]; [B, K, D], of each row's last segment,
    when they do not accumulate.
  """
  batch, count, _ = segments.shape
  k = config.summary_length
  dtype = params['norm']['scale'].dtype
  handed_on = jnp.zeros((batch, 0, config.hidden_size), dtype)
  hiddens, summaries, state = [], [], None
  for index in range(count):
    if index % substep == 0:
      if index and config.accumulate_summary:
        handed_on = jnp.concatenate(summaries, axis=1)
      elif index:
        handed_on = summaries[-1]
      slots = handed_on.shape[1] + substep * k
      state = init_state(
        config,
        jax.lax.stop_gradient(handed_on),
        slots if config.accumulate_summary else 0,
      )
    key = None
    if dropout_key is not None:
      key = jax.random.fold_in(dropout_key, index)
    hidden, state = compress_segment(
      params,
      config,
      segments[:, index],
      lengths[:, index],
      state,
      adapter,
      key,
      remat,
    )
    if index and not config.accumulate_summary:
      there = lengths[:, index, None, None] > 0
      state = state.replace(
        vectors=jnp.where(there, state.vectors, summaries[-1])
      )
    hiddens.append(hidden)
    summaries.append(state.vectors)
  if not config.accumulate_summary:
    summaries = summaries[-1:]
  return jnp.stack(hiddens, axis=1), jnp.concatenate(summaries, axis=1)


def next_token_losses(
  params: dict, config: LlamaConfig, hidden, segments, lengths, substep: int = 2
):
  """Language-model loss of each substep: (sums [U], counts [U]).

  A token is predicted from the one before it in its substep, across the
  segment boundary; the substep's first token is not predicted.

  Args:
    params: base parameters.
    config: the base's config.
    hidden: [B, S, T + K, D], from `compress_rows`.
    segments, lengths: [B, S, T] and [B, S], as given to it.
    substep: segments in a substep.
  """
  width, features = segments.shape[-1], hidden.shape[-1]
  hidden = hidden[:, :, :width]
  targets = following_tokens(segments, lengths, substep)
  sums, counts = [], []
  for start in range(0, segments.shape[1], substep):
    part = slice(start, start + substep)
    total, number = cross_entropy(
      params,
      config,
      hidden[:, part].reshape(-1, features),
      targets[:, part].reshape(-1),
    )
    sums.append(total)
    counts.append(number)
  return jnp.stack(sums), jnp.stack(counts)


def following_tokens(segments, lengths, substep: int):
  """The token [B, S, T] behind each token of its substep, or IGNORED."""
  batch, count, width = segments.shape
  column = jnp.arange(width)
  following = jnp.concatenate(
    [segments[:, :, 1:], jnp.full((batch, count, 1), IGNORED)], axis=-1
  )
  inside = column + 1 < lengths[..., None]
  targets = jnp.where(inside, following, IGNORED)
  # The last token of a segment predicts the first one of the next.
  goes_on = (jnp.arange(1, count + 1) % substep != 0) & (
    jnp.roll(lengths, -1, axis=1) > 0
  )
  goes_on = goes_on.at[:, -1].set(False)
  last = column == lengths[..., None] - 1
  first_of_next = jnp.roll(segments[:, :, 0], -1, axis=1)[..., None]
  return jnp.where(last & goes_on[..., None], first_of_next, targets)


def compressor_loss(
  compressor: Compressor,
  params: dict,
  config: LlamaConfig,
  batch: dict,
  dropout_key=None,
  remat: str = 'none',
  substep: int = 2,
  language: float = 0.0,
  naming: float = 0.0,
  distillation: float = 0.0,
  rarity=None,
  last: bool = False,
):
  """What a compressor learns from: answers, the text, naming, the base.

  Args:
    compressor: what is trained.
    params: the frozen base.
    config: its config, with `summary_length`.
    batch: `segments` [B, S, T] and `lengths` [B, S]; and packed rows, if
      there are questions, whose answers are read from the vectors alone.
      Where there are fewer packed rows than B, each is behind the vectors of
      as many rows.
    dropout_key, remat, substep: see `compress_rows`.
    language: weight of `next_token_losses`, the sum of the means of the
      substeps, as in AutoCompressors (Chevalier et al. 2023, their code).
    naming: weight of the mean of `naming_loss`.
    distillation: weight of the mean divergence from the base that reads the
      text itself, over the tokens of `language` (finetuning/distillation.py).
    rarity, last: see `naming_loss`.

  Returns:
    The loss in nats, times the tokens that are compressed; and their number,
    so that microbatches of a step count by what they read, whatever they ask.

  Raises:
    ValueError: there is nothing to learn.
  """
  frozen, params = params, with_summary_tokens(params, compressor)
  keys = (None, None)
  if dropout_key is not None:
    keys = jax.random.split(dropout_key)
  segments, lengths = batch['segments'], batch['lengths']
  hidden, summaries = compress_rows(
    params,
    config,
    segments,
    lengths,
    compressor.adapter,
    keys[0],
    remat,
    substep,
  )
  terms = []
  if 'tokens' in batch:
    written = lengths > 0
    if not config.accumulate_summary:
      written = jnp.any(written, axis=1, keepdims=True)
    summaries, used = _contexts(summaries, written, batch['tokens'].shape[0])
    answers = packed_loss(
      params,
      config,
      batch,
      summaries,
      used,
      compressor.adapter,
      keys[1],
      remat,
    )
    terms.append((1.0, *answers))
  if language:
    sums, counts = next_token_losses(
      params, config, hidden, segments, lengths, substep
    )
    means, number = jnp.sum(sums / jnp.maximum(counts, 1)), jnp.sum(counts)
    terms.append((language, means * number, number))
  if naming:
    states = hidden[:, :, segments.shape[-1] :]
    named = naming_loss(params, config, states, segments, lengths, rarity, last)
    terms.append((naming, *named))
  if distillation:
    taught = states_of_whole_text(frozen, config, segments, lengths)
    counted = following_tokens(segments, lengths, substep) != IGNORED
    hidden = hidden[:, :, : segments.shape[-1]]
    apart = divergence(params, config, hidden, taught, counted)
    terms.append((distillation, *apart))
  if not terms:
    raise ValueError(
      'The compressor has nothing to learn: ask questions, or give the '
      'weight language, naming or distillation.'
    )
  number = jnp.sum(lengths).astype(jnp.float32)
  loss = sum(weight * total / count for weight, total, count in terms)
  return loss * number, number


def _contexts(summaries, written, count: int):
  """Vectors [B, S K, D], S `written` [B, S] -> [count, C, D] and lengths.

  Where there are fewer contexts than rows, each holds the vectors of several
  rows; those of segments that are there come first.
  """
  segments = written.reshape(count, -1)
  parts = summaries.reshape(*segments.shape, -1)
  order = jnp.argsort(~segments, axis=1, stable=True)
  parts = jnp.take_along_axis(parts, order[..., None], axis=1)
  vectors = parts.reshape(count, -1, summaries.shape[-1])
  each = vectors.shape[1] // segments.shape[1]
  return vectors, jnp.sum(segments, axis=1) * each


def check_same_lora(start: Compressor, lora: LoraConfig) -> None:
  """Raises ValueError unless `lora` says what the adapter of `start` is."""
  held = start.adapter
  theirs = (held.rank, held.alpha, held.dropout, set(held.targets))
  ours = (lora.rank, lora.alpha, lora.dropout, set(lora.targets))
  if theirs != ours:
    raise ValueError(
      'The compressor to go on from has LoRA of rank, alpha, dropout and '
      f'targets {theirs}, not {ours}; give the same.'
    )


def compressor_task(
  model: Model,
  lora: LoraConfig | None,
  key: jax.Array,
  batches,
  remat: str = 'projections',
  substep: int = 2,
  language: float = 0.0,
  naming: float = 0.0,
  distillation: float = 0.0,
  rarity=None,
  last: bool = False,
  start: Compressor | None = None,
) -> Task:
  """The task of training a compressor on batches of segments and questions.

  It goes on from `start`, or begins with a fresh one: LoRA, or without `lora`
  all parameters.

  Raises:
    ValueError: the adapter of `start` is not what `lora` says.
  """
  config = model.config

  def loss(compressor, params, batch, key):
    return compressor_loss(
      compressor,
      params,
      config,
      batch,
      key if compressor.dropout else None,
      remat,
      substep,
      language,
      naming,
      distillation,
      rarity,
      last,
    )

  if start is not None:
    check_same_lora(start, lora)
  else:
    start = init_compressor(model.params, config, lora, key)
  return Task(
    place_tree(config, start),
    model.params,
    loss,
    batches,
    rows_sharding(),
    positions,
  )


def positions(batch: dict) -> int:
  """Positions that a batch runs, summary tokens and vectors left out."""
  return batch['segments'].size + batch.get('tokens', np.empty(0)).size
