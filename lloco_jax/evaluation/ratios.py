"""Runs of several compression ratios: the score against tokens a vector."""

from collections.abc import Sequence
import dataclasses
import math
import typing

from lloco_jax.evaluation import plots
from lloco_jax.evaluation.intervals import Interval
from lloco_jax.evaluation.pairing import asked, check_same, read_run
from lloco_jax.evaluation.systems import UNTUNED
from lloco_jax.evaluation.wording import interval_text, metric_name

if typing.TYPE_CHECKING:
  from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Ratio:
  """Scores of a run whose documents have so many tokens a summary vector.

  `scores` has the main system first, then the compressor without finetuning,
  where it answered. `asked` are the ids of the questions that the main system
  answered.
  """

  run: str
  tokens_per_vector: float
  metric: str
  scores: dict[str, Interval]
  asked: frozenset[str]


def read_ratios(runs: Sequence[str]) -> list[Ratio]:
  """The ratios of runs, the smallest first.

  Raises:
    FileNotFoundError: a run has no evaluation.
    ValueError: an evaluation is damaged or does not say its ratio, or they are
      of different metrics or data, or share no question.
  """
  found, first = [], None
  for run in runs:
    results = read_run(run)
    if results.tokens_per_vector is None:
      raise ValueError(
        f"The evaluation of '{run}' does not say how many tokens a vector has; "
        'run eval.py again.'
      )
    names = (results.main_system, UNTUNED)
    scores = {
      name: results.scores[name]
      for name in names
      if name in results.scores and math.isfinite(results.scores[name].mean)
    }
    first = first or (run, asked(results))
    check_same((first[0], run), (first[1], asked(results)))
    [main] = [x for x in results.systems if x.name == results.main_system]
    ids = frozenset(answer.example_id for answer in main.answers)
    found.append(
      Ratio(run, results.tokens_per_vector, results.metric, scores, ids)
    )
  if len({ratio.metric for ratio in found}) > 1:
    metrics = ', '.join(f'{r.run} by {r.metric}' for r in found)
    raise ValueError(
      f'The runs are scored differently: {metrics}; evaluate all with one '
      'config.evaluation.metric.'
    )
  if len(found) > 1 and not _asked_in_all(found):
    raise ValueError(
      'The runs share no question that all of them answered; give runs of one '
      'data set.'
    )
  return sorted(found, key=lambda ratio: ratio.tokens_per_vector)


def ratio_text(ratios: Sequence[Ratio]) -> str:
  """A line a run and system."""
  lines = [f'{metric_name(ratios[0].metric)} x100 by tokens a vector:']
  longest = max(len(ratio.run) for ratio in ratios)
  for ratio in ratios:
    for name, score in ratio.scores.items():
      lines.append(
        f'  {ratio.tokens_per_vector:5.1f}  {ratio.run:<{longest}}  '
        f'{100 * score.mean:5.1f}  ({interval_text(score)})  {name}'
      )
  shared = len(_asked_in_all(ratios))
  if any(len(ratio.asked) > shared for ratio in ratios):
    counts = ', '.join(f'{r.run} {len(r.asked):,}' for r in ratios)
    lines.append(
      f'Not all were asked the same: {shared:,} questions are in every run '
      f'(answered: {counts}).'
    )
  return '\n'.join(lines) + '\n'


def _asked_in_all(ratios: Sequence[Ratio]) -> frozenset[str]:
  return frozenset.intersection(*(ratio.asked for ratio in ratios))


def ratio_figure(ratios: Sequence[Ratio]) -> 'Figure':
  """Scores with their intervals against tokens a vector, a line a system."""
  figure, axes = plots.plain_figure(8, 5)
  names = list(dict.fromkeys(name for r in ratios for name in r.scores))
  for name, color in zip(names, ('#D55E00', '#0072B2')):
    mine = [ratio for ratio in ratios if name in ratio.scores]
    places = [ratio.tokens_per_vector for ratio in mine]
    scores = [ratio.scores[name] for ratio in mine]
    means = [100 * score.mean for score in scores]
    axes.plot(places, means, color=color, marker='o', label=name)
    for place, score in zip(places, scores):
      if score.known:
        axes.plot(
          [place, place], [100 * score.low, 100 * score.high],
          color=color, alpha=0.4,
        )  # fmt: skip
  axes.set_ylim(bottom=0)
  axes.set_xlabel('tokens of text a summary vector')
  metric = metric_name(ratios[0].metric)
  axes.set_ylabel(f'{metric} × 100, with its interval')
  axes.set_title(f'{metric} against compression', loc='left', pad=12)
  axes.legend(frameon=False)
  return figure
