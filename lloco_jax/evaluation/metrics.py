"""Scores of one answer by its words or its choice, from 0 to 1.

The evaluators of SQuAD, HotpotQA, SCROLLS and LongBench share one way to
normalise and to count words; `f1` and `exact_match` are what they agree on, and
the functions named after one of them do what only that one does. All take the
best reference. ROUGE is in `lloco_jax.evaluation.rouge`.
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
_QUALITY_CHOICE = re.compile(r'\b[A-D]\b')
# Of a reference, which may be a text that holds another letter.
_QUALITY_REFERENCE = re.compile(r'\W*([A-D])\b')
_CLOSED_ANSWERS = frozenset({'yes', 'no', 'noanswer'})


def normalize(text: str) -> str:
  """Text in lower case, without ASCII punctuation, articles and extra space."""
  text = text.lower().translate(_DELETE_PUNCTUATION)
  return ' '.join(_ARTICLES.sub(' ', text).split())


def f1(prediction: str, references: str | Sequence[str]) -> float:
  """Overlap of words as multisets, harmonic mean of precision and recall.

  The F1 of SCROLLS (Qasper, NarrativeQA), of LongBench's questions in English
  and of SQuAD 1.1. No word in common scores 0, also when nothing is left of
  either after normalisation.

  Raises:
    ValueError: there is no reference.
  """
  words = normalize(prediction).split()
  return max(
    _word_f1(words, normalize(reference).split())
    for reference in reference_list(references)
  )


def exact_match(prediction: str, references: str | Sequence[str]) -> float:
  """1 if the prediction equals a reference after normalisation, else 0.

  The exact match of SCROLLS (of the text of QuALITY's options, too), HotpotQA
  and SQuAD 1.1.

  Raises:
    ValueError: there is no reference.
  """
  wanted = {normalize(reference) for reference in reference_list(references)}
  return float(normalize(prediction) in wanted)


def squad_f1(prediction: str, references: str | Sequence[str]) -> float:
  """F1 as SQuAD 2.0 has it, which also asks what the text does not answer.

  References of which normalisation leaves nothing do not count. A question
  without any other, or without references at all, is unanswerable: 1 if nothing
  is left of the prediction either, else 0. 'unanswerable' in words scores 0.
  """
  words = normalize(prediction).split()
  return max(
    _word_f1(words, reference.split())
    if words and reference
    else float(not words and not reference)
    for reference in _squad_references(references)
  )


def squad_exact_match(
  prediction: str, references: str | Sequence[str]
) -> float:
  """Exact match as SQuAD 2.0 has it; unanswerable as in `squad_f1`."""
  return float(normalize(prediction) in _squad_references(references))


def hotpotqa_f1(prediction: str, references: str | Sequence[str]) -> float:
  """F1 as HotpotQA has it: yes and no are right or wrong, never in part.

  Where the whole of prediction or reference is 'yes', 'no' or 'noanswer' and
  the other is not the same, it scores 0: 'yes it was' against 'yes' as well.
  The exact match of HotpotQA is `exact_match`.

  Raises:
    ValueError: there is no reference.
  """
  found = normalize(prediction)
  wanted = [normalize(reference) for reference in reference_list(references)]
  return max(
    _word_f1(found.split(), reference.split())
    if found == reference or not _CLOSED_ANSWERS & {found, reference}
    else 0.0
    for reference in wanted
  )


def lloco_hotpotqa_f1(
  prediction: str, references: str | Sequence[str]
) -> float:
  """HotpotQA's F1 in LLoCO's released evaluator.

  It reads the prediction up to the first '.' ('St. Louis' becomes 'St') and has
  no rule for yes and no.

  Raises:
    ValueError: there is no reference.
  """
  return f1(prediction.split('.')[0], references)


def quality_accuracy(prediction: str, references: str | Sequence[str]) -> float:
  """1 if the first A, B, C or D that stands alone is a right choice, else 0.

  QuALITY itself scores the numbers of options and reads no text; this is how
  its questions are read in ZeroSCROLLS. Upper case alone counts, anywhere in
  the text: 'It is (B)' chooses B, but so does 'A man' choose A.

  Raises:
    ValueError: there is no reference, or one does not open with such a letter.
  """
  return _right_choice(
    prediction, references, _quality_choice, _quality_reference
  )


def lloco_quality_accuracy(
  prediction: str, references: str | Sequence[str]
) -> float:
  """QuALITY's accuracy in LLoCO's released evaluator: the first character.

  It is compared as it is with the letter that a reference opens with: ' B',
  '(B)' and 'b' are wrong where B is right, and 'Bonn' is right.

  Raises:
    ValueError: there is no reference, or one does not open with such a letter.
  """
  return _right_choice(prediction, references, _first_character)


def accuracy(prediction: str, references: str | Sequence[str]) -> float:
  """1 if the prediction opens with the letter of a right choice, else 0.

  'B', '(b)', 'b. Paris' and 'B Paris' all choose B; a prediction that opens
  with no letter standing alone chooses nothing. References are letters, alone
  or followed by the text of their choice. No benchmark's rule, but any number
  of choices.

  Raises:
    ValueError: there is no reference, or one does not open with a letter.
  """
  return _right_choice(prediction, references, _choice)


def reference_list(references: str | Sequence[str]) -> list[str]:
  """References as a list, of which there is at least one.

  Raises:
    ValueError: there is none.
  """
  if isinstance(references, str):
    return [references]
  if not references:
    raise ValueError(
      'An answer has no reference to score against; give at least one.'
    )
  return list(references)


def _word_f1(prediction: list[str], reference: list[str]) -> float:
  common = collections.Counter(prediction) & collections.Counter(reference)
  overlap = common.total()
  if overlap == 0:
    return 0.0
  precision = overlap / len(prediction)
  recall = overlap / len(reference)
  return 2 * precision * recall / (precision + recall)


def _squad_references(references: str | Sequence[str]) -> list[str]:
  if isinstance(references, str):
    references = [references]
  left = [normalize(reference) for reference in references]
  return [reference for reference in left if reference] or ['']


def _right_choice(prediction, references, choice_of, right_of=None) -> float:
  references = reference_list(references)
  letters = [(right_of or choice_of)(reference) for reference in references]
  if None in letters:
    raise ValueError(
      f'Reference {references[letters.index(None)]!r} does not open with the '
      "letter of a choice; write it as 'B' or 'B. text'."
    )
  return float(choice_of(prediction) in letters)


def _choice(text: str) -> str | None:
  match = _CHOICE.match(text)
  return match.group(1).upper() if match else None


def _quality_choice(text: str) -> str | None:
  match = _QUALITY_CHOICE.search(text)
  return match.group() if match else None


def _quality_reference(text: str) -> str | None:
  match = _QUALITY_REFERENCE.match(text)
  return match.group(1) if match else None


def _first_character(text: str) -> str | None:
  return text[0] if text[:1] in set('ABCD') else None
