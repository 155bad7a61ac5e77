"""What a comparison says: table cells and sentences, for any kind of page.

Scores and differences are written times 100, as papers do.
"""

from collections.abc import Iterable, Mapping

from lloco_jax.evaluation.comparison import Results, SystemResult, mean_scores
from lloco_jax.evaluation.intervals import Interval

_UNKNOWN = '-'
# Percentile intervals over fewer documents cover clearly less than they say.
_FEW_DOCUMENTS = 20


def findings(results: Results) -> list[str]:
  """What differences to controls show and what they do not, in sentences."""
  claims = [
    _claim(results.main_system, name, results.differences[name])
    for name in results.controls
  ]
  if not claims:
    claims = ['No control was evaluated, so there is nothing to claim.']
  if results.tokens_per_vector is not None:
    claims.append(
      f'A summary vector stands for {results.tokens_per_vector:.1f} tokens.'
    )
  return claims + cautions(results)


def cautions(results: Results) -> list[str]:
  """What keeps scores or intervals from being taken at their word."""
  scores = results.scores
  questions = scores[results.main_system].count
  sentences = [
    f'"{name}" answered {scores[name].count} of {questions} questions, so its '
    'score is not of the same questions.'
    for name in scores
    if scores[name].count < questions
  ]
  documents = scores[results.main_system].clusters
  if 1 < documents < _FEW_DOCUMENTS:
    sentences.append(
      f'The questions are about {documents} documents{counted(results)}: with '
      'so few, intervals come out too narrow.'
    )
  return sentences


def counted(results: Results) -> str:
  """What is to be said behind a number of documents; empty if nothing."""
  linked = any(
    len(answer.document_ids) > 1
    for system in results.systems
    for answer in system.answers
  )
  return ', those linked by a question counted as one' if linked else ''


def score_headers(results: Results, every_score: bool = False) -> list[str]:
  """Headers of the table of systems, with all scores or just the metric."""
  headers = [
    'system',
    f'{metric_name(results.metric)} x100',
    f'{results.level:.0%} interval',
    'answers',
    'tokens read',
    's to first token',
    's per answer',
  ]
  if every_score:
    headers += [f'{metric_name(name)} x100' for name in _other_scores(results)]
  return headers


def score_cells(
  results: Results, system: SystemResult, every_score: bool = False
) -> list[str]:
  """One system's row under `score_headers`."""
  interval = results.scores[system.name]
  cells = [
    system.name,
    f'{100 * interval.mean:.1f}' if interval.count else _UNKNOWN,
    interval_text(interval),
    str(interval.count),
    _count(system.tokens_read),
    seconds_text(system.seconds_to_first_token),
    seconds_text(system.seconds_per_answer),
  ]
  if every_score:
    means = mean_scores(system)
    cells += [
      f'{100 * means[name]:.1f}' if name in means else _UNKNOWN
      for name in _other_scores(results)
    ]
  return cells


def difference_headers(results: Results) -> list[str]:
  """Headers of the table of paired differences."""
  return [
    f'{results.main_system} minus',
    'difference x100',
    f'{results.level:.0%} interval',
    'questions',
    f'{results.main_system} is shown',
  ]


def difference_cells(name: str, difference: Interval) -> list[str]:
  """Another system's row under `difference_headers`."""
  return [
    name,
    f'{100 * difference.mean:+.1f}' if difference.count else _UNKNOWN,
    interval_text(difference, signed=True),
    str(difference.count),
    verdict(difference),
  ]


def group_headers(key: str, systems: Iterable[str], metric: str) -> list[str]:
  """Headers of a table of scores by group."""
  return [
    key,
    'answers',
    *(f'{name}, {metric_name(metric)} x100' for name in systems),
  ]


def group_cells(group: str, scores: Mapping[str, Interval]) -> list[str]:
  """One group's row under `group_headers`.

  `scores` begins with the main system. A system that answered another number
  of the questions says so.
  """
  answers = next(iter(scores.values())).count
  cells = []
  for score in scores.values():
    if not score.count:
      cells.append(_UNKNOWN)
      continue
    said = [interval_text(score)] if score.known else []
    if score.count != answers:
      said.append(f'{score.count} answers')
    cells.append(f'{100 * score.mean:.1f}')
    if said:
      cells[-1] += f' ({"; ".join(said)})'
  return [group, str(answers), *cells]


def metric_name(metric: str) -> str:
  """A metric as tables and plots write it."""
  return 'F1' if metric == 'f1' else metric.replace('_', ' ')


def interval_text(interval: Interval, signed: bool = False) -> str:
  """An interval x100, '-' where it is unknown."""
  if not interval.known:
    return _UNKNOWN
  form = '+.1f' if signed else '.1f'
  return f'{100 * interval.low:{form}} to {100 * interval.high:{form}}'


def verdict(difference: Interval) -> str:
  """Where the main system is, as far as the interval shows it."""
  if difference.low > 0:
    return 'above'
  return 'below' if difference.high < 0 else 'neither'


def _claim(main, name, difference):
  spread = interval_text(difference, signed=True)
  amount = f'{100 * difference.mean:+.1f} ({spread})'
  if difference.count == 0:
    return f'{main} and "{name}" answered no question in common.'
  if not difference.known:
    return (
      f'{main} is not shown to be above "{name}": all questions are about one '
      'document, or about linked ones, which gives no interval.'
    )
  if verdict(difference) == 'above':
    return f'{main} is above "{name}" by {amount}.'
  if verdict(difference) == 'below':
    return f'{main} is below "{name}" by {amount}.'
  return f'{main} is not shown to be above "{name}": {amount} includes zero.'


def _other_scores(results):
  names = {name for system in results.systems for name in mean_scores(system)}
  return sorted(names - {results.metric})


def _count(value):
  return _UNKNOWN if value is None else f'{value:,.0f}'


def seconds_text(value: float | None) -> str:
  """Seconds with two digits that count."""
  if value is None:
    return _UNKNOWN
  return f'{value:.2f}' if value >= 0.1 or value == 0 else f'{value:.2g}'
