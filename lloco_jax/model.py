"""A loaded checkpoint: config, base parameters and tokenizer."""

import dataclasses
from typing import Any

from lloco_jax.nn.config import LlamaConfig


@dataclasses.dataclass(frozen=True)
class Model:
  """What `lloco_jax.load` returns.

  `params` is the base's tree; `tokenizer` is None where the checkpoint has
  none; `fingerprint` identifies the checkpoint's files.
  """

  config: LlamaConfig
  params: dict
  tokenizer: Any
  name: str
  fingerprint: str
