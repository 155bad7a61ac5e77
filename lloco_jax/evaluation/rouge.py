"""ROUGE of one answer, from 0 to 1, as SCROLLS and as LongBench have it.

They use two packages that disagree: `rouge-score` reads lower-case letters and
digits of ASCII as words and counts repeated ones; `rouge` reads what stands
between spaces, punctuation and case included, and counts a word once.
"""

from collections.abc import Sequence
import functools

from lloco_jax.evaluation.metrics import reference_list


def rouge1(prediction: str, references: str | Sequence[str]) -> float:
  """F-measure of single words, without stemming, of the best reference.

  Words in other scripts are not seen, and words with accents are cut at them:
  a text without any ASCII letter or digit scores 0.

  Raises:
    ValueError: there is no reference.
  """
  return _rouge_score('rouge1', prediction, references)


def rouge2(prediction: str, references: str | Sequence[str]) -> float:
  """F-measure of pairs of words; otherwise as `rouge1`.

  An answer of one word has no pair and scores 0, also against itself.

  Raises:
    ValueError: there is no reference.
  """
  return _rouge_score('rouge2', prediction, references)


def rouge_l(prediction: str, references: str | Sequence[str]) -> float:
  """F-measure of the longest common subsequence; otherwise as `rouge1`.

  Over the whole text: SCROLLS puts every sentence on a line of its own first,
  which changes neither this nor the other two.

  Raises:
    ValueError: there is no reference.
  """
  return _rouge_score('rougeL', prediction, references)


def longbench_rouge_l(
  prediction: str, references: str | Sequence[str]
) -> float:
  """LongBench's ROUGE-L, of the best reference.

  Sentences end at '.', and the subsequences of all pairs of sentences are
  united. Equal texts score just below 1. What the package fails at scores 0 as
  in LongBench: a text of nothing but '.', and sentences of about 1,000 words,
  where its recursion ends.

  Raises:
    ValueError: there is no reference.
  """
  return max(
    _longbench_rouge_l(prediction, reference)
    for reference in reference_list(references)
  )


def _rouge_score(kind, prediction, references):
  scorer = _scorer(kind)
  return max(
    float(scorer.score(reference, prediction)[kind].fmeasure)
    for reference in reference_list(references)
  )


@functools.cache
def _scorer(kind):
  # Importing it takes a second and a half, for nltk's sake.
  from rouge_score import rouge_scorer, tokenizers

  return rouge_scorer.RougeScorer(
    [kind],
    # Where it makes its own tokenizer it logs a line.
    tokenizer=tokenizers.DefaultTokenizer(use_stemmer=False),
  )


def _longbench_rouge_l(prediction, reference):
  from rouge import Rouge

  try:
    (scores,) = Rouge(metrics=['rouge-l']).get_scores(prediction, reference)
  except (ValueError, RecursionError):
    return 0.0
  return float(scores['rouge-l']['f'])
