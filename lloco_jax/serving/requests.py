"""What is asked of an engine, and the answer as it comes."""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import numbers

import numpy as np

from lloco_jax.generation.sampling import GREEDY, Sampling


@dataclasses.dataclass(frozen=True, eq=False)
class Request:
  """A question behind a context.

  Attributes:
    ids: token ids of the prompt.
    context: summary vectors [n, D]; None for none.
    adapter: the name of one in the engine's bank; None for the base alone.
    max_new_tokens: tokens of the answer at most.
    sampling: how they are chosen, greedily by default.
  """

  ids: Sequence[int]
  context: np.ndarray | None = None
  adapter: str | None = None
  max_new_tokens: int = 16
  sampling: Sampling = GREEDY


def check_types(request: Request) -> None:
  """Raises ValueError where a setting of a request is of another type.

  Found later, it would hold up all other requests.
  """
  most = request.max_new_tokens
  if not isinstance(most, numbers.Integral) or most < 1:
    raise ValueError(
      f'max_new_tokens is {most!r}; it must be a whole number, 1 or more.'
    )
  if not isinstance(request.adapter, str | None):
    raise ValueError(
      f'The adapter of a request is a {type(request.adapter).__name__}; give '
      'its name in the bank.'
    )
  if not isinstance(request.sampling, Sampling):
    raise ValueError(
      f'The sampling of a request is a {type(request.sampling).__name__}; give '
      'a Sampling of lloco_jax.generation.sampling.'
    )


class Answer:
  """The answer to one request, as far as it has been generated.

  Iterating gives its tokens as they come, and makes the engine go on until
  it is done; other answers come along meanwhile.

  Attributes:
    request: what it answers.
    tokens: so far, without a stop token.
    done: no more will come.
    stopped: it is done because of a stop token.
    advance: makes the engine go on by a step.
  """

  def __init__(self, request: Request, step: Callable[[], list]):
    self.request = request
    self.tokens: list[int] = []
    self.done = False
    self.stopped = False
    self.advance = step

  def __iter__(self) -> Iterator[int]:
    return _Tokens(self)


class _Tokens(Iterator):
  """The tokens of an answer; after an error of the engine it can go on."""

  def __init__(self, answer: Answer):
    self._answer = answer
    self._given = 0

  def __next__(self) -> int:
    answer = self._answer
    while self._given >= len(answer.tokens):
      if answer.done:
        raise StopIteration
      answer.advance()
    self._given += 1
    return answer.tokens[self._given - 1]
