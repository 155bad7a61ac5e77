"""Scores of groups of examples, which their tags name.

A tag is a word ('hard') or KEY=VALUE ('length=8000'). The groups of a key make
a table of their own, as do the words together.
"""

from collections.abc import Mapping
import dataclasses

from lloco_jax.evaluation.comparison import (
  Answer,
  Results,
  SystemResult,
  clusters,
  metric_values,
)
from lloco_jax.evaluation.intervals import NO_VALUES, Interval, bootstrap_mean

# More are names rather than groups, and no table to read.
MOST_GROUPS = 60


@dataclasses.dataclass(frozen=True)
class GroupTable:
  """Scores by group and then by system, of the groups of one key.

  `key` is '' for the tags that are words. `scores` is empty where there are
  more than MOST_GROUPS groups; `count` says how many there are.
  """

  key: str
  count: int
  scores: Mapping[str, Mapping[str, Interval]]


def group_tables(results: Results) -> list[GroupTable]:
  """Scores by group, a table a key: of the main system, its controls, and then
  all others that have answers.

  Groups are those that the main system's answers are in. Values that are
  numbers are in their order, others in that of the alphabet.
  """
  by_name = {system.name: system for system in results.systems}
  first = (results.main_system, *results.controls)
  others = (s.name for s in results.systems if s.answers)
  shown = [by_name[name] for name in dict.fromkeys((*first, *others))]
  groups = {}
  for tag in sorted({tag for a in shown[0].answers for tag in a.tags}):
    key, value = _split(tag)
    groups.setdefault(key, []).append(value)
  tables = []
  for key in sorted(groups):
    values = sorted(groups[key], key=_order)
    scores = {}
    if len(values) <= MOST_GROUPS:
      for value in values:
        tag = f'{key}={value}' if key else value
        scores[value] = {
          system.name: _score(results, system, tag) for system in shown
        }
    tables.append(GroupTable(key, len(values), scores))
  return tables


def tag_number(answer: Answer, key: str) -> float | None:
  """The number that an answer's tag KEY=NUMBER has; None without one."""
  for tag in answer.tags:
    found, value = _split(tag)
    if found == key:
      try:
        return float(value)
      except ValueError:
        return None
  return None


def _split(tag: str) -> tuple[str, str]:
  key, equals, value = tag.partition('=')
  return (key, value) if key and equals and value else ('', tag)


def _order(value: str):
  try:
    return (0, float(value), value)
  except ValueError:
    return (1, 0.0, value)


def _score(results: Results, system: SystemResult, tag: str) -> Interval:
  answers = [answer for answer in system.answers if tag in answer.tags]
  if not answers:
    return NO_VALUES
  return bootstrap_mean(
    [metric_values(answer, results.metric) for answer in answers],
    clusters(answers),
    results.samples,
    results.seed,
    results.level,
  )
