"""The report of a compressor from made-up losses."""

import json

import numpy as np
import pytest

from lloco_jax.evaluation.intervals import bootstrap_ratio
from lloco_jax.evaluation.probe_report import (
  PLOT_FILE,
  RESULTS_FILE,
  TABLE_FILE,
  loss_figure,
  probe_row,
  share_figure,
  table_cells,
  terminal_table,
  write_probe_report,
)
from lloco_jax.evaluation.probes import ProbeLosses


def losses():
  """Summaries keep 4 of the 5 nats that texts gain, the last tokens 2, others
  lose 1."""
  return [
    ProbeLosses('a', 4.0, 1.0, 2.0, 3.0, 5.0),
    ProbeLosses('a', 3.0, 2.0, 2.0, 3.0, 3.0),
    ProbeLosses('b', 2.0, 1.0, 1.0, 1.0, 2.0),
  ]


def test_a_panel_of_the_plot_for_each_length():
  rows = [
    probe_row(losses(), count, length, 8, samples=20)
    for length in (64, 32)
    for count in (0, 1)
  ]
  figure = loss_figure(rows)
  titles = [axes.get_title(loc='left') for axes in figure.axes]
  assert titles == [
    'segments of 32 tokens, 4 a vector',
    'segments of 64 tokens, 8 a vector',
  ]
  lines = figure.axes[1].get_lines()
  assert [line.get_xdata().tolist() for line in lines] == [[0, 1]] * 5


def test_share_is_a_ratio_of_means():
  row = probe_row(losses(), 2, 32, 8, samples=50)
  assert (row.segments, row.tokens, row.vectors) == (2, 64, 16)
  assert row.losses['summaries'].mean == pytest.approx(5 / 3)
  assert row.share.mean == pytest.approx((2 + 1 + 1) / (3 + 1 + 1))
  assert row.last_share.mean == pytest.approx(2 / 5)
  assert row.other_share.mean == pytest.approx(-1 / 5)
  assert row.share.clusters == 2
  assert row.own_gain.mean == pytest.approx((3 + 1 + 1) / 3)
  assert row.recent_gain.mean == pytest.approx((1 + 1 + 0) / 3)


def test_interval_of_a_ratio_equals_one_by_loops():
  random = np.random.default_rng(0)
  above, below = random.normal(3, 1, 12), random.normal(5, 1, 12)
  clusters = [place // 3 for place in range(12)]
  actual = bootstrap_ratio(above, below, clusters, samples=40, seed=7)
  ratios = []
  for draw in np.random.default_rng(7).integers(4, size=(40, 4)):
    places = [3 * cluster + step for cluster in draw for step in range(3)]
    ratios.append(above[places].sum() / below[places].sum())
  low, high = np.quantile(ratios, [0.025, 0.975])
  assert actual.mean == pytest.approx(above.sum() / below.sum())
  assert (actual.low, actual.high) == (pytest.approx(low), pytest.approx(high))
  with pytest.raises(ValueError, match='as many numerators'):
    bootstrap_ratio(above, below[1:], clusters)


def test_report_holds_table_plot_and_numbers(tmp_path):
  same = [ProbeLosses(name, 3.0, 3.0, 3.0, 3.0, 3.0) for name in 'ab']
  rows = [
    probe_row(same, 0, 32, 8, samples=20),
    probe_row(losses(), 4, 1536, 50, samples=20),
  ]
  write_probe_report(tmp_path / 'run', rows, {'reader': 'base'})
  found = json.loads((tmp_path / 'run' / RESULTS_FILE).read_text())
  assert found['facts'] == {'reader': 'base'}
  assert found['rows'][0]['share']['mean'] is None
  assert found['rows'][1]['losses']['text']['mean'] == pytest.approx(4 / 3)
  lines = (tmp_path / 'run' / TABLE_FILE).read_text().splitlines()
  assert lines[4].startswith('| 0 | 32 | 0 | 3.000 |') and '| - |' in lines[4]
  assert lines[5].startswith(
    '| 4 | 1,536 | 200 | 3.000 | 1.333 | 1.667 | 2.333 |'
  )
  assert '80% (' in lines[5]
  perplexities = [20.09, 3.79, 5.29, 10.31, 28.03]
  cells = ' | '.join(f'{each:.2f}' for each in perplexities)
  assert f'| 4 | 1,536 | 200 | {cells} |' in lines
  assert (tmp_path / 'run' / PLOT_FILE).read_bytes().startswith(b'\x89PNG')
  own = (
    'Behind 4 segments of 1,536 tokens, 31 a vector, its own vectors are '
    "better (1.667 nats, 1.000 to 2.000) than another document's, not shown to "
    'be better (0.667 nats, 0.000 to 1.000) than its last tokens.'
  )
  assert any(own in line for line in lines)
  assert f'![]({PLOT_FILE})' in lines
  table = terminal_table(rows)
  assert '1,536' in table and max(map(len, table.splitlines())) <= 120


def test_no_share_where_the_text_gains_nothing():
  same = [ProbeLosses(name, 3.0, 3.5, 3.6, 3.0, 3.0) for name in 'ab']
  row = probe_row(same, 1, 32, 8, samples=20)
  assert not row.share.known and table_cells(row)[-3:] == ('-', '-', '-')
  # Nor where it did not fit.
  none = [ProbeLosses(name, 3.0, None, 2.0, 3.0, 3.0) for name in 'ab']
  row = probe_row(none, 1, 32, 8, samples=20)
  assert table_cells(row)[3:6] == ('3.000', '-', '2.000')
  assert share_figure([row]).axes[0].get_lines()
