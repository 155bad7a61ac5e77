"""Finetuning of an adapter on questions behind contexts.

A row is one context with the questions about it, so a document's context
is read once a row; with one question a row it is the paper's layout (Tan et
al. 2024, section 3.2). The loss sees the answers alone.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import itertools

import grain
import jax
import jax.numpy as jnp
import numpy as np

from lloco_jax.data.batches import IGNORED, pack, packed_size
from lloco_jax.data.contexts import Context, context_bucket
from lloco_jax.data.examples import Example
from lloco_jax.data.prompts import Prompt, encode_example
from lloco_jax.finetuning.distillation import divergence
from lloco_jax.finetuning.loop import Task
from lloco_jax.finetuning.loss import cross_entropy, predicting_states
from lloco_jax.model import Model
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.llama import embed
from lloco_jax.nn.lora import Adapter
from lloco_jax.sharding import place_tree, rows_sharding

# As good as endless; grain cannot batch what has no end at all.
_EPOCHS = 2**31


@dataclasses.dataclass(frozen=True)
class Row:
  """Documents, and (prompt ids, answer ids) of questions about them.

  `example_ids` name the questions in errors.
  """

  document_ids: tuple[str, ...]
  questions: list[tuple[list[int], list[int]]]
  example_ids: tuple[str, ...]

  @property
  def longest(self) -> int:
    """Tokens of its longest question with the answer."""
    return max(len(prompt) + len(answer) for prompt, answer in self.questions)

  @property
  def longest_id(self) -> str:
    """The example whose question that is."""
    lengths = [len(prompt) + len(answer) for prompt, answer in self.questions]
    return self.example_ids[lengths.index(max(lengths))]

  def to_answer(self, new_tokens: int) -> 'Row':
    """The row as it is asked, with answers of so many tokens to come."""
    asked = [(prompt, [0] * new_tokens) for prompt, _ in self.questions]
    return dataclasses.replace(self, questions=asked)


def question_rows(
  examples: Sequence[Example],
  tokenizer,
  prompt: Prompt,
  questions_per_row: int,
) -> list[Row]:
  """Groups examples about the same documents, at most so many a row."""
  by_documents = {}
  for example in examples:
    pair = encode_example(tokenizer, prompt, example)
    pairs, ids = by_documents.setdefault(example.document_ids, ([], []))
    pairs.append(pair)
    ids.append(example.id)
  return [
    Row(
      document_ids,
      pairs[start : start + questions_per_row],
      tuple(ids[start : start + questions_per_row]),
    )
    for document_ids, (pairs, ids) in by_documents.items()
    for start in range(0, len(pairs), questions_per_row)
  ]


def check_questions(
  rows: Sequence[Row], config: LlamaConfig, window: int
) -> None:
  """Raises ValueError where rows cannot be learnt.

  That is where there are none, a question exceeds the window, or a token id is
  outside the vocabulary.
  """
  if not rows:
    raise ValueError('There are no training examples.')
  for row in rows:
    if row.longest > window:
      raise ValueError(
        f"The question of example '{row.longest_id}' takes {row.longest} "
        f'positions with its answer, more than the window of {window}; '
        'shorten it or leave it out.'
      )
    for name, pair in zip(row.example_ids, row.questions, strict=True):
      config.check_ids([*itertools.chain(*pair)], f"Example '{name}'")


def check_rows(
  rows: Sequence[Row], vectors: Mapping[str, int], window: int
) -> None:
  """Raises ValueError where summaries and a question exceed the window.

  `vectors` counts the summary vectors of each document. No context of
  finetuning is longer but the text itself, which is cut to the window.
  """
  for row in rows:
    context = sum(vectors[name] for name in row.document_ids)
    if context + row.longest > window:
      raise ValueError(
        f'The summaries of {", ".join(row.document_ids)} ({context} positions) '
        f"and the question of example '{row.longest_id}' ({row.longest}) "
        f'exceed the window of {window}; compress further or leave the '
        'document out.'
      )


def row_batches(
  rows: Sequence[Row],
  context_of: Callable[[tuple[str, ...], int], Context],
  batch_rows: int,
  seed: int,
  window: int,
  here: Sequence[int] | None = None,
  text_of: Callable[[tuple[str, ...], int], Context] | None = None,
) -> grain.IterDataset:
  """An endless dataset of batches, in another order each epoch.

  Packed rows are as wide as the widest of all; contexts are padded to
  `context_bucket`, so there are as many shapes as buckets.

  Args:
    rows: of the training split.
    context_of: makes or loads the context of documents, and leaves so many
      positions free for the questions.
    batch_rows: rows a microbatch.
    seed: of the order.
    window: positions of the base.
    here: which rows of a microbatch this process makes, by default all. The
      shape follows from all of them, in every process alike.
    text_of: gives the text that a teacher reads in the context's place.

  Returns:
    Batches of packed rows with `context_lengths` [B] and either `context`
    [B, C, D] or `context_ids` [B, C]; with `text_of` also `text_lengths` [B]
    and `text_ids` [B, T].
  """
  sizes = [packed_size(row.questions) for row in rows]
  width = max(size[0] for size in sizes)
  targets = max(size[1] for size in sizes)

  def padded(chosen, context_of):
    """Contexts of rows, those of this process, and their lengths."""
    contexts = [context_of(row.document_ids, row.longest) for row in chosen]
    slots = context_bucket(max(map(len, contexts)), window)
    mine = range(len(chosen)) if here is None else here
    contexts = [contexts[place] for place in mine]
    return contexts[0].is_text, *pad_contexts(contexts, slots)

  def collate(chosen):
    is_text, values, lengths = padded(chosen, context_of)
    name = 'context_ids' if is_text else 'context'
    batch = {'context_lengths': lengths, name: values}
    if text_of is not None:
      _, batch['text_ids'], batch['text_lengths'] = padded(chosen, text_of)
    mine = chosen if here is None else [chosen[place] for place in here]
    return {**pack([row.questions for row in mine], width, targets), **batch}

  return (
    grain.MapDataset.source(list(rows))
    .seed(seed)
    .shuffle()
    .repeat(_EPOCHS)
    .batch(batch_rows, batch_fn=collate)
    .to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
  )


def pad_contexts(contexts: Sequence[Context], slots: int):
  """Values [B, slots, ...] of contexts, and their lengths int32 [B]."""
  values = [
    np.pad(
      context.values,
      ((0, slots - len(context)),) + ((0, 0),) * (context.values.ndim - 1),
    )
    for context in contexts
  ]
  return np.stack(values), np.array([*map(len, contexts)], np.int32)


def positions(batch: dict) -> int:
  """Positions that a batch trains, contexts and padding included."""
  context = batch.get('context_ids', batch.get('context'))
  return batch['tokens'].size + context.shape[0] * context.shape[1]


def question_task(
  model: Model,
  adapter: Adapter,
  batches,
  remat: str = 'projections',
  teacher: Model | None = None,
  distillation: float = 0.0,
) -> Task:
  """The task of training `adapter` on batches of `row_batches`.

  Args:
    model: the base.
    adapter: to begin with.
    batches: with the text, where there is a teacher.
    remat: see nn/remat.py.
    teacher: reads the text itself; of the base's shape, with its head.
    distillation: weight of the divergence from what the teacher says of an
      answer's tokens; that of the answers themselves is the rest to 1.
  """
  config = model.config

  def loss(adapter, frozen, batch, key):
    params, taught_by = frozen if distillation else (frozen, None)
    dtype = params['norm']['scale'].dtype
    if 'context_ids' in batch:
      context = embed(params, batch['context_ids'])
    else:
      context = batch['context']
    hidden = predicting_states(
      params,
      config,
      batch,
      jnp.asarray(context, dtype),
      batch['context_lengths'],
      adapter,
      key if adapter.dropout else None,
      remat,
    )
    targets = batch['targets'].reshape(-1)
    total, count = cross_entropy(params, config, hidden, targets)
    if not distillation:
      return total, count
    taught = predicting_states(
      taught_by,
      teacher.config,
      batch,
      embed(taught_by, batch['text_ids']).astype(dtype),
      batch['text_lengths'],
    )
    apart, _ = divergence(
      params,
      config,
      hidden,
      jax.lax.stop_gradient(taught),
      targets != IGNORED,
    )
    return (1 - distillation) * total + distillation * apart, count

  return Task(
    place_tree(config, adapter),
    (model.params, teacher.params) if distillation else model.params,
    loss,
    batches,
    rows_sharding(),
    positions,
  )
