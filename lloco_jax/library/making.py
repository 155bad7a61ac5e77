"""What a library is made with."""

import dataclasses

from lloco_jax.compression.schedule import CompressionConfig
from lloco_jax.model import Model
from lloco_jax.weights import sources
from lloco_jax.weights.checkpoint import load
from lloco_jax.weights.compressor import apply_compressor

# Positions kept free for a question and its answer.
RESERVE = 1024
_MOST_TOKENS = 122_880


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

  def load(self) -> Model:
    """The base with its compressor applied, if it has one of its own."""
    model = load(self.model, self.dtype)
    if not self.compressor:
      return model
    return apply_compressor(model, self.compressor)

  def compression(self, model: Model) -> CompressionConfig:
    """How its documents are cut."""
    cap = self.token_cap
    if not cap and model.config.summary_length:
      room = model.window - RESERVE
      segments = max(room // model.config.summary_length, 1)
      cap = min(segments * model.segment_length, _MOST_TOKENS)
    return CompressionConfig(
      segment_length=model.segment_length, token_cap=cap or _MOST_TOKENS
    )
