"""Scores of one answer: exact match, F1 and accuracy, from 0 to 1.

Normalisation and F1 are those of SQuAD, which SCROLLS, LongBench and the
paper's evaluation of Qasper, NarrativeQA and HotpotQA share.
"""

import collections
from collections.abc import Sequence
import re
import string

_DELETE_PUNCTUATION = str.maketrans('', '', string.punctuation)
_ARTICLES = re.compile(r'\b(a|an|the)\b')
# A lower-case letter counts only when it stands for a choice ('b', 'b)',
# 'b. Paris'): 'a city in France' is prose.
_CHOICE = re.compile(r'\W*([A-Z]\b|[a-z]\b(?=[.):]|\s*$))')


def normalize(text: str) -> str:
  """Text in lower case, without ASCII punctuation, articles and extra space."""
  text = text.lower().translate(_DELETE_PUNCTUATION)
  return ' '.join(_ARTICLES.sub(' ', text).split())


def f1(prediction: str, references: str | Sequence[str]) -> float:
  """Overlap of words as multisets, harmonic mean of precision and recall.

  The best reference counts. No word in common scores 0, also when nothing is
  left of either after normalisation.

  Raises:
    ValueError: there is no reference.
  """
  words = normalize(prediction).split()
  return max(
    _word_f1(words, normalize(reference).split())
    for reference in _as_list(references)
  )


def exact_match(prediction: str, references: str | Sequence[str]) -> float:
  """1 if the prediction equals a reference after normalisation, else 0.

  Raises:
    ValueError: there is no reference.
  """
  wanted = {normalize(reference) for reference in _as_list(references)}
  return float(normalize(prediction) in wanted)


def accuracy(prediction: str, references: str | Sequence[str]) -> float:
  """1 if the prediction opens with the letter of a right choice, else 0.

  'B', '(b)', 'b. Paris' and 'B Paris' all choose B; a prediction that opens
  with no letter standing alone chooses nothing. References are letters, alone
  or followed by the text of their choice.

  Raises:
    ValueError: there is no reference, or one does not open with a letter.
  """
  letters = [_choice(reference) for reference in _as_list(references)]
  if None in letters:
    raise ValueError(
      f'Reference {_as_list(references)[letters.index(None)]!r} does not open '
      "with the letter of a choice; write it as 'B' or 'B. text'."
    )
  return float(_choice(prediction) in letters)


def _word_f1(prediction: list[str], reference: list[str]) -> float:
  common = collections.Counter(prediction) & collections.Counter(reference)
  overlap = common.total()
  if overlap == 0:
    return 0.0
  precision = overlap / len(prediction)
  recall = overlap / len(reference)
  return 2 * precision * recall / (precision + recall)


def _choice(text: str) -> str | None:
  match = _CHOICE.match(text)
  return match.group(1).upper() if match else None


def _as_list(references: str | Sequence[str]) -> list[str]:
  if isinstance(references, str):
    return [references]
  if not references:
    raise ValueError(
      'An answer has no reference to score against; give at least one.'
    )
  return list(references)
