"""Progress of long work: lines with the throughput and the time left."""

import time


class Progress:
  """Counts work done, and prints a line when the last one is old.

  The time left is told by the pace since the first work was done, which as a
  rule took compilation with it.

  Args:
    total: work there is, in `unit`; None where it is not known.
    unit: 'tokens', say.
    every: seconds between lines.
    shown: False prints nothing.
  """

  def __init__(
    self,
    total: int | None = None,
    unit: str = 'tokens',
    every: float = 20.0,
    shown: bool = True,
  ):
    self._total, self._unit = total, unit
    self._every, self._shown = every, shown
    self._done = 0
    self._began = self._printed = time.monotonic()
    # When the first work was done, and how much that was.
    self._first = None

  def add(self, work: int) -> None:
    """Counts work as done."""
    self._done += work

  def drop(self, work: int) -> None:
    """Counts work as not needed after all."""
    self._total -= work

  def tell(self, said: str, at_last: bool = False) -> None:
    """Prints what is said, and how fast it goes, if it is time to.

    `at_last` prints it in any case, with the time that all of it took.
    """
    now = time.monotonic()
    # Not as it is added: work that was done together is, too.
    if self._first is None and self._done:
      self._first = (now, self._done)
    if not self._shown or not (at_last or now - self._printed >= self._every):
      return
    self._printed = now
    seconds = now - self._began
    rate = self._done / max(seconds, 1e-9)
    digits = 0 if rate >= 10 else 1
    line = f'{said}, {rate:,.{digits}f} {self._unit}/s'
    if at_last:
      line += f', {duration(seconds)} in all'
    elif self._total is not None and self._done:
      line += f', {self._done / self._total:.0%} of all'
      left = (self._total - self._done) / self._pace(now)
      line += f', about {duration(left)} left'
    print(line, flush=True)

  def _pace(self, now: float) -> float:
    """Work a second, once there is any."""
    since, work = self._first
    if self._done > work and now > since:
      return (self._done - work) / (now - since)
    return self._done / max(now - self._began, 1e-9)


def duration(seconds: float) -> str:
  """Seconds, minutes or hours, whichever reads best."""
  minutes = round(seconds / 60)
  if seconds < 100:
    return f'{seconds:.0f} s'
  if minutes < 100:
    return f'{minutes} min'
  return f'{minutes / 60:.1f} h'
