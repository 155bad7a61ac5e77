"""Where a device's time goes, by kernel."""

import collections
import pathlib
import tempfile

import jax


def busiest(run, count: int, device: str = '/device:') -> list[dict]:
  """The kernels that took most of the device's time in one run.

  Args:
    run: what is traced.
    count: kernels to tell; the rest are one row.
    device: how names of the planes of devices begin.

  Returns:
    A row a kernel: its name, milliseconds, calls, and share of all.
  """
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      run()
    (file,) = pathlib.Path(folder).rglob('*.xplane.pb')
    data = jax.profiler.ProfileData.from_serialized_xspace(file.read_bytes())
  times, calls = collections.Counter(), collections.Counter()
  for plane in data.planes:
    if not plane.name.startswith(device):
      continue
    for line in plane.lines:
      # Other lines tell the same time again, by module and operation.
      if device == '/device:' and 'Stream' not in line.name:
        continue
      for event in line.events:
        times[event.name] += event.duration_ns
        calls[event.name] += 1
  total = sum(times.values())
  rows = [(name[:60], times[name], calls[name]) for name, _ in
          times.most_common(count)]  # fmt: skip
  rest = total - sum(time for _, time, _ in rows)
  rows.append(('the rest', rest, sum(calls.values()) - sum(r[2] for r in rows)))
  return [
    {
      'kernel': name,
      'ms': time / 1e6,
      'calls': number,
      'share': time / max(total, 1),
    }
    for name, time, number in rows
  ]
