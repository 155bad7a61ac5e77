import dataclasses
import math

from made_up_systems import CONTROLS, made_up_systems, scored_system
import numpy as np
import pytest

from lloco_jax.evaluation.comparison import (
  SystemResult,
  compare_systems,
  mean_scores,
)


def test_scores_and_differences_are_means_of_the_answers():
  systems = made_up_systems()
  results = compare_systems(systems, 'f1', CONTROLS)
  means = {
    system.name: np.mean([answer.scores['f1'] for answer in system.answers])
    for system in systems
  }
  for name, mean in means.items():
    assert results.scores[name].mean == pytest.approx(mean)
    assert (results.scores[name].count, results.scores[name].clusters) == (
      96,
      12,
    )
  others = [name for name in means if name not in ('LLoCO', *CONTROLS)]
  assert list(results.differences) == [*CONTROLS, *others]
  for name in CONTROLS:
    difference = results.differences[name]
    assert difference.mean == pytest.approx(means['LLoCO'] - means[name])
    assert difference.low < difference.mean < difference.high


def test_pairs_are_matched_by_example_not_by_order():
  main = scored_system('LLoCO', [1.0, 0.0, 1.0])
  control = scored_system('control', [1.0, 0.0, 1.0])
  control = dataclasses.replace(control, answers=control.answers[::-1])
  difference = compare_systems([main, control], 'f1', ['control']).differences
  assert (difference['control'].low, difference['control'].high) == (0, 0)


def test_pairs_are_of_the_questions_both_answered():
  main = scored_system('LLoCO', [1.0, 0.0, 0.0, 0.0])
  control = scored_system('control', [0.5, 0.5])
  results = compare_systems([main, control], 'f1', ['control'])
  assert results.differences['control'].mean == 0
  assert results.differences['control'].count == 2
  assert results.scores['control'].count == 2


def test_system_without_answers_is_kept_unscored():
  main = scored_system('LLoCO', [1.0, 0.0])
  empty = SystemResult('full context', '', ())
  results = compare_systems([main, empty], 'f1', ['full context'])
  assert math.isnan(results.scores['full context'].mean)
  assert results.differences['full context'].count == 0


def test_mean_scores_are_those_that_all_answers_have():
  system = made_up_systems()[3]
  answers = list(system.answers)
  answers[0] = dataclasses.replace(answers[0], scores={'f1': 1.0})
  system = dataclasses.replace(system, answers=tuple(answers))
  assert list(mean_scores(system)) == ['f1']
  assert mean_scores(SystemResult('none', '', ())) == {}


def test_what_cannot_be_compared_is_named():
  main = scored_system('LLoCO', [1.0, 0.0])
  other = scored_system('other', [1.0, 0.0])

  def refused(message, systems, metric='f1', controls=()):
    with pytest.raises(ValueError, match=message):
      compare_systems(systems, metric, controls)

  refused("'missing' was not evaluated", [main], controls=['missing'])
  refused("'LLoCO' was not evaluated; there are other", [other])
  refused('cannot be its own control', [main], controls=['LLoCO'])
  refused("2 systems are named 'LLoCO'", [main, main])
  refused("no 'rouge' score for example 'e0'", [main], metric='rouge')
  refused("no 'f1' score", [scored_system('LLoCO', [math.nan])])
  refused('answered nothing', [SystemResult('LLoCO', '', ())])
  twice = dataclasses.replace(main, answers=main.answers[:1] * 2)
  refused("answers example 'e0' twice", [twice])
  moved = scored_system('other', [1.0], documents=['another'])
  refused("is about document 'd0' in one system", [main, moved])
  slow = dataclasses.replace(main, seconds_per_answer=math.nan)
  refused('seconds_per_answer of system', [slow])
