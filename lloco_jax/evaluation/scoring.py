"""The scores of an answer by name, and the metrics of a split made of them.

A metric is the geometric mean of the means that its scores have over a split.
Nearly all have a single score, whose mean they are. Of SCROLLS' ROUGE it is not
the same to take the geometric mean of every answer first: one answer without a
pair of words in common would lose what its single words score.
"""

from collections.abc import Sequence

from lloco_jax.data.squad import UNANSWERABLE
from lloco_jax.evaluation import metrics, rouge


def _squad(score):
  """A score of SQuAD of answers that may say that there is none.

  Models are taught the word 'unanswerable' where SQuAD 2.0's official metric
  wants no answer at all (data/squad.py). So for a question whose only answer
  is that word, both it and the prediction of it count as the empty answer:
  the word and nothing score 1, all else 0. Of a question that has an answer,
  the word is wrong, as nothing is.
  """

  def scored(prediction: str, references: str | Sequence[str]) -> float:
    if isinstance(references, str):
      references = [references]
    if list(references) == [UNANSWERABLE]:
      references = ['']
      if metrics.normalize(prediction) == UNANSWERABLE:
        prediction = ''
    return score(prediction, references)

  return scored


SCORES = {
  'exact_match': metrics.exact_match,
  'f1': metrics.f1,
  'accuracy': metrics.accuracy,
  'quality_accuracy': metrics.quality_accuracy,
  'lloco_quality_accuracy': metrics.lloco_quality_accuracy,
  'hotpotqa_f1': metrics.hotpotqa_f1,
  'lloco_hotpotqa_f1': metrics.lloco_hotpotqa_f1,
  'squad_exact_match': _squad(metrics.squad_exact_match),
  'squad_f1': _squad(metrics.squad_f1),
  'rouge1': rouge.rouge1,
  'rouge2': rouge.rouge2,
  'rougeL': rouge.rouge_l,
  'longbench_rouge_l': rouge.longbench_rouge_l,
}
# Names of scores, by the name of the metric.
METRICS = {name: (name,) for name in SCORES}
METRICS['scrolls_rouge'] = ('rouge1', 'rouge2', 'rougeL')


# What the official evaluator of a metric reports besides.
_BESIDE = {'squad_f1': ('squad_exact_match',)}


def reported_scores(metric: str) -> tuple[str, ...]:
  """The names of the scores that a report of a metric has."""
  return (*score_names(metric), *_BESIDE.get(metric, ()))


def score_names(metric: str) -> tuple[str, ...]:
  """The names of the scores that a metric is made of.

  A name that METRICS does not have is that of a score of one's own.
  """
  return METRICS.get(metric, (metric,))
