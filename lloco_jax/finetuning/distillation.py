"""Distillation: the base that reads the text itself teaches the compressor.

What the compressor says of a token behind summary vectors should be what the
base says of it behind all that these vectors stand for. The teacher runs in
the same program on the same rows, so its whole distribution is matched, and
nothing is stored.
"""

import jax
import jax.numpy as jnp

from lloco_jax.finetuning.loss import sum_in_chunks
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.llama import Positions, embed, hidden_states, logits
from lloco_jax.nn.visibility import UNSEEN


def states_of_whole_text(
  params: dict, config: LlamaConfig, segments, lengths
) -> jax.Array:
  """Hidden states [B, S, T, D] of the base, constants, behind all text.

  Args:
    params: base parameters.
    config: the base's config.
    segments: [B, S, T] token ids of rows that are read as one text.
    lengths: [B, S] tokens of each segment that count.
  """
  batch, count, width = segments.shape
  column = jnp.arange(width)
  before = jnp.cumsum(lengths, axis=1) - lengths
  query = before[..., None] + column
  key = jnp.where(column < lengths[..., None], query, UNSEEN)
  shape = (batch, count * width)
  positions = Positions(
    query.reshape(shape).astype(jnp.int32), key.reshape(shape).astype(jnp.int32)
  )
  dtype = params['norm']['scale'].dtype
  embeddings = embed(params, segments.reshape(shape)).astype(dtype)
  hidden, _ = hidden_states(params, config, embeddings, positions, kept=0)
  hidden = jax.lax.stop_gradient(hidden)
  return hidden.reshape(batch, count, width, -1)


def divergence(
  params: dict,
  config: LlamaConfig,
  hidden,
  taught,
  counted,
  chunk: int = 1024,
):
  """Summed Kullback-Leibler divergence of the teacher from the student.

  Args:
    params: base parameters, for the head.
    config: the base's config.
    hidden: [..., D] states of the student.
    taught: [..., D] states of the teacher, in the same places.
    counted: [...] which places count.
    chunk: rows at a time.

  Returns:
    The sum in nats over what is counted, and its number.
  """
  wide = jnp.promote_types(hidden.dtype, jnp.float32)

  def losses(part):
    student, teacher, counted = part
    student, teacher = (
      jax.nn.log_softmax(logits(params, config, rows).astype(wide))
      for rows in (student, teacher)
    )
    apart = jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1)
    return jnp.where(counted, apart, 0)

  features = hidden.shape[-1]
  rows = (
    hidden.reshape(-1, features),
    taught.reshape(-1, features),
    counted.reshape(-1),
  )
  total = sum_in_chunks(losses, rows, chunk, wide)
  return total, jnp.sum(counted).astype(wide)
