"""A loaded checkpoint: config, base parameters and tokenizer."""

import dataclasses
import functools
from typing import Any

import jax

from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.joining import decoding_params, unstack_layers
from lloco_jax.nn.lora import Adapter


@dataclasses.dataclass(frozen=True)
class Model:
  """What `lloco_jax.load` returns.

  `params` is the base's tree, layers stacked; `tokenizer` is None where the
  checkpoint has none; `fingerprint` identifies the checkpoint's files;
  `segment_length` is what a compressor was trained on, in tokens; `beyond` are
  positions that contexts, questions and answers may take behind the window.
  """

  config: LlamaConfig
  params: dict
  tokenizer: Any
  name: str
  fingerprint: str
  segment_length: int = 1536
  beyond: int = 0

  @property
  def window(self) -> int:
    """Positions that a context, a question and its answer may take."""
    return self.config.max_position_embeddings + self.beyond

  @property
  def stop_tokens(self) -> tuple[int, ...]:
    """Ids that end an answer: the config's, and the tokenizer's, which
    finetuning ends answers with."""
    ends = set(self.config.eos_token_ids)
    if self.tokenizer is not None and self.tokenizer.eos_id is not None:
      ends.add(self.tokenizer.eos_id)
    return tuple(sorted(ends))

  def need_tokenizer(self):
    """The tokenizer; raises ValueError where the checkpoint has none."""
    if self.tokenizer is None:
      raise ValueError(
        f"The checkpoint '{self.name}' has no tokenizer, so it cannot read "
        'text; put its tokenizer.json beside the weights.'
      )
    return self.tokenizer

  @property
  def dtypes(self) -> str:
    """The dtypes of the parameters, which tell a quantised base, too."""
    found = {leaf.dtype.name for leaf in jax.tree.leaves(self.params)}
    return '+'.join(sorted(found))

  @property
  def decodes_stacked(self) -> bool:
    """Whether decoding takes the stacked layers, and no second copy of them.

    A TPU's compiler slices a layer's weights and cache out of the stacks
    straight into its fast memory. Others copy the slices at every token.
    """
    return jax.default_backend() == 'tpu'

  def for_decoding(self, adapter: Adapter | None = None):
    """The parameters and the adapter, with layers as decoding wants them."""
    if self.decodes_stacked:
      return self.params, adapter
    if adapter is not None:
      adapter = adapter.replace(weights=unstack_layers(adapter.weights))
    return self.unstacked_params, adapter

  @functools.cached_property
  def unstacked_params(self) -> dict:
    """The parameters one tree a layer, as decoding wants them."""
    # Also where it is first asked for while a caller's program is traced.
    with jax.ensure_compile_time_eval():
      return decoding_params(self.params)
