"""Answers to all questions about a document, read once.

Lengths are padded to a few buckets, so that an evaluation compiles few
programs; padding changes no answer.
"""

from collections.abc import Sequence
import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np

from lloco_jax.data.batches import round_up
from lloco_jax.data.contexts import Context, context_bucket
from lloco_jax.generation.decoding import decode_in_place, prefill
from lloco_jax.generation.sampling import GREEDY, Sampling
from lloco_jax.model import Model
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.llama import embed, unstack_layers
from lloco_jax.nn.lora import Adapter

QUESTION_BUCKETS = (4, 8, 16, 24, 32, 48, 64)
WIDTH_MULTIPLE = 32


@dataclasses.dataclass(frozen=True)
class Answers:
  """New tokens of each prompt, up to a stop token, and what they took.

  `seconds_to_first_token` is the prefill of a row, all its prompts included;
  `seconds` is everything, for all prompts. Compilation is not counted.
  """

  tokens: list[list[int]]
  seconds_to_first_token: float
  seconds: float


def answer_questions(
  model: Model,
  context: Context,
  prompts: Sequence[Sequence[int]],
  adapter: Adapter | None = None,
  max_new_tokens: int = 16,
  stop_tokens: Sequence[int] | None = None,
  name: str = 'the document',
  sampling: Sampling = GREEDY,
  draws: Sequence[int] | None = None,
) -> Answers:
  """Answers to prompts behind one context.

  The prompts are packed behind one copy of the context, at most 64 a row:
  only a document with more questions is read more than once.

  Args:
    model: the base.
    context: of all prompts.
    prompts: token ids of each question.
    adapter: of the document's group.
    max_new_tokens: tokens an answer.
    stop_tokens: ids that end an answer; the checkpoint's EOS by default.
    name: what the context is of, for errors.
    sampling: how tokens are chosen, greedily by default.
    draws: a number below 2**32 a prompt, which makes its random choices its
      own: they are the same whatever is asked beside it. Its place by default.

  Raises:
    ValueError: there are no prompts, one is empty, or context, prompt and
      new tokens exceed the model's window.
  """
  config = model.config
  if not prompts or not all(prompts):
    raise ValueError(f'A prompt about {name} is empty, or there is none.')
  if max_new_tokens < 1:
    raise ValueError(f'max_new_tokens is {max_new_tokens}; it must be >= 1.')
  longest = max(len(prompt) for prompt in prompts)
  check_room(config, len(context), longest, max_new_tokens, name)
  if stop_tokens is None:
    stop_tokens = config.eos_token_ids
  stop = tuple(sorted({int(token) for token in stop_tokens}))
  embedded = _embed(model, context)
  unstacked = adapter
  if adapter is not None:
    unstacked = adapter.replace(weights=unstack_layers(adapter.weights))
  draws = np.asarray(range(len(prompts)) if draws is None else draws, np.uint32)
  key = jax.random.key(sampling.seed)
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, draws)
  tokens, first_seconds, seconds = [], [], []
  for start in range(0, len(prompts), QUESTION_BUCKETS[-1]):
    chunk = prompts[start : start + QUESTION_BUCKETS[-1]]
    rows, to_first, total = _answer_row(
      model, embedded, len(context), chunk, adapter, unstacked, max_new_tokens,
      stop, sampling, keys[start : start + len(chunk)],
    )  # fmt: skip
    tokens += [_until(row, stop) for row in rows]
    first_seconds.append(to_first)
    seconds.append(total)
  return Answers(tokens, float(np.mean(first_seconds)), sum(seconds))


def answer_text(tokenizer, tokens: Sequence[int]) -> str:
  """The first line of an answer that is not empty, without space around."""
  lines = tokenizer.decode(tokens).strip().splitlines()
  return lines[0].strip() if lines else ''


def check_room(
  config: LlamaConfig, context: int, prompt: int, new: int, name: str
) -> None:
  """Raises ValueError when a context and a prompt exceed the window."""
  window = config.max_position_embeddings
  needed = context + prompt + new
  if needed > window:
    raise ValueError(
      f'The context of {name} ({context} positions), a question ({prompt}) '
      f'and {new} new tokens take {needed} positions; the model has {window}. '
      'Shorten the context or compress it further.'
    )


def _embed(model, context):
  """The context [1, C, D] in the model's dtype, padded to its bucket."""
  window = model.config.max_position_embeddings
  padding = context_bucket(len(context), window) - len(context)
  dtype = model.params['norm']['scale'].dtype
  if context.is_text:
    tokens = jnp.asarray(np.pad(context.values, (0, padding)))
    return embed(model.params, tokens)[None].astype(dtype)
  return jnp.asarray(
    np.pad(context.values, ((0, padding), (0, 0)))[None], dtype
  )


def _answer_row(
  model, context, context_length, prompts, adapter, unstacked, steps, stop,
  sampling, keys,
):  # fmt: skip
  """New tokens [Q, steps] of a row's prompts; seconds to first and in all."""
  count = next(size for size in QUESTION_BUCKETS if size >= len(prompts))
  # A copy of the first question ends when that does; an empty one might not.
  places = [*range(len(prompts)), *[0] * (count - len(prompts))]
  filled = [prompts[place] for place in places]
  width = round_up(max(len(prompt) for prompt in prompts), WIDTH_MULTIPLE)
  ids = np.zeros((1, count, width), np.int32)
  for index, prompt in enumerate(filled):
    ids[0, index, : len(prompt)] = prompt
  lengths = np.array([[len(prompt) for prompt in filled]], np.int32)
  context_lengths = np.array([context_length], np.int32)

  reading = (
    model.params, model.config, context, context_lengths, ids, lengths,
    adapter, None, count * (steps - 1),
  )  # fmt: skip
  (first, cache), to_first = _timed(prefill, *reading)
  writing = (
    model.unstacked_params, model.config, first, cache,
    context_lengths[:, None] + lengths, unstacked, None,
    keys[np.array(places)][None], steps, sampling.temperature, sampling.top_p,
    stop,
  )  # fmt: skip
  (tokens, _), decoding = _timed(decode_in_place, *writing)
  return np.asarray(tokens[0, : len(prompts)]), to_first, to_first + decoding


def _timed(function, *arguments):
  """The result of a jitted function, and the seconds it ran for.

  It is compiled before the clock starts; the call that follows finds the
  program made.
  """
  function.lower(*arguments).compile()
  jax.block_until_ready(arguments)
  start = time.perf_counter()
  result = jax.block_until_ready(function(*arguments))
  return result, time.perf_counter() - start


def _until(tokens, stop):
  """The tokens before the first stop token."""
  tokens = [int(token) for token in tokens]
  ends = [index for index, token in enumerate(tokens) if token in stop]
  return tokens[: ends[0]] if ends else tokens
