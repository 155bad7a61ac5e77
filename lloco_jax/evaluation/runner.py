"""The evaluation: every system answers the questions of a split."""

from collections.abc import Callable, Mapping, Sequence
import functools
import time
import zlib

import numpy as np

from lloco_jax.data.batches import round_up
from lloco_jax.data.documents import Document
from lloco_jax.data.examples import Example, check_examples
from lloco_jax.data.prompts import PLAIN, Prompt
from lloco_jax.evaluation.answer_cache import AnswerCache
from lloco_jax.evaluation.comparison import Answer, SystemResult
from lloco_jax.evaluation.plans import group_examples, make_plans
from lloco_jax.evaluation.scoring import SCORES
from lloco_jax.evaluation.systems import System
from lloco_jax.generation.answering import (
  QUESTION_BUCKETS,
  Asked,
  answer_all,
  answer_text,
  whole_text,
)
from lloco_jax.generation.sampling import GREEDY, Sampling
from lloco_jax.model import Model
from lloco_jax.nn.placement import parts_in_use
from lloco_jax.progress import Progress

# What fits every answer; an accuracy is of letters alone.
COMMON_METRICS = ('exact_match', 'f1')


def check_metrics(
  metrics: Mapping[str, Callable], examples: Sequence[Example]
) -> None:
  """Raises ValueError where a metric does not fit an example's references."""
  for metric in metrics.values():
    for example in examples:
      metric('', example.answers)


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
  sampling: Sampling = GREEDY,
  questions_per_row: int = QUESTION_BUCKETS[-1],
  rows: int = 1,
  first_line: bool = True,
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
    base: of the systems on it, where the model is not the base itself; it may
      have a tokenizer of its own.
    cache: where answers are kept as they come, and found again.
    sampling: how tokens are chosen; the random choices of an example are its
      own, whatever is asked beside it.
    questions_per_row: questions about a document answered at a time.
    rows: so many at a time, or the next number that a mesh's data axes divide.
    first_line: the first line of an answer is scored, in place of all.

  Raises:
    ValueError: before any system runs, where a document is unknown, lacks
      summaries or, with its longest question, exceeds the window; or where
      a metric does not fit the references.
    ImportError: a package that a search needs is not installed.
  """
  metrics = metrics or {name: SCORES[name] for name in COMMON_METRICS}
  if not examples:
    raise ValueError('There are no examples to evaluate; give some.')
  base = model if base is None else base
  for each in (model, base):
    each.need_tokenizer()
  check_examples(examples, documents)
  check_metrics(metrics, examples)
  models = [base if system.on_base else model for system in systems]
  asked = [
    (system.on_base and base is not model, system.prompt(prompt))
    for system in systems
  ]
  groups = {
    (on_base, each): group_examples(
      base if on_base else model, examples, each, max_new_tokens
    )
    for on_base, each in dict.fromkeys([(False, prompt), *asked])
  }
  plans = make_plans(
    models,
    [groups[each] for each in asked],
    documents,
    summaries,
    systems,
    max_new_tokens,
  )
  ids = [
    example.id for group in groups[False, prompt] for example in group.examples
  ]
  order = {key: place for place, key in enumerate(ids)}
  meter = Progress(_positions(plans), 'positions', shown=progress)
  cache = cache or AnswerCache()
  read_answer = answer_text if first_line else whole_text
  results = []
  for system, chosen, plan in zip(systems, models, plans):
    answers, began, again = [], time.monotonic(), 0
    stop = list(chosen.stop_tokens)
    unknown = []
    for group, context in plan:
      if context is None:
        continue
      draws = [_draw(example) for example in group.examples]
      settings = [max_new_tokens, stop]
      if sampling.temperature:
        settings += [sampling, draws]
      key = cache.key(chosen, system.adapter, context, group.prompts, *settings)
      found = cache.find(key)
      answers.append((group, context, found))
      if found is None:
        name = f"document '{group.name}'"
        asked = Asked(context, group.prompts, name, draws)
        unknown.append((len(answers) - 1, key, asked))
      else:
        again += len(found.tokens)
        meter.drop(group.positions(context))
    # Rows of about one length together; what may not fit the memory first.
    unknown.sort(key=lambda each: -len(each[2].context))
    at_a_time = round_up(rows, parts_in_use('batch'))
    for start in range(0, len(unknown), at_a_time):
      places, keys, asked = zip(*unknown[start : start + at_a_time])
      new = answer_all(
        chosen, asked, system.adapter, max_new_tokens, stop, sampling,
        questions_per_row, rows,
      )  # fmt: skip
      for place, key, found in zip(places, keys, new):
        group, context, _ = answers[place]
        answers[place] = (group, context, found)
        cache.save(key, found)
        meter.add(group.positions(context))
      meter.tell(f'{system.name}: answering')
    result = _score(
      functools.partial(read_answer, chosen.tokenizer),
      system,
      answers,
      metrics,
      order,
    )
    if progress:
      seconds = time.monotonic() - began
      print(_told(result, len(examples), again, seconds), flush=True)
    results.append(result)
  return results


def _positions(plans) -> int:
  """Positions that plans run, as a measure of their work."""
  return sum(
    group.positions(context)
    for plan in plans
    for group, context in plan
    if context is not None
  )


def _told(result: SystemResult, examples: int, again: int, seconds) -> str:
  """The line of a system that has answered."""
  line = f'{result.name}: {len(result.answers)} answers in {seconds:.1f} s'
  if again:
    line += f', {again} of them to prompts answered before'
  skipped = examples - len(result.answers)
  if skipped:
    line += (
      f', {skipped} questions skipped, whose documents do not fit the window'
    )
  return line


def _draw(example: Example) -> int:
  """What makes an example's random choices its own."""
  return zlib.crc32(example.id.encode('utf-8', 'surrogatepass'))


def _score(text_of, system, answered, metrics, order) -> SystemResult:
  """The result of a system's (group, context, answers)."""
  answers, tokens_read, to_first, seconds = [], 0, 0.0, 0.0
  known = all(new.seconds is not None for _, _, new in answered)
  for group, context, new in answered:
    count = len(group.examples)
    tokens_read += count * len(context)
    if known:
      to_first += count * new.seconds_to_first_token
      seconds += new.seconds
    for example, tokens in zip(group.examples, new.tokens):
      prediction = text_of(tokens)
      if system.on_base:
        # The paper's code does so with its baselines, and with LLoCO's not.
        prediction = prediction.strip()
      answers.append(
        Answer(
          example.id,
          group.document_ids,
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
  answers.sort(key=lambda answer: order[answer.example_id])
  count = len(answers)
  return SystemResult(
    system.name,
    system.description,
    tuple(answers),
    tokens_read / count,
    to_first / count if known else None,
    seconds / count if known else None,
  )
