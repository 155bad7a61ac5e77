import itertools
import subprocess
import sys

from made_up_systems import CONTROLS, ROWS, made_up_systems, scored_system
import pytest

from lloco_jax.evaluation import plots
from lloco_jax.evaluation.comparison import SystemResult, compare_systems

# The same systems, all about as good: their labels compete for room.
CROWDED = tuple((name, tokens, 0.1, *costs) for name, tokens, _, *costs in ROWS)


def compared(rows=ROWS, seed=0):
  systems = made_up_systems(rows, seed=seed)
  return compare_systems(systems, 'f1', CONTROLS, samples=500)


def labels(figure):
  renderer = figure.canvas.get_renderer()
  return {
    ' '.join(text.get_text().split()): text.get_window_extent(renderer)
    for text in figure.axes[0].texts
  }


@pytest.mark.parametrize('rows', [ROWS, CROWDED], ids=['apart', 'crowded'])
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_labels_of_all_systems_stand_apart(rows, seed):
  figure = plots.score_figure(compared(rows, seed))
  boxes = labels(figure)
  names = {name.replace('-', '') for name, *_ in rows}
  assert {name.replace('- ', '').replace('-', '') for name in boxes} == names
  for one, other in itertools.combinations(boxes.values(), 2):
    assert not one.overlaps(other)
  frame = figure.axes[0].get_window_extent().padded(2)
  for box in boxes.values():
    assert frame.x0 <= box.x0 and box.x1 <= frame.x1
    assert frame.y0 <= box.y0 and box.y1 <= frame.y1


def test_label_at_the_edge_stays_inside():
  systems = [
    scored_system('LLoCO', [0.5, 0.5], tokens_read=5),
    scored_system('a name that takes room', [0.5, 0.5], tokens_read=90_000),
  ]
  figure = plots.score_figure(compare_systems(systems, 'f1', []))
  box = labels(figure)['a name that takes room']
  assert box.x1 <= figure.axes[0].get_window_extent().x1


def test_points_stand_at_score_and_tokens():
  results = compared()
  figure = plots.score_figure(results)
  drawn = sorted(
    (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
    for line in figure.axes[0].lines
    if line.get_marker() in ('*', 'D', 'o')
  )
  nothing, read = drawn[:2], drawn[2:]
  # Systems that read nothing have a place left of all others.
  assert 0 < nothing[0][0] == nothing[1][0] < 505 / 2
  expected = sorted(
    (tokens, 100 * results.scores[name].mean) for name, tokens, *_ in ROWS
  )
  assert [score for _, score in nothing] == pytest.approx(
    [score for _, score in expected[:2]]
  )
  assert [part for point in read for part in point] == pytest.approx(
    [part for point in expected[2:] for part in point]
  )


def test_system_without_score_or_tokens_is_left_out():
  systems = [
    scored_system('LLoCO', [1.0, 0.0], tokens_read=8),
    scored_system('unmeasured', [1.0, 0.0]),
    SystemResult('huge', '', (), tokens_read=9, seconds_per_answer=1.0),
  ]
  results = compare_systems(systems, 'f1', [])
  assert list(labels(plots.score_figure(results))) == ['LLoCO']
  assert len(plots.seconds_figure(results).axes[0].get_yticklabels()) == 1
  bare = compare_systems(systems[1:2], 'f1', [], 'unmeasured')
  assert plots.score_figure(bare) is None
  assert plots.seconds_figure(bare) is None


@pytest.mark.parametrize('tokens', [0, 1, 100_000])
def test_one_system_alone_is_drawn(tokens, tmp_path):
  system = scored_system(
    'LLoCO', [0.0, 0.0], tokens_read=tokens, seconds_per_answer=0.0
  )
  results = compare_systems([system], 'f1', [])
  plots.save_figure(plots.score_figure(results), tmp_path / 'score.png')
  plots.save_figure(plots.seconds_figure(results), tmp_path / 'seconds.png')
  assert (tmp_path / 'seconds.png').read_bytes().startswith(b'\x89PNG')


def test_bars_are_as_long_as_answers_take():
  figure = plots.seconds_figure(compared())
  bars = figure.axes[0].patches
  for bar, (*_, total) in zip(bars, ROWS, strict=True):
    assert bar.get_width() == pytest.approx(total)


def test_matplotlib_is_imported_only_to_draw():
  program = (
    'import sys\n'
    'from lloco_jax.evaluation import plots, report\n'
    "assert 'matplotlib' not in sys.modules\n"
  )
  subprocess.run([sys.executable, '-c', program], check=True)
