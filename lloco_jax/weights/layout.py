"""The base's tree of parameters, and where a checkpoint's tensors go in it.

Files hold one tensor a layer with kernels [out, in]; the tree stacks the
layers on a leading axis and holds kernels [in, out].
"""

import collections
import dataclasses

import jax
import ml_dtypes
import numpy as np

from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.lora import block_of, projection_shapes

DTYPES = {
  'float32': np.dtype(np.float32),
  'bfloat16': np.dtype(ml_dtypes.bfloat16),
  'float16': np.dtype(np.float16),
  'float64': np.dtype(np.float64),
}
# One tensor of an opened file: its shape is known. `read()` gives its values,
# `read(index)` those of a slice for each axis.
Tensor = collections.namedtuple('Tensor', 'shape read')


@dataclasses.dataclass(frozen=True)
class Slot:
  """The place of one tensor: its leaf in the tree, and its shape in files."""

  path: tuple[str, ...]
  layer: int | None
  shape: tuple[int, ...]


def numpy_dtype(name) -> np.dtype:
  """The numpy dtype of 'float32', 'bfloat16', 'float16' or 'float64'.

  Raises:
    ValueError: the name is none of these, or JAX is not in the mode for it.
  """
  dtype = DTYPES.get(name if isinstance(name, str) else np.dtype(name).name)
  if dtype is None:
    raise ValueError(f"dtype is '{name}'; choose from {', '.join(DTYPES)}.")
  if dtype == 'float64' and not jax.config.jax_enable_x64:
    raise ValueError(
      "dtype 'float64' needs JAX's 64-bit mode; call "
      "jax.config.update('jax_enable_x64', True) first."
    )
  return dtype


def slots(config: LlamaConfig) -> dict[str, Slot]:
  """The slot of every tensor of the network, by its Hugging Face name."""
  vocab, width = config.vocab_size, config.hidden_size
  found = {
    'model.embed_tokens.weight': Slot(
      ('embed_tokens', 'embedding'), None, (vocab, width)
    ),
    'model.norm.weight': Slot(('norm', 'scale'), None, (width,)),
  }
  if config.summary_length:
    found['embed_summary.weight'] = Slot(
      ('embed_summary', 'embedding'), None, (config.summary_length, width)
    )
  if not config.tie_word_embeddings:
    found['lm_head.weight'] = Slot(('lm_head', 'kernel'), None, (vocab, width))
  for layer in range(config.num_hidden_layers):
    prefix = f'model.layers.{layer}'
    for norm in ('input_layernorm', 'post_attention_layernorm'):
      found[f'{prefix}.{norm}.weight'] = Slot(
        ('layers', norm, 'scale'), layer, (width,)
      )
    for name, (inputs, outputs) in projection_shapes(config).items():
      block = block_of(name)
      path = ('layers', block, name)
      found[f'{prefix}.{block}.{name}.weight'] = Slot(
        (*path, 'kernel'), layer, (outputs, inputs)
      )
      biased = (
        config.attention_bias if block == 'self_attn' else config.mlp_bias
      )
      if biased:
        found[f'{prefix}.{block}.{name}.bias'] = Slot(
          (*path, 'bias'), layer, (outputs,)
        )
  return found


def check(places: dict[str, Slot], shapes: dict[str, tuple], source) -> None:
  """Compares the tensors of a checkpoint with those the network needs.

  Args:
    places: the slot of every tensor needed, by its name in the file.
    shapes: the shape of every tensor there.
    source: the file or folder, for the message.

  Raises:
    ValueError: tensors are missing, or too many, or have other shapes.
  """
  extra = [name for name in shapes if name not in places]
  if extra:
    raise ValueError(
      f'{source} holds {_some(extra)}, which a network of its config does not '
      f'have{_reason(extra[0])}.'
    )
  missing = [name for name in places if name not in shapes]
  if missing:
    raise ValueError(
      f'{source} lacks {_some(missing)}; the download is incomplete, or '
      'the config belongs to another checkpoint.'
    )
  for name, slot in places.items():
    if tuple(shapes[name]) != slot.shape:
      raise ValueError(
        f'{source}: {name} has shape {tuple(shapes[name])}, but the config '
        f'asks for {slot.shape}; the config belongs to another checkpoint.'
      )


def take(params: dict, slot: Slot) -> np.ndarray:
  """Reads one tensor of the tree as files hold it."""
  leaf = params
  for key in slot.path:
    leaf = leaf[key]
  tensor = np.asarray(leaf if slot.layer is None else leaf[slot.layer])
  return np.ascontiguousarray(tensor.T if is_kernel(slot.path) else tensor)


def is_kernel(path: tuple[str, ...]) -> bool:
  """Whether a leaf is a matrix, which files hold turned."""
  return path[-1] == 'kernel'


def _some(names: list[str]) -> str:
  more = len(names) - 1
  return names[0] + (f' and {more} other tensors' if more else '')


def _reason(name: str) -> str:
  if 'embed_summary' in name:
    return ' (summary_length is 0: set it to the rows of that tensor)'
  if name.endswith('.bias'):
    return ' (attention_bias and mlp_bias say which biases there are)'
  return ''
