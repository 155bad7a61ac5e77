"""What becomes of a question and an answer that a model has made up.

A small model's are often of no use. The checks are plain ones, by words, so
that what they refuse and why can be read beside what was kept.
"""

from collections.abc import Iterable
import re

from lloco_jax.data.examples import Example
from lloco_jax.evaluation.metrics import normalize

MOST_QUESTION_WORDS = 30
MOST_ANSWER_WORDS = 40
# Of an answer's words, those that the passage has.
LEAST_SUPPORT = 0.8
# Half of a question's words of so many letters have to be of the passage.
_CONTENT_LETTERS = 4
_ASKING = frozenset('what when where which whose whom many much does'.split())
# A question has to be understood where the passage is not seen.
_POINTING = re.compile(
  r'\b(this|the|above|following|given) (passage|text|article|document|excerpt|'
  r'paragraph|author|writer|narrator|speaker|story)\b',
  re.IGNORECASE,
)
_REFUSALS = re.compile(
  r"^(sorry|unanswerable|unknown|n/a|i('m| am) (sorry|not)|as an ai|"
  r"i (can't|cannot|don't|do not))\b"
  r'|\bnot (mentioned|specified|stated|provided|given|clear|known)\b'
  r"|\b(doesn't|does not|didn't|did not) (say|mention|specify|provide|state)\b"
  r'|\bno (information|mention|answer)\b'
  r'|\bcannot be (determined|answered|known)\b',
  re.IGNORECASE,
)


def fault(
  question: str, answer: str, passage: str, ended: bool = True
) -> str | None:
  """Why a pair is refused, in a few words; None where it is kept.

  Args:
    question: that was asked about the passage.
    answer: of the model that read it.
    passage: that both are about.
    ended: the answer came to its end.
  """
  asked, said, read = (
    normalize(x).split() for x in (question, answer, passage)
  )
  if not question.endswith('?') or len(asked) < 3:
    return 'no question'
  if not said:
    return 'empty answer'
  if len(asked) > MOST_QUESTION_WORDS:
    return 'question too long'
  if not ended or len(said) > MOST_ANSWER_WORDS:
    return 'answer too long'
  if _POINTING.search(question):
    return 'question points at the text'
  known = set(read)
  content = [
    word
    for word in asked
    if len(word) >= _CONTENT_LETTERS and word not in _ASKING
  ]
  if 2 * sum(word in known for word in content) < max(len(content), 1):
    return 'question about something else'
  if _REFUSALS.search(answer):
    return 'refusal'
  if set(said) <= set(asked):
    return 'answer repeats the question'
  if sum(word in known for word in said) < LEAST_SUPPORT * len(said):
    return 'answer not in the passage'
  return None


class Seen:
  """Tells pairs that are there already from new ones.

  A document is asked a question once, and a question has an answer once.
  """

  def __init__(self, pairs: Iterable[Example] = ()):
    self._keys = set()
    for pair in pairs:
      self.add(pair)

  def __contains__(self, pair: Example) -> bool:
    return not self._keys.isdisjoint(_keys(pair))

  def add(self, pair: Example) -> None:
    self._keys.update(_keys(pair))


def _keys(pair: Example):
  question = normalize(pair.question)
  return {
    (question, pair.document_ids),
    (question, normalize(pair.answers[0])),
  }
