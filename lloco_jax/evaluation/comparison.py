"""Systems that answered the same questions, scored side by side.

A claim about the main system is its paired difference to a control, with an
interval bootstrapped over documents. Scores are from 0 to 1.
"""

import collections
from collections.abc import Sequence
import dataclasses
import math

from lloco_jax.data.examples import linked
from lloco_jax.evaluation import intervals
from lloco_jax.evaluation.intervals import Interval
from lloco_jax.evaluation.scoring import score_names

COSTS = ('tokens_read', 'seconds_to_first_token', 'seconds_per_answer')


@dataclasses.dataclass(frozen=True)
class Answer:
  """One system's answer to one example; `scores` by their names.

  `document_ids` are the documents the question is about, whatever the system
  read: intervals resample by them. `tags` are the example's.
  """

  example_id: str
  document_ids: tuple[str, ...]
  question: str
  prediction: str
  references: tuple[str, ...]
  scores: dict[str, float]
  tags: tuple[str, ...] = ()

  @property
  def document(self) -> str:
    """How reports and errors call its documents."""
    return ' + '.join(self.document_ids)


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
  """Systems side by side on one metric, named as in evaluation/scoring.py.

  `scores` has an interval for each system's name, `differences` one for each
  but the main system's, controls first: its score less theirs over the
  questions that both answered. `tokens_per_vector` are tokens of text that a
  summary vector stands for, over all documents asked about; None where it is
  not known.
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
  tokens_per_vector: float | None = None


def compare_systems(
  systems: Sequence[SystemResult],
  metric: str,
  controls: Sequence[str],
  main_system: str = 'LLoCO',
  samples: int = 10_000,
  seed: int = 0,
  level: float = 0.95,
  tokens_per_vector: float | None = None,
) -> Results:
  """Scores every system and pairs the main one with each of the others.

  A system without answers (nothing fitted its window) is kept, unscored.

  Raises:
    ValueError: systems, examples or scores that cannot be compared.
  """
  _check_systems(systems, metric, controls, main_system)
  bootstrap = dict(samples=samples, seed=seed, level=level)
  by_name = {system.name: system for system in systems}
  others = [name for name in by_name if name not in (main_system, *controls)]
  return Results(
    metric=metric,
    main_system=main_system,
    controls=tuple(controls),
    systems=tuple(systems),
    scores={
      system.name: _score(system, metric, bootstrap) for system in systems
    },
    differences={
      name: _difference(by_name[main_system], by_name[name], metric, bootstrap)
      for name in (*controls, *others)
    },
    tokens_per_vector=tokens_per_vector,
    **bootstrap,
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


def metric_values(answer: Answer, metric: str) -> list[float]:
  """The scores of an answer that a metric is made of; NaN for one it lacks."""
  return [answer.scores.get(name, math.nan) for name in score_names(metric)]


def clusters(answers: Sequence[Answer]) -> list[str]:
  """What intervals resample the answers by."""
  return linked([answer.document_ids for answer in answers])


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
  if not systems[names.index(main_system)].answers:
    raise ValueError(f'{main_system!r} answered nothing to compare.')
  first = {}
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
      other = first.setdefault(answer.example_id, answer)
      if answer.document_ids != other.document_ids:
        raise ValueError(
          f'Example {answer.example_id!r} is about document '
          f'{other.document!r} in one system and '
          f'{answer.document!r} in {system.name!r}; give the document '
          'that the question is about.'
        )
      for name, score in zip(
        score_names(metric), metric_values(answer, metric)
      ):
        if not math.isfinite(score):
          raise ValueError(
            f'System {system.name!r} has no {name!r} score for example '
            f'{answer.example_id!r}; score it before comparing.'
          )


def _score(system, metric, bootstrap):
  if not system.answers:
    return intervals.NO_VALUES
  return intervals.bootstrap_mean(
    [metric_values(answer, metric) for answer in system.answers],
    clusters(system.answers),
    **bootstrap,
  )


def _difference(main, control, metric, bootstrap):
  others = {answer.example_id: answer for answer in control.answers}
  shared = [answer for answer in main.answers if answer.example_id in others]
  if not shared:
    return intervals.NO_VALUES
  return intervals.paired_difference(
    [metric_values(answer, metric) for answer in shared],
    [metric_values(others[answer.example_id], metric) for answer in shared],
    clusters(shared),
    **bootstrap,
  )
