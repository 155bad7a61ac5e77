"""The evaluation: every system answers the questions of a split."""

import collections
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import datetime
import time

import numpy as np

from lloco_jax.data.contexts import Context, Contexts
from lloco_jax.data.documents import Document
from lloco_jax.data.examples import Example, check_examples
from lloco_jax.data.prompts import PLAIN, Prompt, encode_question
from lloco_jax.evaluation.answer_cache import AnswerCache
from lloco_jax.evaluation.comparison import Answer, SystemResult
from lloco_jax.evaluation.scoring import SCORES
from lloco_jax.evaluation.systems import System
from lloco_jax.generation.answering import (
  answer_questions,
  answer_text,
  check_room,
)
from lloco_jax.model import Model

# What fits every answer; an accuracy is of letters alone.
COMMON_METRICS = ('exact_match', 'f1')
_SECONDS_BETWEEN_LINES = 20


@dataclasses.dataclass(frozen=True, eq=False)
class _Group:
  """The examples about the same documents, and their prompts."""

  document_ids: tuple[str, ...]
  examples: list[Example]
  prompts: list[list[int]]

  @property
  def name(self) -> str:
    """How answers and errors call its documents."""
    return ' + '.join(self.document_ids)

  @property
  def longest(self) -> int:
    """Tokens of its longest prompt."""
    return max(len(prompt) for prompt in self.prompts)

  def positions(self, context: Context) -> int:
    """What a system runs for it, to tell the time left by."""
    return len(context) + sum(len(prompt) for prompt in self.prompts)


def evaluate(
  model: Model,
  examples: Sequence[Example],
  documents: Mapping[str, Document],
  summaries: Mapping[str, np.ndarray],
  systems: Sequence[System],
  prompt: Prompt = PLAIN,
  metrics: Mapping[str, Callable] | None = None,
  max_new_tokens: int = 16,
  progress: bool = True,
  base: Model | None = None,
  cache: AnswerCache | None = None,
) -> list[SystemResult]:
  """Answers of every system to the examples of a split, scored.

  Answers stand in the order of the sorted documents. Two systems that read
  the same with the same adapter are run once.

  Args:
    model: what was compressed and finetuned with, with its tokenizer.
    examples: of one split.
    documents: by id; those that no example asks about are not read.
    summaries: [n, D] by document id.
    systems: see evaluation/systems.py.
    prompt: as in finetuning.
    metrics: functions of a prediction and its references, by name;
      COMMON_METRICS by default.
    max_new_tokens: tokens an answer.
    progress: print a line a system, and the time left.
    base: of the systems on it, where the model is not the base itself.
    cache: where answers are kept as they come, and found again.

  Raises:
    ValueError: before any system runs, where a document is unknown, lacks
      summaries or, with its longest question, exceeds the window; or where
      a metric does not fit the references.
  """
  metrics = metrics or {name: SCORES[name] for name in COMMON_METRICS}
  if not examples:
    raise ValueError('There are no examples to evaluate; give some.')
  model.need_tokenizer()
  check_examples(examples, documents)
  for metric in metrics.values():
    for example in examples:
      metric('', example.answers)
  groups = _group(model, examples, prompt, max_new_tokens)
  plans = _plan(model, groups, documents, summaries, systems, max_new_tokens)
  # Finetuning ends answers with the tokenizer's token.
  ends = {*model.config.eos_token_ids, model.tokenizer.eos_id} - {None}
  stop = sorted(ends)
  clock = _Clock(plans, progress)
  cache = cache or AnswerCache()
  results = []
  for system, plan in zip(systems, plans):
    answers = []
    chosen = base if system.on_base and base is not None else model
    for group, context in plan:
      if context is not None:
        key = cache.key(
          chosen, system.adapter, context, group.prompts, max_new_tokens, stop
        )
        found = cache.find(key)
        if found is None:
          found = answer_questions(
            chosen,
            context,
            group.prompts,
            system.adapter,
            max_new_tokens,
            stop,
            f"document '{group.name}'",
          )
          cache.save(key, found)
        answers.append((group, context, found))
        clock.ran(system.name, group.positions(context))
    result = _score(model.tokenizer, system, answers, metrics)
    clock.finished(result, len(examples))
    results.append(result)
  return results


def _group(model, examples, prompt, max_new_tokens) -> list[_Group]:
  found = collections.defaultdict(list)
  for example in examples:
    found[example.document_ids].append(example)
  groups = []
  for document_ids in sorted(found):
    prompts = [
      encode_question(model.tokenizer, prompt, example.question)
      for example in found[document_ids]
    ]
    for example, ids in zip(found[document_ids], prompts):
      window = model.config.max_position_embeddings
      if len(ids) + max_new_tokens > window:
        raise ValueError(
          f"The question of example '{example.id}' takes {len(ids)} tokens; "
          f'with {max_new_tokens} new tokens that is more than the '
          f"model's {window} positions. Shorten it."
        )
    groups.append(_Group(document_ids, found[document_ids], prompts))
  return groups


def _plan(model, groups, documents, summaries, systems, max_new_tokens):
  """For every system, each group with its context."""
  read = sorted({key for group in groups for key in group.document_ids})
  window = model.config.max_position_embeddings
  # Of a single document the others are those that no question is about.
  among = read if len(read) > 1 else sorted(summaries)
  contexts = Contexts(
    [documents[key] for key in among], model.tokenizer, summaries, window
  )
  plans = []
  for system in systems:
    plan = []
    for group in groups:
      context = contexts.of(
        system.kind, group.document_ids, group.longest + max_new_tokens
      )
      if context is not None:
        check_room(
          model.config,
          len(context),
          group.longest,
          max_new_tokens,
          f"document '{group.name}'",
        )
      plan.append((group, context))
    plans.append(plan)
  return plans


def _score(tokenizer, system, answered, metrics) -> SystemResult:
  """The result of a system's (group, context, answers)."""
  answers, tokens_read, to_first, seconds = [], 0, 0.0, 0.0
  for group, context, new in answered:
    count = len(group.examples)
    tokens_read += count * len(context)
    to_first += count * new.seconds_to_first_token
    seconds += new.seconds
    for example, tokens in zip(group.examples, new.tokens):
      prediction = answer_text(tokenizer, tokens)
      answers.append(
        Answer(
          example.id,
          group.name,
          example.question,
          prediction,
          example.answers,
          {
            name: float(metric(prediction, example.answers))
            for name, metric in metrics.items()
          },
          example.tags,
        )
      )
  if not answers:
    return SystemResult(system.name, system.description, ())
  count = len(answers)
  return SystemResult(
    system.name,
    system.description,
    tuple(answers),
    tokens_read / count,
    to_first / count,
    seconds / count,
  )


class _Clock:
  """Prints how far an evaluation is, by the positions it has run."""

  def __init__(self, plans, shown: bool):
    self.shown = shown
    self.done = 0
    self.total = sum(
      group.positions(context)
      for plan in plans
      for group, context in plan
      if context is not None
    )
    self.start = self.started = self.printed = time.monotonic()

  def ran(self, name: str, positions: int) -> None:
    self.done += positions
    if time.monotonic() - self.printed > _SECONDS_BETWEEN_LINES:
      self._print(f'{name} is answering')

  def finished(self, result: SystemResult, examples: int) -> None:
    seconds = time.monotonic() - self.started
    self.started = time.monotonic()
    line = f'{result.name}: {len(result.answers)} answers in {seconds:.1f} s'
    skipped = examples - len(result.answers)
    if skipped:
      line += (
        f', {skipped} questions skipped, whose documents do not fit the window'
      )
    self._print(line)

  def _print(self, line):
    self.printed = time.monotonic()
    elapsed = self.printed - self.start
    left = elapsed * (self.total - self.done) / max(self.done, 1)
    if self.shown:
      print(
        f'{line}; {datetime.timedelta(seconds=round(left))} left', flush=True
      )
