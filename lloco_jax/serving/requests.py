"""What is asked of an engine, and the answer as it comes."""

from collections.abc import Callable, Iterator, Sequence
import dataclasses

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


class Answer:
  """The answer to one request, as far as it has been generated.

  Iterating gives its tokens as they come, and makes the engine go on until
  it is done; other answers come along meanwhile.

  Attributes:
    request: what it answers.
    tokens: so far, without a stop token.
    done: no more will come.
    stopped: it is done because of a stop token.
  """

  def __init__(self, request: Request, step: Callable[[], list]):
    self.request = request
    self.tokens: list[int] = []
    self.done = False
    self.stopped = False
    self._step = step

  def __iter__(self) -> Iterator[int]:
    given = 0
    while given < len(self.tokens) or not self.done:
      if given < len(self.tokens):
        yield self.tokens[given]
        given += 1
      else:
        self._step()
