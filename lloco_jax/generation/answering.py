"""Answers to all questions about a document, read once.

Lengths are padded to a few buckets, so that an evaluation compiles few
programs; padding changes no answer.
"""

from collections.abc import Iterable, Sequence
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
from lloco_jax.nn.llama import embed
from lloco_jax.nn.lora import Adapter
from lloco_jax.nn.placement import parts_in_use
from lloco_jax.sharding import place_rows, to_host

QUESTION_BUCKETS = (4, 8, 16, 24, 32, 48, 64)
WIDTH_MULTIPLE = 32


@dataclasses.dataclass(frozen=True)
class Answers:
  """New tokens of each prompt, up to a stop token, and what they took.

  `seconds_to_first_token` is the prefill of a row, all its prompts and the rows
  beside it included; `seconds` is everything, for all prompts: its share, where
  several rows ran at a time. Compilation is not counted. None where it is not
  known.
  """

  tokens: list[list[int]]
  seconds_to_first_token: float | None
  seconds: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
  """Prompts behind one context.

  `name` says what the context is of, for errors. `draws` is a number below
  2**32 a prompt, which makes its random choices its own: they are the same
  whatever is asked beside it. Its place by default.
  """

  context: Context
  prompts: Sequence[Sequence[int]]
  name: str = 'the document'
  draws: Sequence[int] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class _Row:
  """What one row of a batch reads: some prompts of one `Asked`."""

  place: int
  context: Context
  prompts: Sequence[Sequence[int]]
  draws: Sequence[int]


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
  """Answers to prompts behind one context; see `Asked` and `answer_all`."""
  (answers,) = answer_all(
    model,
    [Asked(context, prompts, name, draws)],
    adapter,
    max_new_tokens,
    stop_tokens,
    sampling,
  )
  return answers


def answer_all(
  model: Model,
  asked: Sequence[Asked],
  adapter: Adapter | None = None,
  max_new_tokens: int = 16,
  stop_tokens: Sequence[int] | None = None,
  sampling: Sampling = GREEDY,
  questions_per_row: int = QUESTION_BUCKETS[-1],
  rows_at_a_time: int = 1,
) -> list[Answers]:
  """Answers to prompts behind contexts.

  The prompts of a context are packed behind one copy of it: only a document
  with more than fit a row is read more than once.

  Args:
    model: the base.
    asked: contexts, all of text or all of vectors, and their prompts.
    adapter: of the documents' group.
    max_new_tokens: tokens an answer.
    stop_tokens: ids that end an answer; the model's by default.
    sampling: how tokens are chosen, greedily by default.
    questions_per_row: prompts a row at most, up to 64.
    rows_at_a_time: rows that run together, whose caches share the memory; on
      a mesh the next number that its data axes divide.

  Raises:
    ValueError: there are no prompts, one is empty, a token id is outside the
      vocabulary, or context, prompt and new tokens exceed the model's window.
  """
  for name, number in (
    ('max_new_tokens', max_new_tokens),
    ('questions_per_row', questions_per_row),
    ('rows_at_a_time', rows_at_a_time),
  ):
    if number < 1:
      raise ValueError(f'{name} is {number}; it must be >= 1.')
  for each in asked:
    if not each.prompts or not all(each.prompts):
      raise ValueError(
        f'A prompt about {each.name} is empty, or there is none.'
      )
    longest = max(len(prompt) for prompt in each.prompts)
    check_room(
      model.window, len(each.context), longest, max_new_tokens, each.name
    )
    check_tokens(model.config, each.context, each.prompts, each.name)
  if stop_tokens is None:
    stop_tokens = model.stop_tokens
  stop = tuple(sorted({int(token) for token in stop_tokens}))
  decoding = model.for_decoding(adapter)
  rows = _rows(asked, min(questions_per_row, QUESTION_BUCKETS[-1]))
  at_a_time = round_up(rows_at_a_time, parts_in_use('batch'))
  tokens, first_seconds, seconds = ([[] for _ in asked] for _ in range(3))
  for start in range(0, len(rows), at_a_time):
    chunk = rows[start : start + at_a_time]
    # A single row is on every device; of more, all data axes have theirs.
    missing = at_a_time - len(chunk) if len(rows) > 1 else 0
    found, to_first, total = _answer_rows(
      model, [*chunk, *chunk[:1] * missing], adapter, decoding,
      max_new_tokens, stop, sampling,
    )  # fmt: skip
    for row, answers in zip(chunk, found):
      answers = answers[: len(row.prompts)]
      tokens[row.place] += [_until(answer, stop) for answer in answers]
      first_seconds[row.place].append(to_first)
      seconds[row.place].append(total / len(chunk))
  return [
    Answers(new, float(np.mean(to_first)), sum(total))
    for new, to_first, total in zip(tokens, first_seconds, seconds)
  ]


def _rows(asked: Sequence[Asked], most: int) -> list[_Row]:
  rows = []
  for place, each in enumerate(asked):
    draws = range(len(each.prompts)) if each.draws is None else each.draws
    rows += [
      _Row(
        place,
        each.context,
        each.prompts[start : start + most],
        draws[start : start + most],
      )
      for start in range(0, len(each.prompts), most)
    ]
  return rows


def answer_text(tokenizer, tokens: Sequence[int]) -> str:
  """The first line of an answer that is not empty, without space around."""
  lines = tokenizer.decode(tokens).strip().splitlines()
  return lines[0].strip() if lines else ''


def whole_text(tokenizer, tokens: Sequence[int]) -> str:
  """All of an answer, with the space around it, as the paper's code has it."""
  return tokenizer.decode(tokens)


def check_room(
  window: int, context: int, prompt: int, new: int, name: str
) -> None:
  """Raises ValueError when a context and a prompt exceed the window."""
  needed = context + prompt + new
  if needed > window:
    raise ValueError(
      f'The context of {name} ({context} positions), a question ({prompt}) '
      f'and {new} new tokens take {needed} positions; the model has {window}. '
      'Shorten the context or compress it further.'
    )


def check_tokens(
  config: LlamaConfig,
  context: Context,
  prompts: Iterable[Sequence[int]],
  name: str,
) -> None:
  """Raises ValueError where a token id is outside the vocabulary."""
  if context.is_text:
    config.check_ids(context.values, f'The context of {name}')
  for prompt in prompts:
    config.check_ids(prompt, f'A prompt about {name}')


def embed_contexts(model: Model, contexts: Sequence[Context]) -> jax.Array:
  """Contexts [B, C, D] in the model's dtype, padded to a bucket."""
  window = model.window
  slots = context_bucket(max(map(len, contexts)), window)
  dtype = model.params['norm']['scale'].dtype
  values = np.stack(
    [
      np.pad(
        each.values,
        ((0, slots - len(each)),) + ((0, 0),) * (each.values.ndim - 1),
      )
      for each in contexts
    ]
  )
  if contexts[0].is_text:
    return embed(model.params, place_rows(values)).astype(dtype)
  return place_rows(jnp.asarray(values, dtype))


def _answer_rows(model, rows, adapter, decoding, steps, stop, sampling):
  """New tokens [B, Q, steps] of rows; seconds to the first and in all."""
  most = max(len(row.prompts) for row in rows)
  count = next(size for size in QUESTION_BUCKETS if size >= most)
  longest = max(len(prompt) for row in rows for prompt in row.prompts)
  width = round_up(longest, WIDTH_MULTIPLE)
  ids = np.zeros((len(rows), count, width), np.int32)
  lengths = np.zeros((len(rows), count), np.int32)
  draws = np.zeros((len(rows), count), np.uint32)
  for index, row in enumerate(rows):
    for place in range(count):
      # A copy of the first question ends when that does; an empty one might
      # not.
      which = place if place < len(row.prompts) else 0
      prompt = row.prompts[which]
      ids[index, place, : len(prompt)] = prompt
      lengths[index, place] = len(prompt)
      draws[index, place] = row.draws[which]
  context_lengths = np.array([len(row.context) for row in rows], np.int32)
  ids, lengths, draws, context_lengths = map(
    place_rows, (ids, lengths, draws, context_lengths)
  )
  keys = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (None, 0))(
    sampling.key, draws
  )
  context = embed_contexts(model, [row.context for row in rows])

  reading = (
    model.params, model.config, context, context_lengths, ids, lengths,
    adapter, None, count * (steps - 1), model.decodes_stacked,
  )  # fmt: skip
  (first, cache), to_first = _timed(prefill, *reading)
  params, adapter = decoding
  writing = (
    params, model.config, first, cache,
    context_lengths[:, None] + lengths, adapter, None, keys, steps,
    sampling.temperature, sampling.top_p, stop,
  )  # fmt: skip
  (tokens, _), seconds = _timed(decode_in_place, *writing)
  return to_host(tokens), to_first, to_first + seconds


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
