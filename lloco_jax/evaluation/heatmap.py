"""Heat maps of a needle in a haystack: score by length and by depth.

Length and depth are those of the answers' tags 'length=...' and 'depth=...'.
matplotlib is imported where a map is drawn.
"""

import collections
from collections.abc import Mapping
import math
import textwrap
import typing

from lloco_jax.evaluation.comparison import Results, metric_values
from lloco_jax.evaluation.groups import tag_number
from lloco_jax.evaluation.intervals import score

if typing.TYPE_CHECKING:
  from matplotlib.figure import Figure

# Even to the eye, for colour-blind readers too.
_COLORS = 'cividis'
_EMPTY = '#E6E6E6'
_COLUMNS = 3


def cell_scores(
  results: Results, name: str
) -> dict[tuple[float, float], float]:
  """A system's score by (length, depth), of the answers with both tags."""
  (system,) = [each for each in results.systems if each.name == name]
  cells = collections.defaultdict(list)
  for answer in system.answers:
    cell = tag_number(answer, 'length'), tag_number(answer, 'depth')
    if None not in cell:
      cells[cell].append(metric_values(answer, results.metric))
  return {cell: score(values) for cell, values in cells.items()}


def main_map(results: Results) -> 'Figure | None':
  """The main system's map; None where its answers have no cells."""
  return _draw(results, [results.main_system], 1)


def other_maps(results: Results) -> 'Figure | None':
  """Maps of all other systems with cells; None without any."""
  others = [each.name for each in results.systems]
  others.remove(results.main_system)
  return _draw(results, others, _COLUMNS)


def _draw(results, names, columns):
  cells = {name: cell_scores(results, name) for name in names}
  cells = {name: found for name, found in cells.items() if found}
  if not cells:
    return None
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  # All maps have all cells, so that they are read at one glance.
  every = [cell for found in cells.values() for cell in found]
  lengths, depths = (sorted(set(values)) for values in zip(*every))
  columns = min(columns, len(cells))
  rows = math.ceil(len(cells) / columns)
  wide = max(1.6 + (0.62 if columns == 1 else 0.3) * len(lengths), 3.4)
  high = 1.6 + (0.42 if columns == 1 else 0.24) * len(depths)
  figure = Figure(
    figsize=(wide * columns + 1.2, high * rows), dpi=150, layout='constrained'
  )
  FigureCanvasAgg(figure)
  panels = list(figure.subplots(rows, columns, squeeze=False).flat)
  for axes in panels[len(cells) :]:
    axes.remove()
  for axes, (name, found) in zip(panels, cells.items()):
    image = _draw_map(axes, found, lengths, depths, numbers=columns == 1)
    axes.set_title(textwrap.fill(name, 30), loc='left', fontsize=10)
  figure.colorbar(
    image, ax=figure.axes, label=f'{results.metric} × 100', shrink=0.8
  )
  return figure


def _draw_map(axes, found: Mapping, lengths, depths, numbers: bool):
  grid = [
    [100 * found.get((length, depth), math.nan) for length in lengths]
    for depth in depths
  ]
  axes.set_facecolor(_EMPTY)
  image = axes.imshow(grid, cmap=_COLORS, vmin=0, vmax=100, aspect='auto')
  axes.set_xticks(
    range(len(lengths)), [f'{length:,.0f}' for length in lengths], rotation=45
  )
  axes.set_yticks(range(len(depths)), [f'{depth:g}' for depth in depths])
  axes.tick_params(length=0, labelsize=8)
  axes.set_xlabel('tokens of the document', fontsize=9)
  axes.set_ylabel('depth of the needle, %', fontsize=9)
  if numbers:
    for row, values in enumerate(grid):
      for column, value in enumerate(values):
        if math.isfinite(value):
          color = 'black' if value > 50 else 'white'
          axes.text(
            *(column, row, f'{value:.0f}'),
            color=color, fontsize=8, ha='center', va='center',
          )  # fmt: skip
  return image
