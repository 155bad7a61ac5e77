"""The two files of an evaluation: results.json and predictions.jsonl.

`results.json` holds one entry a system and the paired differences of the main
system to the others; `predictions.jsonl` holds one line an answer and
system. Scores are from 0 to 1, times in seconds; null is what is unknown.
"""

import collections
from collections.abc import Sequence
import dataclasses
import hashlib
import json
import math
import os
import pathlib

from lloco_jax.evaluation.comparison import (
  COSTS,
  Answer,
  Results,
  SystemResult,
  compare_systems,
  mean_scores,
)
from lloco_jax.evaluation.intervals import Interval
from lloco_jax.files import write_file

RESULTS_FILE = 'results.json'
PREDICTIONS_FILE = 'predictions.jsonl'
_FORMAT = 2
# Answers of the first had no tags.
_READABLE = (1, 2)


def write_results(
  folder: str | os.PathLike,
  systems: Sequence[SystemResult],
  metric: str,
  controls: Sequence[str],
  main_system: str = 'LLoCO',
  samples: int = 10_000,
  seed: int = 0,
  level: float = 0.95,
  tokens_per_vector: float | None = None,
  data: str = '',
) -> Results:
  """Compares the systems and writes both files, each whole or not at all.

  `data` says what was asked, and from which files it is.

  Raises:
    ValueError: as `compare_systems`; nothing is written then.
  """
  results = compare_systems(
    systems, metric, controls, main_system, samples, seed, level,
    tokens_per_vector,
  )  # fmt: skip
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  predictions = _encode_predictions(results.systems)
  # The answers go first: a kill in between leaves the old results.json,
  # whose hash tells that these answers are not its own.
  write_file(folder / PREDICTIONS_FILE, predictions)
  digest = hashlib.sha256(predictions).hexdigest()
  document = _encode_results(results, data, digest)
  write_file(folder / RESULTS_FILE, document)
  return results


def read_results(folder: str | os.PathLike) -> Results:
  """Reads what `write_results` wrote.

  Raises:
    FileNotFoundError: one of the two files is missing.
    ValueError: one of them is damaged, or they are of two evaluations.
  """
  folder = pathlib.Path(folder)
  stored = _read_file(folder / RESULTS_FILE)
  predictions = _read_file(folder / PREDICTIONS_FILE)
  try:
    fields = json.loads(stored)
    if fields['format'] not in _READABLE:
      raise ValueError(
        f'format {fields["format"]}; this version reads '
        f'{" and ".join(map(str, _READABLE))}'
      )
    digest = fields['predictions']['sha256']
  except (ValueError, KeyError, TypeError) as error:
    raise _damaged(folder / RESULTS_FILE, error) from error
  if hashlib.sha256(predictions).hexdigest() != digest:
    raise ValueError(
      f'{folder / PREDICTIONS_FILE} is not what {RESULTS_FILE} beside it was '
      'made from (cut off, edited or from another evaluation); run the '
      'evaluation again.'
    )
  try:
    return _decode_results(fields, _decode_predictions(predictions))
  except (ValueError, KeyError, TypeError) as error:
    raise _damaged(folder / RESULTS_FILE, error) from error


def _encode_predictions(systems):
  lines = [
    json.dumps(
      {'system': system.name, **_answer_fields(answer)},
      ensure_ascii=False,
      default=float,
    )
    for system in systems
    for answer in system.answers
  ]
  # A lone surrogate cannot be UTF-8, but its backslash form is valid JSON.
  return ''.join(line + '\n' for line in lines).encode(
    'utf-8', 'backslashreplace'
  )


def _answer_fields(answer):
  """With the one name, or all, of an example's documents, as in its file."""
  fields = dataclasses.asdict(answer)
  if len(answer.document_ids) > 1:
    return fields
  return {
    name.removesuffix('s') if name == 'document_ids' else name: value
    for name, value in (fields | {'document_ids': answer.document}).items()
  }


def _decode_predictions(content):
  answers = collections.defaultdict(list)
  for line in content.decode('utf-8').split('\n')[:-1]:
    fields = json.loads(line)
    name = fields.pop('system')
    if 'document_id' in fields:
      fields['document_ids'] = (fields.pop('document_id'),)
    fields['document_ids'] = tuple(fields['document_ids'])
    fields['references'] = tuple(fields['references'])
    fields['tags'] = tuple(fields.get('tags', ()))
    answers[name].append(Answer(**fields))
  return answers


def _encode_results(results, data, predictions_digest):
  systems = [
    {
      'name': system.name,
      'description': system.description,
      'metric': results.metric,
      'score': _number(results.scores[system.name].mean),
      **_spread(results.scores[system.name]),
      **{cost: getattr(system, cost) for cost in COSTS},
      'all_scores': mean_scores(system),
    }
    for system in results.systems
  ]
  differences = [
    {
      'system': results.main_system,
      'control': name,
      'metric': results.metric,
      'difference': _number(difference.mean),
      **_spread(difference),
    }
    for name, difference in results.differences.items()
  ]
  fields = {
    'format': _FORMAT,
    **({'data': data} if data else {}),
    'metric': results.metric,
    'main_system': results.main_system,
    'controls': list(results.controls),
    'bootstrap': {
      'over': 'documents',
      'samples': results.samples,
      'seed': results.seed,
      'level': results.level,
    },
    'tokens_per_vector': results.tokens_per_vector,
    'systems': systems,
    'differences': differences,
    'predictions': {'file': PREDICTIONS_FILE, 'sha256': predictions_digest},
  }
  text = json.dumps(
    fields, indent=2, ensure_ascii=False, allow_nan=False, default=float
  )
  return (text + '\n').encode('utf-8', 'backslashreplace')


def _decode_results(fields, answers):
  return Results(
    metric=fields['metric'],
    main_system=fields['main_system'],
    controls=tuple(fields['controls']),
    systems=tuple(
      SystemResult(
        name=system['name'],
        description=system['description'],
        answers=tuple(answers[system['name']]),
        **{cost: system[cost] for cost in COSTS},
      )
      for system in fields['systems']
    ),
    scores={
      system['name']: _interval(system, 'score') for system in fields['systems']
    },
    differences={
      entry['control']: _interval(entry, 'difference')
      for entry in fields['differences']
    },
    samples=fields['bootstrap']['samples'],
    seed=fields['bootstrap']['seed'],
    level=fields['bootstrap']['level'],
    tokens_per_vector=fields.get('tokens_per_vector'),
  )


def _spread(interval):
  return {
    'interval': [_number(interval.low), _number(interval.high)],
    'count': interval.count,
    'documents': interval.clusters,
  }


def _interval(fields, mean):
  low, high = fields['interval']
  return Interval(
    mean=_from_number(fields[mean]),
    low=_from_number(low),
    high=_from_number(high),
    count=fields['count'],
    clusters=fields['documents'],
  )


def _number(value):
  # JSON has no NaN.
  return value if math.isfinite(value) else None


def _from_number(value):
  return math.nan if value is None else float(value)


def _read_file(path):
  try:
    return path.read_bytes()
  except FileNotFoundError:
    raise FileNotFoundError(
      f'{path} is missing; run the evaluation, which writes it.'
    ) from None


def _damaged(path, error):
  return ValueError(f'{path} is damaged ({error}); run the evaluation again.')
