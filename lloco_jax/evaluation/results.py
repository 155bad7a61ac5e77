"""What an evaluation found: answers, scores, costs, and their two files.

`results.json` holds one entry a system and the paired differences of the main
system against each control; `predictions.jsonl` holds one line an answer and
system. Scores are from 0 to 1.
"""

from collections.abc import Sequence
import collections
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import tempfile

from lloco_jax.evaluation import intervals
from lloco_jax.evaluation.intervals import Interval

RESULTS_FILE = 'results.json'
PREDICTIONS_FILE = 'predictions.jsonl'
COSTS = ('tokens_read', 'seconds_to_first_token', 'seconds_per_answer')
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Answer:
  """One system's answer to one example; `scores` by the metric's name.

  `document_id` is the document the question is about, whatever the system
  read: intervals resample by it.
  """

  example_id: str
  document_id: str
  question: str
  prediction: str
  references: tuple[str, ...]
  scores: dict[str, float]


@dataclasses.dataclass(frozen=True)
class SystemResult:
  """All answers of one system and what one answer cost, on average.

  `tokens_read` counts the context alone, in tokens or summary vectors; the
  two times are in seconds. None where it was not measured.
  """

  name: str
  description: str
  answers: tuple[Answer, ...]
  tokens_read: float | None = None
  seconds_to_first_token: float | None = None
  seconds_per_answer: float | None = None


@dataclasses.dataclass(frozen=True)
class Results:
  """Systems side by side on one metric.

  `scores` has an interval for each system's name, `differences` one for each
  control: the main system's score less the control's over the questions that
  both answered.
  """

  metric: str
  main_system: str
  controls: tuple[str, ...]
  systems: tuple[SystemResult, ...]
  scores: dict[str, Interval]
  differences: dict[str, Interval]
  samples: int
  seed: int
  level: float


def compare_systems(
  systems: Sequence[SystemResult],
  metric: str,
  controls: Sequence[str],
  main_system: str = 'LLoCO',
  samples: int = 10_000,
  seed: int = 0,
  level: float = 0.95,
) -> Results:
  """Scores every system and pairs the main one with each control.

  A system without answers (nothing fitted its window) is kept, unscored.

  Raises:
    ValueError: systems, examples or scores that cannot be compared.
  """
  _check_systems(systems, metric, controls, main_system)
  bootstrap = dict(samples=samples, seed=seed, level=level)
  by_name = {system.name: system for system in systems}
  return Results(
    metric=metric,
    main_system=main_system,
    controls=tuple(controls),
    systems=tuple(systems),
    scores={
      system.name: _score(system, metric, bootstrap) for system in systems
    },
    differences={
      name: _difference(
        by_name[main_system], by_name[name], metric, bootstrap
      )
      for name in controls
    },
    **bootstrap,
  )


def write_results(
  folder: str | os.PathLike,
  systems: Sequence[SystemResult],
  metric: str,
  controls: Sequence[str],
  main_system: str = 'LLoCO',
  samples: int = 10_000,
  seed: int = 0,
  level: float = 0.95,
) -> Results:
  """Compares the systems and writes both files, each whole or not at all.

  Raises:
    ValueError: as `compare_systems`; nothing is written then.
  """
  results = compare_systems(
    systems, metric, controls, main_system, samples, seed, level
  )
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  predictions = _encode_predictions(results.systems)
  # The answers go first: a kill in between leaves the old results.json,
  # whose hash tells that these answers are not its own.
  write_atomically(folder / PREDICTIONS_FILE, predictions)
  document = _encode_results(results, hashlib.sha256(predictions).hexdigest())
  write_atomically(folder / RESULTS_FILE, document)
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
    if fields['format'] != _FORMAT:
      raise ValueError(f'format {fields["format"]}, not {_FORMAT}')
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


def write_atomically(path: pathlib.Path, content: bytes) -> None:
  """Writes a file that is seen whole or not at all, also after a kill."""
  handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
  try:
    with os.fdopen(handle, 'wb') as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    # mkstemp keeps files to their owner; these are meant to be shared.
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
  except BaseException:
    pathlib.Path(temporary).unlink(missing_ok=True)
    raise


def _check_systems(systems, metric, controls, main_system):
  names = [system.name for system in systems]
  for name, times in collections.Counter(names).items():
    if times > 1:
      raise ValueError(f'{times} systems are named {name!r}; rename them.')
  for name in (main_system, *controls):
    if name not in names:
      raise ValueError(
        f'System {name!r} was not evaluated; there are {", ".join(names)}.'
      )
  if main_system in controls:
    raise ValueError(f'{main_system!r} cannot be its own control.')
  documents = {}
  for system in systems:
    for cost in COSTS:
      value = getattr(system, cost)
      if value is not None and not 0 <= value < math.inf:
        raise ValueError(
          f'{cost} of system {system.name!r} is {value}; give None where it '
          'was not measured.'
        )
    seen = set()
    for answer in system.answers:
      if answer.example_id in seen:
        raise ValueError(
          f'System {system.name!r} answers example {answer.example_id!r} '
          'twice; give every example its own id.'
        )
      seen.add(answer.example_id)
      document = documents.setdefault(answer.example_id, answer.document_id)
      if document != answer.document_id:
        raise ValueError(
          f'Example {answer.example_id!r} is about document {document!r} in '
          f'one system and {answer.document_id!r} in {system.name!r}; give '
          'the document that the question is about.'
        )
      if not math.isfinite(answer.scores.get(metric, math.nan)):
        raise ValueError(
          f'System {system.name!r} has no {metric!r} score for example '
          f'{answer.example_id!r}; score it before comparing.'
        )


def _score(system, metric, bootstrap):
  if not system.answers:
    return intervals.NO_VALUES
  return intervals.bootstrap_mean(
    [answer.scores[metric] for answer in system.answers],
    [answer.document_id for answer in system.answers],
    **bootstrap,
  )


def _difference(main, control, metric, bootstrap):
  others = {answer.example_id: answer for answer in control.answers}
  shared = [answer for answer in main.answers if answer.example_id in others]
  if not shared:
    return intervals.NO_VALUES
  return intervals.paired_difference(
    [answer.scores[metric] for answer in shared],
    [others[answer.example_id].scores[metric] for answer in shared],
    [answer.document_id for answer in shared],
    **bootstrap,
  )


def _encode_predictions(systems):
  lines = [
    json.dumps(
      {'system': system.name, **dataclasses.asdict(answer)},
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


def _decode_predictions(content):
  answers = collections.defaultdict(list)
  for line in content.decode('utf-8').split('\n')[:-1]:
    fields = json.loads(line)
    name = fields.pop('system')
    fields['references'] = tuple(fields['references'])
    answers[name].append(Answer(**fields))
  return answers


def _encode_results(results, predictions_digest):
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
    'metric': results.metric,
    'main_system': results.main_system,
    'controls': list(results.controls),
    'bootstrap': {
      'over': 'documents',
      'samples': results.samples,
      'seed': results.seed,
      'level': results.level,
    },
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
  )


def mean_scores(system: SystemResult) -> dict[str, float]:
  """Mean of every score that all of the system's answers have."""
  names = [set(answer.scores) for answer in system.answers]
  shared = sorted(set.intersection(*names)) if names else []
  return {
    name: sum(answer.scores[name] for answer in system.answers)
    / len(system.answers)
    for name in shared
  }


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
