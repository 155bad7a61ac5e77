"""The report of a compressor: losses of probes and the share kept."""

from collections.abc import Mapping, Sequence
import dataclasses
import io
import json
import math
import pathlib
import typing

import numpy as np

from lloco_jax.evaluation import plots
from lloco_jax.evaluation.intervals import (
  NO_VALUES,
  Interval,
  bootstrap_mean,
  bootstrap_ratio,
  paired_difference,
)
from lloco_jax.evaluation.probes import ProbeLosses
from lloco_jax.files import write_file

if typing.TYPE_CHECKING:
  from matplotlib.figure import Figure

RESULTS_FILE = 'compressor.json'
TABLE_FILE = 'compressor.md'
PLOT_FILE = 'compressor.png'
SHARES_FILE = 'compressor_shares.png'
GIVEN = ('nothing', 'text', 'summaries', 'last_tokens', 'other_summaries')
_COLORS = ('#5F5F5F', '#0072B2', '#D55E00', '#009E73', '#CC79A7')
_HEADERS = (
  'segments', 'of', 'vectors', 'nothing', 'the text', 'its summaries',
  'its last tokens', "another's", 'share kept', "last tokens' share",
  "another's share",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ProbeRow:
  """Probes behind segments of one length: mean losses in nats, and shares.

  A share is the part of the text's gain over nothing that vectors keep, or as
  many last tokens; there is none where the text is not shown to gain anything,
  or exceeds the window. `own_gain` are the nats that another document's vectors
  lose against its own, `recent_gain` those that the last tokens lose.
  """

  segments: int
  segment_length: int
  vectors: int
  losses: Mapping[str, Interval]
  share: Interval
  last_share: Interval
  other_share: Interval
  own_gain: Interval
  recent_gain: Interval

  @property
  def tokens(self) -> int:
    """Tokens of the text that is read."""
    return self.segments * self.segment_length


def probe_row(
  losses: Sequence[ProbeLosses],
  segments: int,
  segment_length: int,
  summary_length: int,
  samples: int = 10_000,
) -> ProbeRow:
  """Means over probes, with intervals bootstrapped over their documents."""
  clusters = [each.document_id for each in losses]
  whole = all(each.text is not None for each in losses)
  gains = [each.nothing - each.text for each in losses] if whole else []
  gain = bootstrap_mean(gains, clusters, samples) if whole else NO_VALUES
  helps = gain.mean > 0 and not (gain.known and gain.low <= 0)

  def share(name):
    if not helps:
      return NO_VALUES
    kept = [each.nothing - getattr(each, name) for each in losses]
    return bootstrap_ratio(kept, gains, clusters, samples)

  def gain_over(name):
    return paired_difference(
      [getattr(each, name) for each in losses],
      [each.summaries for each in losses],
      clusters,
      samples,
    )

  return ProbeRow(
    segments=segments,
    segment_length=segment_length,
    vectors=segments * summary_length,
    losses={
      name: bootstrap_mean(
        [getattr(each, name) for each in losses], clusters, samples
      )
      if whole or name != 'text'
      else NO_VALUES
      for name in GIVEN
    },
    share=share('summaries'),
    last_share=share('last_tokens'),
    other_share=share('other_summaries'),
    own_gain=gain_over('other_summaries'),
    recent_gain=gain_over('last_tokens'),
  )


def sentences(rows: Sequence[ProbeRow]) -> list[str]:
  """What the table says, and whether the vectors tell texts apart."""
  said = [
    'Nats a token of the end of a passage, as a reader predicts it that was '
    'given nothing, the segments before it, their summary vectors, as many of '
    "their last tokens, or the vectors of another document's segments. A share "
    'is what those gain, of what the text gains over nothing.'
  ]
  for row in rows:
    if row.segments:
      said.append(
        f'Behind {row.segments} segments of {row.segment_length:,} tokens, '
        f'{row.tokens / row.vectors:.0f} a vector, its own vectors are '
        f"{_compared(row.own_gain)} than another document's, "
        f'{_compared(row.recent_gain)} than its last tokens.'
      )
  return said


def _compared(gain: Interval) -> str:
  """How much vectors gain over something else, in words."""
  verdict = 'not shown to be better'
  if gain.known and gain.low > 0:
    verdict = 'better'
  if gain.known and gain.high < 0:
    verdict = 'worse'
  return f'{verdict} ({gain.mean:.3f} nats, {gain.low:.3f} to {gain.high:.3f})'


def table_cells(row: ProbeRow) -> tuple[str, ...]:
  """A row of the table: nats a token, and shares in percent."""
  counts = (row.segments, row.segment_length, row.vectors)
  return (
    *(f'{count:,}' for count in counts),
    *(_number(row.losses[name].mean, 3) for name in GIVEN),
    _percent(row.share),
    _percent(row.last_share),
    _percent(row.other_share),
  )


def perplexity_cells(row: ProbeRow) -> tuple[str, ...]:
  """A row of the table of perplexities, which are e to the nats a token."""
  counts = (row.segments, row.segment_length, row.vectors)
  return (
    *(f'{count:,}' for count in counts),
    *(_number(math.exp(row.losses[name].mean), 2) for name in GIVEN),
  )


def terminal_table(rows: Sequence[ProbeRow], width: int = 120) -> str:
  """Both tables as text of at most `width` columns."""
  from rich.console import Console
  from rich.table import Table

  buffer = io.StringIO()
  console = Console(file=buffer, width=width, height=100, highlight=False)
  for title, cells in _TABLES.items():
    table = Table(title=title, title_justify='left')
    count = len(cells(rows[0])) if rows else len(_HEADERS)
    for header in _HEADERS[:count]:
      table.add_column(header, justify='right')
    for row in rows:
      table.add_row(*cells(row))
    console.print(table)
  return buffer.getvalue()


_TABLES = {'Nats a token': table_cells, 'Perplexity': perplexity_cells}


def loss_figure(rows: Sequence[ProbeRow]) -> 'Figure':
  """Losses by segments read, with their intervals; a panel a length."""
  lengths = sorted({row.segment_length for row in rows})
  width = max(8, 4 * len(lengths))
  figure, grid = plots.plain_figure(width, 5, len(lengths))
  for axes, length in zip(np.atleast_1d(grid), lengths):
    _draw_losses(axes, [row for row in rows if row.segment_length == length])
    ratio = next(
      (row.tokens / row.vectors for row in rows
       if row.vectors and row.segment_length == length), 0,
    )  # fmt: skip
    title = f'segments of {length:,} tokens'
    if ratio:
      title += f', {ratio:.0f} a vector'
    axes.set_title(title, loc='left', pad=12)
    axes.set_xlabel('segments read before the target')
  first = np.atleast_1d(grid)[0]
  first.set_ylabel('nats a token, with the 95% interval')
  first.legend(title='the reader was given', frameon=False)
  return figure


def share_figure(rows: Sequence[ProbeRow]) -> 'Figure':
  """Shares of the text's gain by segments read, a line a length."""
  figure, axes = plots.plain_figure(8, 5)
  lengths = sorted({row.segment_length for row in rows})
  for place, length in enumerate(lengths):
    mine = [row for row in rows if row.segment_length == length]
    mine = [row for row in mine if math.isfinite(row.share.mean)]
    if not mine:
      continue
    color = _COLORS[place % len(_COLORS)]
    each = mine[0].tokens / mine[0].vectors
    for name, style in (('share', '-'), ('other_share', ':')):
      shares = [getattr(row, name) for row in mine]
      places = [row.segments for row in mine]
      axes.plot(
        places,
        [100 * share.mean for share in shares],
        color=color,
        linestyle=style,
        marker='o',
        label=f'{each:.0f} a vector'
        + (", another document's" if name == 'other_share' else ''),
      )
      if name == 'share':
        axes.fill_between(
          places,
          [100 * share.low for share in shares],
          [100 * share.high for share in shares],
          color=color,
          alpha=0.12,
          linewidth=0,
        )
  axes.axhline(0, color='#D9D9D9', zorder=0)
  axes.set_title("Share of the text's gain that vectors keep", loc='left')
  axes.set_xlabel('segments read before the target')
  axes.set_ylabel('% of the gain of the text, with the 95% interval')
  if axes.get_legend_handles_labels()[0]:
    axes.legend(title='tokens', frameon=False)
  return figure


def _draw_losses(axes, rows: Sequence[ProbeRow]) -> None:
  names = dict(zip(GIVEN, _HEADERS[3:8]))
  markers = ('s', 'D', '*', '^', 'o')
  places = [row.segments for row in rows]
  for (name, label), color, marker in zip(names.items(), _COLORS, markers):
    intervals = [row.losses[name] for row in rows]
    axes.plot(
      places,
      [interval.mean for interval in intervals],
      color=color,
      marker=marker,
      label=label,
    )
    axes.fill_between(
      places,
      [interval.low for interval in intervals],
      [interval.high for interval in intervals],
      color=color,
      alpha=0.12,
      linewidth=0,
    )
  axes.set_xticks(places)


def write_probe_report(
  folder: pathlib.Path, rows: Sequence[ProbeRow], facts: Mapping
) -> None:
  """Writes the table, the plot and the JSON of both, with `facts` beside."""
  folder.mkdir(parents=True, exist_ok=True)
  fields = {'facts': dict(facts), 'rows': list(map(_fields, rows))}
  text = json.dumps(fields, indent=2, allow_nan=False)
  write_file(folder / RESULTS_FILE, text + '\n')
  parts = []
  for title, cells in _TABLES.items():
    found = list(map(cells, rows))
    count = len(found[0])
    lines = [_HEADERS[:count], ['---:'] * count, *found]
    table = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
    parts += [f'{title}:', table]
  parts += [*sentences(rows), f'![]({PLOT_FILE})', f'![]({SHARES_FILE})']
  write_file(folder / TABLE_FILE, '\n\n'.join(parts) + '\n')
  plots.save_figure(loss_figure(rows), folder / PLOT_FILE)
  plots.save_figure(share_figure(rows), folder / SHARES_FILE)


def _fields(row: ProbeRow) -> dict:
  """The row as JSON has it: no NaN."""

  def plain(interval):
    numbers = dataclasses.asdict(interval)
    return {
      name: number if math.isfinite(number) else None
      for name, number in numbers.items()
    }

  return {
    'segments': row.segments,
    'segment_length': row.segment_length,
    'tokens': row.tokens,
    'vectors': row.vectors,
    'losses': {name: plain(row.losses[name]) for name in GIVEN},
    'share': plain(row.share),
    'last_share': plain(row.last_share),
    'other_share': plain(row.other_share),
    'own_gain': plain(row.own_gain),
    'recent_gain': plain(row.recent_gain),
  }


def _number(value: float, digits: int) -> str:
  return f'{value:.{digits}f}' if math.isfinite(value) else '-'


def _percent(interval: Interval) -> str:
  if not math.isfinite(interval.mean):
    return '-'
  text = f'{100 * interval.mean:.0f}%'
  if interval.known:
    text += f' ({100 * interval.low:.0f} to {100 * interval.high:.0f})'
  return text
