"""Metrics files of a run, and what a resumed run keeps of them."""

import json
import struct

from lloco_jax.finetuning.tracking import Tracker, drop_steps_after


def line(step, seconds=2.0, **more):
  return {
    'step': step,
    'loss': 1.5,
    'seconds': seconds,
    'tokens_per_second': 120.0,
    'positions_per_second': 34567.0,
    **more,
  }


def test_steps_after_the_checkpoint_are_dropped(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  lines = [json.dumps(line(step)) + '\n' for step in (1, 2, 3)]
  path.write_text(''.join(lines) + '{"step": 4, "lo')
  drop_steps_after(path, 2)
  assert path.read_text() == ''.join(lines[:2])
  drop_steps_after(tmp_path / 'absent.jsonl', 2)


def test_resumed_file_has_each_step_once(tmp_path):
  for start, steps in ((0, (1, 2, 3)), (2, (3, 4))):
    tracker = Tracker(tmp_path, start, 4, log_every=0, tensorboard=False)
    for step in steps:
      tracker.write(line(step))
    tracker.close()
  text = (tmp_path / 'metrics.jsonl').read_text()
  assert [json.loads(row)['step'] for row in text.splitlines()] == [1, 2, 3, 4]


def test_lines_are_on_disk_at_once(tmp_path):
  tracker = Tracker(tmp_path, 0, 4, log_every=0, tensorboard=False)
  tracker.write(line(1))
  assert json.loads((tmp_path / 'metrics.jsonl').read_text()) == line(1)
  tracker.close()


def test_progress_line_says_what_is_left(tmp_path, capsys):
  tracker = Tracker(tmp_path, 0, 100, log_every=5, tensorboard=False)
  for step in range(1, 11):
    tracker.write(line(step, 600.0 if step == 1 else 2.0))
  tracker.close()
  start, first, second = capsys.readouterr().out.splitlines()
  assert start.startswith('step 1/100')
  assert first.startswith('step 5/100  loss 1.5000  34,567 positions/s')
  assert '(120 in the loss)' in first
  assert '0:03:00 left' in second  # 90 steps of 2 s; the compile is no guide.


def test_first_and_last_step_are_always_told(tmp_path, capsys):
  tracker = Tracker(tmp_path, 0, 3, log_every=10, tensorboard=False)
  for step in (1, 2, 3):
    tracker.write(line(step))
  tracker.close()
  told = capsys.readouterr().out.splitlines()
  assert [line.split()[1] for line in told] == ['1/3', '3/3']


def events(folder):
  """(step, tag, value) of TensorBoard's files, by their record format."""
  from tensorboardX.proto import event_pb2

  found = []
  for path in sorted(folder.iterdir()):
    data, at = path.read_bytes(), 0
    while at < len(data):
      (length,) = struct.unpack_from('<Q', data, at)
      event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
      at += 12 + length + 4
      found += [
        (event.step, v.tag, v.simple_value) for v in event.summary.value
      ]
  return found


def test_tensorboard_gets_the_same_numbers(tmp_path):
  tracker = Tracker(tmp_path, 0, 4, log_every=0, tensorboard=True)
  tracker.write(line(1))
  tracker.write(line(2, loss=0.5))
  tracker.close()
  found = events(tmp_path / 'tensorboard')
  assert [e for e in found if e[1] == 'loss'] == [
    (1, 'loss', 1.5),
    (2, 'loss', 0.5),
  ]
  assert {tag for _, tag, _ in found} == set(line(1)) - {'step'}
