"""What a library is made with."""

import dataclasses

from lloco_jax.weights import sources


@dataclasses.dataclass(frozen=True)
class Making:
  """What a library is made with, fixed when it is.

  A file is cut into parts of at most `part_characters`, each a document of its
  own (0: never), and those into passages to be found. `token_cap` is the most
  tokens of a document; 0 stands for what the model's window has room for.
  """

  model: str = sources.EMBEDDED_DEFAULT
  compressor: str | None = None
  dtype: str = 'float32'
  part_characters: int = 7000
  passage_characters: int = 1000
  token_cap: int = 0

  def __post_init__(self):
    for name in ('part_characters', 'token_cap'):
      if getattr(self, name) < 0:
        raise ValueError(
          f'{name} is {getattr(self, name)}; it must be 0 or more.'
        )
    if self.passage_characters < 1:
      raise ValueError(
        f'passage_characters is {self.passage_characters}; it must be 1 or '
        'more.'
      )
