"""Scores by tag against sums made by hand."""

import dataclasses

from made_up_systems import scored_system
import numpy as np
import pytest

from lloco_jax.evaluation import groups, wording
from lloco_jax.evaluation.comparison import SystemResult, compare_systems


def tagged(system, tags):
  answers = [
    dataclasses.replace(answer, tags=tuple(found))
    for answer, found in zip(system.answers, tags, strict=True)
  ]
  return dataclasses.replace(system, answers=tuple(answers))


TAGS = [
  ['hard', 'length=900'],
  ['hard', 'length=8000'],
  ['length=900'],
  [],
  ['easy', 'length=8000', 'odd='],
]
MAIN = [1.0, 0.0, 0.5, 0.25, 1.0]
CONTROL = [0.0, 0.0, 1.0, 1.0, 0.5]


@pytest.fixture(scope='module')
def results():
  systems = [
    tagged(scored_system('LLoCO', MAIN), TAGS),
    tagged(scored_system('control', CONTROL), TAGS),
    tagged(scored_system('other', CONTROL), TAGS),
  ]
  return compare_systems(systems, 'f1', ['control'], samples=200)


def test_scores_are_means_over_the_answers_with_the_tag(results):
  tables = groups.group_tables(results)
  # The number 900 comes before 8000, whatever the letters say.
  assert [(table.key, list(table.scores)) for table in tables] == [
    ('', ['easy', 'hard', 'odd=']),
    ('length', ['900', '8000']),
  ]
  for table in tables:
    for group, scores in table.scores.items():
      tag = f'{table.key}={group}' if table.key else group
      assert list(scores) == ['LLoCO', 'control', 'other']
      for name, values in (
        ('LLoCO', MAIN),
        ('control', CONTROL),
        ('other', CONTROL),
      ):
        chosen = [value for value, tags in zip(values, TAGS) if tag in tags]
        assert scores[name].count == len(chosen)
        assert scores[name].mean == pytest.approx(np.mean(chosen))
  hard = tables[0].scores['hard']['LLoCO']
  assert (hard.low, hard.high) == (0, 1)
  # A group about one document has no interval.
  assert not tables[0].scores['easy']['LLoCO'].known


def test_answers_without_tags_have_no_tables():
  results = compare_systems([scored_system('LLoCO', MAIN)], 'f1', [])
  assert groups.group_tables(results) == []


def test_too_many_groups_are_counted_alone():
  count = groups.MOST_GROUPS + 1
  tags = [[f'page={number}', 'any'] for number in range(count)]
  system = tagged(scored_system('LLoCO', [1.0] * count), tags)
  tables = groups.group_tables(compare_systems([system], 'f1', []))
  assert [(table.key, table.count) for table in tables] == [
    ('', 1),
    ('page', count),
  ]
  assert tables[0].scores and not tables[1].scores


def test_rows_say_score_interval_and_a_count_that_differs(results):
  headers = wording.group_headers('length', ['LLoCO', 'control'], 'f1')
  assert headers == ['length', 'answers', 'LLoCO, F1 x100', 'control, F1 x100']
  (main,) = (system for system in results.systems if system.name == 'LLoCO')
  control = dataclasses.replace(main, name='control', answers=main.answers[1:3])
  none = SystemResult('none', '', ())
  less = compare_systems([main, control, none], 'f1', ['control', 'none'])
  words, lengths = groups.group_tables(less)
  cells = wording.group_cells('hard', words.scores['hard'])
  assert cells == ['hard', '2', '50.0 (0.0 to 100.0)', '0.0 (1 answers)', '-']
  cells = wording.group_cells('900', lengths.scores['900'])
  assert cells[1:3] == ['2', '75.0 (50.0 to 100.0)']


@pytest.mark.parametrize(
  ('tags', 'number'),
  [
    (['length=900'], 900.0),
    (['hard', 'length=1.5'], 1.5),
    (['length=long'], None),
    (['lengths=3'], None),
    (['900'], None),
    ([], None),
  ],
)
def test_the_number_of_a_tag(tags, number):
  (answer,) = tagged(scored_system('LLoCO', [1.0]), [tags]).answers
  assert groups.tag_number(answer, 'length') == number
