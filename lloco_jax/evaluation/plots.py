"""Plots of an evaluation: score against tokens read, and seconds per answer.

matplotlib is imported where a plot is drawn, with the Agg canvas and no global
state, so that nothing else pays for it and no display is needed.
"""

import io
import math
import os
import pathlib
import textwrap
import typing

from lloco_jax.evaluation.results import Results
from lloco_jax.evaluation.wording import metric_name, seconds_text
from lloco_jax.files import write_file

if typing.TYPE_CHECKING:
  from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by colour-blind readers; the shapes tell
# the roles apart without colour.
_ROLES = {
  'main': dict(color='#D55E00', marker='*', size=15, label='{main}'),
  'control': dict(color='#0072B2', marker='D', size=7, label='its controls'),
  'other': dict(color='#5F5F5F', marker='o', size=7, label='other systems'),
}
_LINE = '#D9D9D9'
_TEXT = '#222222'
_POINT_SPACING = 11  # points of paper between systems that read equally much
_LABEL_WIDTH = 24  # characters
_BREAK = 2.5  # where the axis is broken, in multiples of the place of zero


def score_figure(results: Results) -> 'Figure | None':
  """Score with its interval against tokens read per question.

  The axis of tokens is logarithmic, with a place of its own for systems that
  read none. None where no system has both a score and a count of tokens.
  """
  systems = [
    system
    for system in results.systems
    if system.answers and system.tokens_read is not None
  ]
  if not systems:
    return None
  figure, axes = plain_figure(10, 6)
  read = [system.tokens_read for system in systems]
  zero = _place_of_zero(read)
  shifts = _side_by_side(read)
  points = []
  top = 0.0
  for system, tokens, shift in zip(systems, read, shifts, strict=True):
    interval = results.scores[system.name]
    role = _role(results, system.name)
    mean = 100 * interval.mean
    low = 100 * interval.low if interval.known else mean
    high = 100 * interval.high if interval.known else mean
    top = max(top, high)
    points.append((tokens or zero, shift, mean, low, high, role, system.name))
  axes.set_xscale('log')
  _limit_score_axes(axes, [tokens or zero for tokens in read], top)
  _mark_tokens(axes, zero if 0 in read else None)
  axes.set_xlabel(
    'tokens or summary vectors read per question (log scale; systems that '
    'read as much stand side by side)'
  )
  name = _title(results.metric)
  axes.set_ylabel(f'{name} × 100, with its {results.level:.0%} interval')
  axes.set_title(f'{name} against tokens read', loc='left', pad=12)
  _legend(axes, results, [role for *_, role, _ in points])
  # Labels are placed in pixels: the axes must not move under them.
  figure.canvas.draw()
  figure.set_layout_engine('none')
  _draw_points(figure, axes, points)
  return figure


def seconds_figure(results: Results) -> 'Figure | None':
  """Seconds per answer; None where no system's time was measured."""
  systems = [
    system
    for system in results.systems
    if system.seconds_per_answer is not None
  ]
  if not systems:
    return None
  figure, axes = plain_figure(10, 1.6 + 0.45 * len(systems))
  longest = max(system.seconds_per_answer for system in systems)
  for row, system in enumerate(systems):
    color = _ROLES[_role(results, system.name)]['color']
    total = system.seconds_per_answer
    axes.barh(row, total, color=color, height=0.62)
    axes.annotate(
      f'{seconds_text(total)} s',
      (total, row),
      xytext=(5, 0),
      textcoords='offset points',
      va='center',
      color=_TEXT,
      bbox=dict(facecolor='white', edgecolor='none', pad=1),
    )
  axes.set_yticks(
    range(len(systems)),
    [textwrap.fill(system.name, 34) for system in systems],
  )
  for label, system in zip(axes.get_yticklabels(), systems, strict=True):
    if system.name == results.main_system:
      label.set_fontweight('bold')
  axes.invert_yaxis()
  axes.tick_params(axis='y', length=0)
  axes.set_xlim(0, 1.12 * longest or 1.0)
  axes.grid(axis='x', color=_LINE, linewidth=0.8)
  axes.set_xlabel('seconds per answer')
  axes.set_title('Seconds per answer, without compression', loc='left', pad=12)
  return figure


def check_format(path: str | os.PathLike) -> None:
  """Raises ValueError where the suffix of a path is that of no figure."""
  import matplotlib.backend_bases as backends

  suffix = pathlib.Path(path).suffix[1:] or 'png'
  known = sorted(backends.FigureCanvasBase.get_supported_filetypes())
  if suffix not in known:
    raise ValueError(
      f"'{path}' is of no format for figures; end it with one of "
      f'{", ".join(known)}.'
    )


def save_figure(figure: 'Figure', path: str | os.PathLike) -> None:
  """Writes a figure, whole or not at all, in the format of the suffix.

  Raises:
    ValueError: there is no such format.
  """
  path, buffer = pathlib.Path(path), io.BytesIO()
  figure.savefig(buffer, format=path.suffix[1:] or 'png')
  write_file(path, buffer.getvalue())


def plain_figure(width: float, height: float, panels: int = 1):
  """A figure of so many inches, and its axes, in the style of the others.

  Several panels stand side by side with one scale of y, as an array of axes.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width, height), dpi=150, layout='constrained')
  figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
  FigureCanvasAgg(figure)
  grid = figure.subplots(1, panels, squeeze=False, sharey=True)[0]
  for axes in grid:
    axes.set_axisbelow(True)
    for side in ('top', 'right', 'left'):
      axes.spines[side].set_visible(False)
  return figure, grid if panels > 1 else grid[0]


def _role(results, name):
  if name == results.main_system:
    return 'main'
  return 'control' if name in results.controls else 'other'


def _title(metric):
  name = metric_name(metric)
  return name[:1].upper() + name[1:]


def _place_of_zero(read):
  smallest = min((tokens for tokens in read if tokens), default=10.0)
  return smallest / (2 * _BREAK)


def _side_by_side(read):
  """Shifts, in points of paper, of systems that read nearly the same."""
  shifts = [0.0] * len(read)
  order = sorted(range(len(read)), key=read.__getitem__)
  groups = []
  for index in order:
    if groups and read[index] <= 1.1 * read[groups[-1][0]]:
      groups[-1].append(index)
    else:
      groups.append([index])
  for group in groups:
    for place, index in enumerate(group):
      shifts[index] = _POINT_SPACING * (place - (len(group) - 1) / 2)
  return shifts


def _limit_score_axes(axes, places, top):
  left, right = math.log10(min(places)), math.log10(max(places))
  margin = 0.14 * max(right - left, 1.0)
  axes.set_xlim(10 ** (left - margin), 10 ** (right + margin))
  axes.set_ylim(0, 1.15 * top or 1.0)
  axes.grid(axis='y', color=_LINE, linewidth=0.8)


def _mark_tokens(axes, zero):
  from matplotlib import ticker

  low, high = axes.get_xlim()
  marks = [
    step * 10**power
    for power in range(0, 9)
    for step in (1, 2, 5)
    if (_BREAK * zero if zero else low) < step * 10**power < high
  ]
  labels = [f'{mark:,}' for mark in marks]
  if zero:
    marks, labels = [zero, *marks], ['none', *labels]
    axes.axvline(_BREAK * zero, color=_LINE, linewidth=1, linestyle=(0, (4, 4)))
  axes.xaxis.set_major_locator(ticker.FixedLocator(marks))
  axes.xaxis.set_major_formatter(ticker.FixedFormatter(labels))
  axes.xaxis.set_minor_locator(ticker.NullLocator())


def _draw_points(figure, axes, points):
  from matplotlib import transforms

  placed = []
  labels = []
  pixels = figure.dpi / 72
  for tokens, shift, mean, low, high, role, name in points:
    style = _ROLES[role]
    moved = axes.transData + transforms.ScaledTranslation(
      shift / 72, 0, figure.dpi_scale_trans
    )
    axes.plot(
      [tokens, tokens],
      [low, high],
      color=style['color'],
      linewidth=1.8,
      alpha=0.55,
      transform=moved,
      clip_on=False,
      solid_capstyle='round',
    )
    axes.plot(
      [tokens],
      [mean],
      color=style['color'],
      marker=style['marker'],
      markersize=style['size'],
      markeredgecolor='white',
      markeredgewidth=0.8,
      linestyle='none',
      transform=moved,
      clip_on=False,
      zorder=4 if role == 'main' else 3,
    )
    x, y = moved.transform((tokens, mean))
    bottom = moved.transform((tokens, low))[1]
    top = moved.transform((tokens, high))[1]
    radius = style['size'] / 2 * pixels
    placed.append((x - radius, y - radius, x + radius, y + radius))
    placed.append((x - 2 * pixels, bottom, x + 2 * pixels, top))
    labels.append((x, y, radius, style['color'], role, name))
  frame = axes.get_window_extent()
  # The main system takes its pick of the room, then the rest from the top.
  for label in sorted(
    labels, key=lambda entry: (entry[4] != 'main', -entry[1])
  ):
    placed.append(_draw_label(figure, axes, label, placed, frame))


def _draw_label(figure, axes, label, placed, frame):
  """Writes a label where it covers least, with a line to its point."""
  from matplotlib import patheffects

  x, y, radius, color, role, name = label
  pixels = figure.dpi / 72
  text = axes.text(
    0,
    0,
    textwrap.fill(name, _LABEL_WIDTH),
    transform=None,
    fontsize=9,
    color=color,
    fontweight='bold' if role == 'main' else 'normal',
    linespacing=1.0,
    va='bottom',
    ha='left',
    zorder=5,
    path_effects=[patheffects.withStroke(linewidth=2.5, foreground='white')],
  )
  extent = text.get_window_extent(figure.canvas.get_renderer())
  width, height = extent.width, extent.height
  gap = radius + 4 * pixels
  best = None
  for side in (1, -1):
    for across in (0, 16, 32, 48, 64):
      for step in range(-16, 17):
        left = x + gap + across * pixels
        if side < 0:
          left = x - gap - across * pixels - width
        bottom = y - height / 2 + 6 * step * pixels
        box = (left, bottom, left + width, bottom + height)
        near = (box[0] if side > 0 else box[2], bottom + height / 2)
        cost = (
          sum(_overlap(box, other, 2 * pixels) for other in placed) * 50
          + _crossings((x + side * gap, y), near, placed) * 3000
          + _outside(box, frame) * 500
          + (abs(step) * 6 + across + (6 if side < 0 else 0)) * pixels * 20
        )
        if best is None or cost < best[0]:
          best = (cost, box, near)
  _, box, near = best
  text.set_position(box[:2])
  if math.dist(near, (x, y)) > gap + 10 * pixels:
    axes.plot(
      [x, near[0]],
      [y, near[1]],
      color=color,
      linewidth=0.7,
      alpha=0.6,
      transform=None,
      zorder=2,
    )
  return box


def _overlap(box, other, margin):
  width = min(box[2], other[2]) - max(box[0], other[0]) + margin
  height = min(box[3], other[3]) - max(box[1], other[1]) + margin
  return max(width, 0) * max(height, 0)


def _crossings(start, end, placed):
  """How many of the boxes a straight line enters, looked at in 12 places."""
  places = [
    [a + (b - a) * step / 11 for a, b in zip(start, end, strict=True)]
    for step in range(12)
  ]
  return sum(
    any(
      box[0] <= across <= box[2] and box[1] <= up <= box[3]
      for across, up in places
    )
    for box in placed
  )


def _outside(box, frame):
  return (
    max(frame.x0 - box[0], 0)
    + max(box[2] - frame.x1, 0)
    + max(frame.y0 - box[1], 0)
    + max(box[3] - frame.y1, 0)
  )


def _legend(axes, results, roles):
  from matplotlib.lines import Line2D

  handles = [
    Line2D(
      [],
      [],
      color=style['color'],
      marker=style['marker'],
      markersize=0.8 * style['size'],
      linestyle='none',
      label=style['label'].format(main=results.main_system),
    )
    for role, style in _ROLES.items()
    if role in roles
  ]
  axes.legend(
    handles=handles,
    loc='lower right',
    bbox_to_anchor=(1, 1),
    ncols=len(handles),
    frameon=False,
    borderaxespad=0.2,
    handletextpad=0.2,
  )
