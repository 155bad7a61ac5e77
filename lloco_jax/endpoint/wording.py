"""The text of an answer, piece by piece, up to a text that ends it."""

from collections.abc import Sequence

from lloco_jax.generation.stream import FirstLine


class StoppedLine:
  """The first line of an answer up to the first of the texts that end it.

  What may become such a text is held back until it is known not to.

  Args:
    tokenizer: of the answer's tokens.
    stop: texts that end it, none empty.
  """

  def __init__(self, tokenizer, stop: Sequence[str] = ()):
    self._line, self._stop = FirstLine(tokenizer), stop
    self._given = ''
    self.done = False

  @property
  def text(self) -> str:
    """All that was given so far."""
    return self._given

  def add(self, token: int) -> str:
    """What a token adds that is certain, maybe nothing."""
    self._line.add(token)
    text = self._line.text
    ends = [found for each in self._stop if (found := text.find(each)) >= 0]
    if ends:
      self.done = True
      return self._give(text[: min(ends)])
    if self._line.done:
      self.done = True
      return self._give(text)
    held = max((_overlap(text, each) for each in self._stop), default=0)
    return self._give(text[: len(text) - held])

  def end(self) -> str:
    """What was held back, once there are no more tokens."""
    return '' if self.done else self._give(self._line.text)

  def _give(self, text: str) -> str:
    piece = text[len(self._given) :]
    self._given += piece
    return piece


def _overlap(text: str, stop: str) -> int:
  """How many characters of the text's end are a stop's beginning."""
  for length in range(min(len(text), len(stop) - 1), 0, -1):
    if text.endswith(stop[:length]):
      return length
  return 0
