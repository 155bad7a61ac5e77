"""Progress lines, with a clock of the test's own."""

import pytest

from lloco_jax import progress as module
from lloco_jax.progress import Progress, duration


@pytest.fixture
def clock(monkeypatch):
  clock = [100.0]
  monkeypatch.setattr(module.time, 'monotonic', lambda: clock[0])
  return clock


def test_lines_come_in_their_time_with_rate_and_time_left(clock, capsys):
  meter = Progress(total=1000, every=20.0)
  meter.tell('nothing yet')
  clock[0] += 10
  meter.add(50)
  meter.tell('too soon')
  clock[0] += 10
  meter.add(50)
  meter.drop(300)
  meter.tell('1 of 4 done')
  clock[0] += 19
  meter.tell('too soon again')
  clock[0] += 1
  meter.add(600)
  meter.tell('4 of 4 done', at_last=True)
  assert capsys.readouterr().out.splitlines() == [
    '1 of 4 done, 5.0 tokens/s, 14% of all, about 2 min left',
    '4 of 4 done, 18 tokens/s, 40 s in all',
  ]


def test_the_time_left_leaves_out_what_came_before_the_first_work(
  clock, capsys
):
  """Which is mostly compilation: 60 s here, then 10 s for every 50."""
  meter = Progress(total=250, every=0.0)
  clock[0] += 60
  # What ran together is added together.
  meter.add(25)
  meter.add(25)
  meter.tell('1 of 5 done')
  clock[0] += 10
  meter.add(50)
  meter.tell('2 of 5 done')
  assert capsys.readouterr().out.splitlines() == [
    '1 of 5 done, 0.8 tokens/s, 20% of all, about 4 min left',
    '2 of 5 done, 1.4 tokens/s, 40% of all, about 30 s left',
  ]


def test_without_a_total_no_time_is_left(clock, capsys):
  meter = Progress(unit='files', every=0.0)
  clock[0] += 2
  meter.add(6)
  meter.tell('6 read')
  assert capsys.readouterr().out == '6 read, 3.0 files/s\n'


def test_what_is_not_shown(clock, capsys):
  meter = Progress(every=0.0, shown=False)
  meter.tell('a')
  meter.tell('b', at_last=True)
  assert capsys.readouterr().out == ''


@pytest.mark.parametrize(
  'seconds, text',
  [
    (0.2, '0 s'),
    (99, '99 s'),
    (150, '2 min'),
    (5900, '98 min'),
    (9000, '2.5 h'),
  ],
)
def test_durations(seconds, text):
  assert duration(seconds) == text
