"""LLoCO in JAX: long documents learnt offline, answered from summaries."""

from lloco_jax.api import (
  compress,
  forward,
  generate,
  load_adapter,
  loss,
  save_adapter,
)
from lloco_jax.library.asking import ask
from lloco_jax.library.library import Library
from lloco_jax.weights.checkpoint import load, quantize
from lloco_jax.weights.compressor import apply_compressor

__all__ = [
  'Library',
  'apply_compressor',
  'ask',
  'compress',
  'finetune',
  'forward',
  'generate',
  'load',
  'load_adapter',
  'loss',
  'quantize',
  'save_adapter',
]


def __getattr__(name):
  # Its checkpoints come with a package that sets up logging for all.
  if name == 'finetune':
    from lloco_jax.adapters import finetune

    return finetune
  raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
