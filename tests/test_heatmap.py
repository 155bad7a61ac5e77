"""Heat maps: each cell's colour and number against the answers' means."""

import dataclasses

from made_up_systems import scored_system
import numpy as np
import pytest

from lloco_jax.evaluation import heatmap, report
from lloco_jax.evaluation.comparison import compare_systems

LENGTHS, DEPTHS = (1000, 2000, 8000), (0, 50, 100)


def needle_system(name, seed, left_out=()):
  """Two answers a cell; of `left_out`, (length, depth), none."""
  random = np.random.default_rng(seed)
  cells = [
    (length, depth)
    for length in LENGTHS
    for depth in DEPTHS
    for _ in range(2)
    if (length, depth) not in left_out
  ]
  system = scored_system(name, list(random.random(len(cells))))
  answers = [
    dataclasses.replace(
      answer,
      example_id=f'{cell}{number % 2}',
      document_ids=(f'{cell}{number % 2}',),
      tags=(f'depth={cell[1]}', f'length={cell[0]}', 'more'),
    )
    for number, (answer, cell) in enumerate(zip(system.answers, cells))
  ]
  return dataclasses.replace(system, answers=tuple(answers))


@pytest.fixture(scope='module')
def results():
  systems = [
    needle_system('LLoCO', 0),
    needle_system('full context', 1, left_out=[(8000, 0), (8000, 50)]),
    *(needle_system(f'system {number}', number) for number in range(2, 5)),
  ]
  return compare_systems(systems, 'f1', ['system 2'], samples=50)


def expected(results, name):
  """[depth, length] by sums over the answers, NaN where there is none."""
  sums = np.zeros((2, len(DEPTHS), len(LENGTHS)))
  (system,) = [each for each in results.systems if each.name == name]
  for answer in system.answers:
    tags = dict(tag.split('=') for tag in answer.tags if '=' in tag)
    row = DEPTHS.index(int(tags['depth']))
    column = LENGTHS.index(int(tags['length']))
    sums[:, row, column] += answer.scores['f1'], 1
  with np.errstate(invalid='ignore'):
    return sums[0] / sums[1]


def panels(figure):
  return {axes.get_title('left'): axes for axes in figure.axes if axes.images}


def test_the_main_map_has_the_mean_of_every_cell(results):
  (axes,) = panels(heatmap.main_map(results)).values()
  wanted = 100 * expected(results, 'LLoCO')
  np.testing.assert_allclose(axes.images[0].get_array(), wanted)
  assert axes.images[0].get_clim() == (0, 100)
  ticks = [label.get_text() for label in axes.get_xticklabels()]
  assert ticks == ['1,000', '2,000', '8,000']
  assert [x.get_text() for x in axes.get_yticklabels()] == ['0', '50', '100']
  assert 'tokens' in axes.get_xlabel() and 'depth' in axes.get_ylabel()
  # Depth 0, the beginning, is on top.
  assert axes.get_ylim()[0] > axes.get_ylim()[1]
  for text in axes.texts:
    column, row = map(int, text.get_position())
    assert text.get_text() == f'{wanted[row, column]:.0f}'
  assert len(axes.texts) == wanted.size


def test_others_have_a_map_each_and_gaps_where_nothing_was_answered(results):
  found = panels(heatmap.other_maps(results))
  names = [each.name for each in results.systems if each.name != 'LLoCO']
  assert list(found) == names
  for name, axes in found.items():
    wanted = 100 * expected(results, name)
    drawn = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_allclose(drawn, wanted)
  assert np.isnan(expected(results, 'full context')).sum() == 2


def test_answers_without_both_tags_have_no_map():
  plain = scored_system('LLoCO', [1.0, 0.0])
  results = compare_systems([plain], 'f1', [])
  assert heatmap.main_map(results) is None
  assert heatmap.other_maps(results) is None
  answers = [dataclasses.replace(a, tags=('length=9',)) for a in plain.answers]
  plain = dataclasses.replace(plain, answers=tuple(answers))
  assert heatmap.main_map(compare_systems([plain], 'f1', [])) is None


def test_a_metric_of_several_scores_is_their_geometric_mean():
  system = needle_system('LLoCO', 0)
  rouge = [
    {'rouge1': 0.9, 'rouge2': 0.1, 'rougeL': 0.3},
    {'rouge1': 0.1, 'rouge2': 0.9, 'rougeL': 0.3},
  ]
  answers = [
    dataclasses.replace(answer, scores=rouge[number % 2])
    for number, answer in enumerate(system.answers)
  ]
  system = dataclasses.replace(system, answers=tuple(answers))
  results = compare_systems([system], 'scrolls_rouge', [], samples=50)
  cells = heatmap.cell_scores(results, 'LLoCO')
  assert list(cells.values()) == pytest.approx([0.075 ** (1 / 3)] * 9)


def test_the_report_has_maps_and_tables(results, tmp_path):
  text = report.write_report(tmp_path, results).read_text('utf-8')
  for name in (report.MAIN_MAP, report.OTHER_MAPS):
    assert f']({name})' in text
    assert (tmp_path / name).read_bytes().startswith(b'\x89PNG')
  by_length = text.split('## Score by length')[1].split('##')[0]
  mean = 100 * expected(results, 'LLoCO')[:, 2].mean()
  assert f'| 8000 | 6 | {mean:.1f} (' in by_length
  assert by_length.index('| 2000 |') < by_length.index('| 8000 |')
  assert '## Score by depth' in text
  assert '| more | 18 |' in text.split('## Score by group')[1]
