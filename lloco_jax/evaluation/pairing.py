"""Two runs compared: one system's answers, paired question by question."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import os
import pathlib
import textwrap

from lloco_jax.evaluation import intervals, wording
from lloco_jax.evaluation.comparison import (
  Answer,
  Results,
  clusters,
  metric_values,
)
from lloco_jax.evaluation.intervals import Interval
from lloco_jax.evaluation.results import RESULTS_FILE, read_results

_FOLDER = 'evaluation'
# Of a combined run, one a data set.
_FOLDERS = 'evaluations'


@dataclasses.dataclass(frozen=True)
class Change:
  """An answer whose score differs; `scores` and `predictions` of A and B.

  Where a metric is made of several scores, an answer's is their mean.
  """

  example_id: str
  document_id: str
  question: str
  references: tuple[str, ...]
  predictions: tuple[str, str]
  scores: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Pairing:
  """What the answers of a system in run B are to those in run A.

  `answered` counts each run's answers; `scores` and `difference`, B less A,
  are over the questions that both answered. `changes` begin with the greatest.
  """

  runs: tuple[str, str]
  system: str
  metric: str
  answered: tuple[int, int]
  scores: tuple[Interval, Interval]
  difference: Interval
  changes: tuple[Change, ...]
  level: float


def compare_runs(
  a: str | os.PathLike, b: str | os.PathLike, system: str | None = None
) -> Pairing:
  """Pairs the answers of a system in two runs by the ids of their examples.

  Intervals are bootstrapped over documents, as many times as in run A.

  Args:
    a, b: workdirs, or the folders of their evaluations.
    system: by its name; None is the main system of A, LLoCO.

  Raises:
    FileNotFoundError: a run has no evaluation.
    ValueError: an evaluation is damaged; or the two are of different metrics
      or examples, lack the system, or share no question that it answered.
  """
  runs = str(a), str(b)
  results = [read_run(run) for run in runs]
  metric = results[0].metric
  if results[1].metric != metric:
    raise ValueError(
      f"'{runs[0]}' is scored by {metric} and '{runs[1]}' by "
      f'{results[1].metric}; evaluate both with one config.evaluation.metric.'
    )
  _check_examples(runs, results)
  system = system or results[0].main_system
  answers = [_answers(*pair, system) for pair in zip(runs, results)]
  shared = [key for key in answers[0] if key in answers[1]]
  if not shared:
    raise ValueError(
      f"'{runs[0]}' and '{runs[1]}' have no question that {system} answered in "
      'both; choose another system.'
    )
  values = [
    [metric_values(found[key], metric) for key in shared] for found in answers
  ]
  documents = clusters([answers[0][key] for key in shared])
  bootstrap = dict(
    samples=results[0].samples, seed=results[0].seed, level=results[0].level
  )
  return Pairing(
    runs,
    system,
    metric,
    tuple(len(found) for found in answers),
    tuple(
      intervals.bootstrap_mean(side, documents, **bootstrap) for side in values
    ),
    intervals.paired_difference(values[1], values[0], documents, **bootstrap),
    _changes(shared, *answers, *values),
    results[0].level,
  )


def pairing_text(pairing: Pairing, most: int = 20, width: int = 80) -> str:
  """What a pairing shows, with at most so many of the changed answers."""
  count = pairing.difference.count
  lines = [
    f'{pairing.system}, {pairing.metric} x100 on {count} questions about '
    f'{pairing.difference.clusters} documents:',
  ]
  longest = max(map(len, pairing.runs))
  for side, run, score in zip('AB', pairing.runs, pairing.scores):
    lines.append(
      f'  {side}  {run:<{longest}}  {100 * score.mean:5.1f}  '
      f'({wording.interval_text(score)})'
    )
  amount = wording.interval_text(pairing.difference, signed=True)
  lines.append(
    f'B less A: {100 * pairing.difference.mean:+.1f} ({amount}; '
    f'{pairing.level:.0%} interval over documents).'
  )
  for side, answered in zip('AB', pairing.answered):
    if answered > count:
      lines.append(
        f'{side} answered {answered - count} more, which the other did not.'
      )
  better = sum(each.scores[1] > each.scores[0] for each in pairing.changes)
  worse = len(pairing.changes) - better
  lines.append(
    f'{len(pairing.changes)} scores changed: {better} are higher in B and '
    f'{worse} in A.'
  )
  shown = pairing.changes[:most]
  if len(shown) < len(pairing.changes):
    lines[-1] += f' The {len(shown)} that changed most:'
  for change in shown:
    lines += ['', *_change_lines(change, width)]
  return '\n'.join(lines) + '\n'


def pairing_fields(pairing: Pairing) -> dict:
  """All of a pairing as JSON has it; scores from 0 to 1, null the unknown."""
  fields = dataclasses.asdict(pairing)
  for interval in (*fields['scores'], fields['difference']):
    for name in ('mean', 'low', 'high'):
      if not math.isfinite(interval[name]):
        interval[name] = None
  return fields


def read_run(run: str | os.PathLike) -> Results:
  """The evaluation in a workdir, or in the folder of one.

  Raises:
    FileNotFoundError: there is none.
    ValueError: it is damaged.
  """
  folder = pathlib.Path(run)
  if not (folder / RESULTS_FILE).is_file():
    folder /= _FOLDER
  inside = pathlib.Path(run, _FOLDERS).glob(f'*/{_FOLDER}/{RESULTS_FILE}')
  sets = sorted(path.parts[-3] for path in inside)
  if sets:
    raise FileNotFoundError(
      f"'{run}' holds evaluations of {', '.join(sets)}; name one, as in "
      f'{pathlib.Path(run, _FOLDERS, sets[0])}.'
    )
  if not (folder / RESULTS_FILE).is_file():
    raise FileNotFoundError(
      f"'{run}' holds no evaluation ({folder / RESULTS_FILE} is missing); run "
      'eval.py with its config, or correct the path.'
    )
  return read_results(folder)


def asked(results: Results) -> dict[str, Answer]:
  """An answer to every example that any system of a run answered."""
  return {
    answer.example_id: answer
    for system in results.systems
    for answer in system.answers
  }


def _check_examples(runs, results):
  found = [asked(each) for each in results]
  for side, other in ((0, 1), (1, 0)):
    missing = [key for key in found[side] if key not in found[other]]
    if missing:
      raise ValueError(
        f"The runs are of different examples: {len(missing)} of '{runs[side]}',"
        f" such as '{missing[0]}', are not in '{runs[other]}'; evaluate both "
        'on the same data.'
      )
  check_same(runs, found)


def check_same(
  runs: tuple[str, str], found: Sequence[Mapping[str, Answer]]
) -> None:
  """Raises ValueError where one id is of two examples.

  Args:
    runs: what the two are called.
    found: an answer to each example, by id, in each run.
  """
  a, b = found
  for key in (key for key in a if key in b):
    # Several documents were one name before they were kept apart.
    for name in ('question', 'references', 'document'):
      if getattr(a[key], name) != getattr(b[key], name):
        raise ValueError(
          f"The runs are of different examples: '{key}' has another {name} in "
          f"'{runs[1]}' than in '{runs[0]}'; evaluate both on the same data."
        )


def _answers(run, results, name) -> dict[str, Answer]:
  for system in results.systems:
    if system.name == name:
      return {answer.example_id: answer for answer in system.answers}
  raise ValueError(
    f"'{run}' has no system '{name}'; choose one of "
    f'{", ".join(system.name for system in results.systems)}.'
  )


def _changes(shared, a, b, values_a, values_b) -> tuple[Change, ...]:
  changes = []
  for key, *sides in zip(shared, values_a, values_b):
    before, after = (sum(side) / len(side) for side in sides)
    if before != after:
      changes.append(
        Change(
          key,
          a[key].document,
          a[key].question,
          a[key].references,
          (a[key].prediction, b[key].prediction),
          (before, after),
        )
      )
  changes.sort(key=lambda each: -abs(each.scores[1] - each.scores[0]))
  return tuple(changes)


def _change_lines(change: Change, width: int) -> list[str]:
  before, after = (f'{100 * score:.0f}' for score in change.scores)
  parts = [
    f'{change.example_id}: {before} -> {after}',
    f'  Question: {change.question}',
    f'  Right answer: {" / ".join(change.references)}',
    f'  A: {change.predictions[0] or "(nothing)"}',
    f'  B: {change.predictions[1] or "(nothing)"}',
  ]
  lines = []
  for part in parts:
    lines += textwrap.wrap(part, width, subsequent_indent=' ' * 6)
  return lines
