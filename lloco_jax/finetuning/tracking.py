"""Metrics of a run: one JSON line a step, TensorBoard, and progress lines."""

import collections
import datetime
import json
from pathlib import Path
import statistics

from lloco_jax.files import write_file
from lloco_jax.processes import is_first

METRICS_FILE = 'metrics.jsonl'


def drop_steps_after(path: Path, step: int):
  """Keeps the lines up to `step`, so that a resumed run doubles none.

  The steps after it are run again; a line cut off by a kill goes as well.
  """
  if not path.exists():
    return
  kept = []
  for line in path.read_text('utf-8', errors='replace').splitlines():
    try:
      if json.loads(line)['step'] <= step:
        kept.append(line + '\n')
    except (ValueError, KeyError, TypeError):
      continue
  write_file(path, ''.join(kept))


class Tracker:
  """Writes the metrics of a run that goes on after `step`.

  Only the first process of several writes and prints.
  """

  def __init__(
    self,
    workdir: Path,
    step: int,
    total_steps: int,
    log_every: int,
    tensorboard: bool,
  ):
    self.total_steps = total_steps
    self.log_every = log_every
    self.recent_seconds = collections.deque(maxlen=50)
    self.losses = []
    self.file = self.board = None
    if not is_first():
      return
    path = Path(workdir) / METRICS_FILE
    drop_steps_after(path, step)
    if step and log_every:
      print(f'Going on from step {step} of {total_steps}.', flush=True)
    self.file = path.open('a', encoding='utf-8')
    if tensorboard:
      import tensorboardX  # Slow to import, and not needed without it.

      self.board = tensorboardX.SummaryWriter(
        str(Path(workdir) / 'tensorboard'), purge_step=step + 1
      )

  def write(self, metrics: dict):
    """One step's metrics, plain numbers with 'step' among them."""
    self.recent_seconds.append(metrics['seconds'])
    self.losses.append(metrics['loss'])
    if self.file is None:
      return
    self.file.write(json.dumps(metrics) + '\n')
    self.file.flush()
    step = metrics['step']
    if self.board:
      for name, value in metrics.items():
        if name != 'step':
          self.board.add_scalar(name, value, step)
    # The first also says that everything is compiled.
    telling = len(self.recent_seconds) == 1 or step == self.total_steps
    if self.log_every and (step % self.log_every == 0 or telling):
      print(self.progress(metrics), flush=True)

  def progress(self, metrics: dict) -> str:
    """Step, mean loss since the last line, speed and the time left.

    The time goes by the median of recent steps; the first step, most of it
    compilation, tells none.
    """
    step = metrics['step']
    loss, self.losses = statistics.fmean(self.losses), []
    parts = [
      f'step {step}/{self.total_steps}',
      f'loss {loss:.4f}',
      f'{metrics["positions_per_second"]:,.0f} positions/s '
      f'({metrics["tokens_per_second"]:,.0f} in the loss)',
    ]
    if len(self.recent_seconds) > 1:
      left = statistics.median(self.recent_seconds) * (self.total_steps - step)
      parts.append(f'{datetime.timedelta(seconds=round(left))} left')
    return '  '.join(parts)

  def close(self):
    if self.file:
      self.file.close()
    if self.board:
      self.board.close()
