"""The base's tree of parameters, and where a checkpoint's tensors go in it.

Files hold one tensor a layer with kernels [out, in]; the tree stacks the
layers on a leading axis and holds kernels [in, out].
"""

import dataclasses

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
_STRIP = 16  # rows


@dataclasses.dataclass(frozen=True)
class Slot:
  """The place of one tensor: its leaf in the tree, and its shape in files."""

  path: tuple[str, ...]
  layer: int | None
  shape: tuple[int, ...]


def numpy_dtype(name) -> np.dtype:
  """The numpy dtype of 'float32', 'bfloat16', 'float16' or 'float64'.

  Raises:
    ValueError: the name is none of these.
  """
  dtype = DTYPES.get(name if isinstance(name, str) else np.dtype(name).name)
  if dtype is None:
    raise ValueError(f"dtype is '{name}'; choose from {', '.join(DTYPES)}.")
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


def allocate(config: LlamaConfig, dtype: np.dtype) -> dict:
  """The tree of parameters, its arrays not yet filled."""
  params = {}
  for slot in slots(config).values():
    node = _parent(params, slot)
    if slot.path[-1] in node:
      continue
    shape = slot.shape[::-1] if _is_kernel(slot) else slot.shape
    if slot.layer is not None:
      shape = (config.num_hidden_layers, *shape)
    node[slot.path[-1]] = np.empty(shape, dtype)
  return params


def put(params: dict, slot: Slot, tensor: np.ndarray) -> None:
  """Writes one tensor of a file into its place in the tree."""
  leaf = _parent(params, slot)[slot.path[-1]]
  target = leaf if slot.layer is None else leaf[slot.layer]
  if not _is_kernel(slot):
    target[...] = tensor
    return
  # In strips that stay in the processor's cache, which is up to ten times as
  # fast for large matrices as turning them in one go.
  for start in range(0, len(tensor), _STRIP):
    target[:, start : start + _STRIP] = tensor[start : start + _STRIP].T


def take(params: dict, slot: Slot) -> np.ndarray:
  """Reads one tensor of the tree as files hold it."""
  leaf = _parent(params, slot)[slot.path[-1]]
  tensor = np.asarray(leaf if slot.layer is None else leaf[slot.layer])
  return np.ascontiguousarray(tensor.T if _is_kernel(slot) else tensor)


def _is_kernel(slot: Slot) -> bool:
  return slot.path[-1] == 'kernel'


def _parent(params: dict, slot: Slot) -> dict:
  for key in slot.path[:-1]:
    params = params.setdefault(key, {})
  return params


def _some(names: list[str]) -> str:
  more = len(names) - 1
  return names[0] + (f' and {more} other tensors' if more else '')


def _reason(name: str) -> str:
  if 'embed_summary' in name:
    return ' (summary_length is 0: set it to the rows of that tensor)'
  if name.endswith('.bias'):
    return ' (attention_bias and mlp_bias say which biases there are)'
  return ''
