"""GGUF files of Llama networks, the format of llama.cpp."""

import pathlib
import re

from gguf import GGUFReader, quants
import numpy as np

from lloco_jax.nn.config import LlamaConfig, RopeScaling
from lloco_jax.weights import layout, streaming

_NAMES = {
  'model.embed_tokens': 'token_embd',
  'model.norm': 'output_norm',
  'lm_head': 'output',
  'input_layernorm': 'attn_norm',
  'post_attention_layernorm': 'ffn_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
}
_ROPE_FACTORS = 'rope_freqs.weight'
# One that is not listed is refused: it might decide what is computed.
_FIELDS = {
  'block_count',
  'embedding_length',
  'feed_forward_length',
  'context_length',
  'vocab_size',
  'attention.head_count',
  'attention.head_count_kv',
  'attention.key_length',
  'attention.value_length',
  'attention.layer_norm_rms_epsilon',
  'rope.dimension_count',
  'rope.freq_base',
  'rope.scale_linear',
  'rope.scaling.type',
  'rope.scaling.factor',
  'rope.scaling.original_context_length',
  'rope.scaling.finetuned',
  'expert_count',
  'expert_used_count',
}


class File:
  """An opened GGUF file: its fields, and its tensors not yet read."""

  def __init__(self, path: pathlib.Path, reader: GGUFReader):
    self.path = path
    self.tensors = {tensor.name: tensor for tensor in reader.tensors}
    self._fields = reader.fields

  def field(self, name: str, default=None):
    """The value of a metadata field, or `default`."""
    field = self._fields.get(name)
    return default if field is None else field.contents()

  def need(self, name: str):
    """The value of a metadata field.

    Raises:
      ValueError: the file does not have it.
    """
    value = self.field(name)
    if value is None:
      raise ValueError(f'{self.path} lacks the field {name}.')
    return value

  def names(self) -> list[str]:
    return list(self._fields)


def open_gguf(path) -> File:
  """Reads the header of a GGUF file.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file is truncated or of another format.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is missing: give the path of a .gguf file.'
    )
  with path.open('rb') as file:
    if file.read(4) != b'GGUF':
      raise ValueError(
        f'{path} is not a GGUF file; give a .gguf file or a checkpoint folder.'
      )
  try:
    file = File(path, GGUFReader(path))
  except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
    raise ValueError(
      f'{path} is a truncated or damaged GGUF file; download it again.'
    ) from error
  parts = file.field('split.count', 0)
  if parts > 1:
    raise ValueError(
      f'{path} is one of {parts} parts of a GGUF file, which are not read; '
      'join them with: llama-gguf-split --merge FIRST_PART FILE'
    )
  return file


def load_gguf(
  path,
  dtype='float32',
  quantize: str | None = None,
  shardings: streaming.Shardings = None,
) -> tuple[LlamaConfig, dict]:
  """The config and the parameters, dequantised and put on devices.

  A tensor is dequantised as a whole, so on several devices several times.

  Args:
    path: of the file, or the file opened by `open_gguf`.
    dtype: of the parameters.
    quantize, shardings: see `load_leaves`.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is damaged or not of a Llama network that is computed here.
  """
  dtype = layout.numpy_dtype(dtype)
  file = path if isinstance(path, File) else open_gguf(path)
  config = read_config(file)
  places = {_name(key): slot for key, slot in layout.slots(config).items()}
  shapes = {
    name: tuple(int(size) for size in reversed(tensor.shape))
    for name, tensor in file.tensors.items()
    if name != _ROPE_FACTORS
  }
  layout.check(places, shapes, file.path)
  for kind, name in {
    file.tensors[name].tensor_type: name for name in places
  }.items():
    try:
      quants.dequantize(file.tensors[name].data[:1], kind)
    except NotImplementedError as error:
      raise ValueError(
        f'{file.path}: {name} is of the type {kind.name}, which cannot be '
        'dequantised; use a file with another quantisation.'
      ) from error
  heads = {
    'q_proj': config.num_attention_heads,
    'k_proj': config.num_key_value_heads,
  }
  tensors = {
    name: _lazy(file.tensors[name], shapes[name], heads.get(slot.path[-2]))
    for name, slot in places.items()
  }
  params = streaming.load_leaves(places, tensors, dtype, quantize, shardings)
  return config, params


def read_config(file: File) -> LlamaConfig:
  """The network's shape from the fields and the names of the tensors.

  Raises:
    ValueError: the file is of a network that is not computed here.
  """
  kind = file.need('general.architecture')
  if kind != 'llama':
    raise ValueError(
      f"{file.path} is of the architecture '{kind}'; only 'llama' is supported."
    )
  for name in file.names():
    if name.startswith('llama.') and name[len('llama.') :] not in _FIELDS:
      raise ValueError(
        f'{file.path}: {name} is {file.field(name)!r}, which is not supported.'
      )
  if file.field('llama.expert_count'):
    raise ValueError(
      f'{file.path} is a mixture of experts, which is not supported.'
    )
  layers = file.need('llama.block_count')
  heads = _same_in_all_layers(file, 'attention.head_count')
  width = file.need('llama.embedding_length')
  head_dim = file.field('llama.attention.key_length', width // heads)
  for name in ('attention.value_length', 'rope.dimension_count'):
    if file.field(f'llama.{name}', head_dim) != head_dim:
      raise ValueError(
        f'{file.path}: llama.{name} is {file.field(f"llama.{name}")}, but the '
        f'heads are {head_dim} wide; only equal ones are supported.'
      )
  ends = [
    file.field(f'tokenizer.ggml.{name}_token_id') for name in ('eos', 'eot')
  ]
  return LlamaConfig(
    vocab_size=int(_tensor(file, 'token_embd.weight').shape[1]),
    hidden_size=width,
    intermediate_size=_same_in_all_layers(file, 'feed_forward_length'),
    num_hidden_layers=layers,
    num_attention_heads=heads,
    num_key_value_heads=_same_in_all_layers(
      file, 'attention.head_count_kv', heads
    ),
    head_dim=head_dim,
    max_position_embeddings=file.need('llama.context_length'),
    rms_norm_eps=_shortest(file.need('llama.attention.layer_norm_rms_epsilon')),
    rope_theta=_shortest(file.field('llama.rope.freq_base', 10_000.0)),
    rope_scaling=_rope_scaling(file, head_dim),
    tie_word_embeddings='output.weight' not in file.tensors,
    attention_bias='blk.0.attn_q.bias' in file.tensors,
    mlp_bias='blk.0.ffn_up.bias' in file.tensors,
    bos_token_id=file.field('tokenizer.ggml.bos_token_id'),
    eos_token_ids=tuple(dict.fromkeys(id_ for id_ in ends if id_ is not None)),
    pad_token_id=file.field('tokenizer.ggml.padding_token_id'),
  )


def _name(name: str) -> str:
  """The GGUF name of a tensor, from its Hugging Face name."""
  stem, _, kind = name.rpartition('.')
  match = re.fullmatch(r'model\.layers\.(\d+)\.(.+)', stem)
  if match:
    return f'blk.{match[1]}.{_NAMES[match[2]]}.{kind}'
  return f'{_NAMES[stem]}.{kind}'


def _lazy(tensor, shape: tuple[int, ...], heads: int | None) -> layout.Tensor:
  """A tensor of the file that is dequantised when it is read."""

  def read(index=...):
    values = quants.dequantize(tensor.data, tensor.tensor_type)
    return (_unpermute(values, heads) if heads else values)[index]

  return layout.Tensor(shape, read)


def _unpermute(values: np.ndarray, heads: int) -> np.ndarray:
  """Undoes llama.cpp's order of the rows of q and k.

  It rotates neighbouring pairs where Hugging Face rotates halves, so within a
  head its row 2 i + j is our row j H / 2 + i.
  """
  pairs = values.reshape(heads, -1, 2, *values.shape[1:])
  return pairs.swapaxes(1, 2).reshape(values.shape)


def _tensor(file: File, name: str):
  if name not in file.tensors:
    raise ValueError(f'{file.path} lacks {name}; download it again.')
  return file.tensors[name]


def _same_in_all_layers(file: File, name: str, default=None) -> int:
  value = file.field(f'llama.{name}', default)
  if value is None:
    value = file.need(f'llama.{name}')
  if isinstance(value, list):
    if len(set(value)) != 1:
      raise ValueError(
        f'{file.path}: llama.{name} differs by layer, which is not supported.'
      )
    value = value[0]
  return int(value)


def _shortest(value: float) -> float:
  """The decimal that a float32 field was written from."""
  return float(str(np.float32(value)))


def _rope_scaling(file: File, head_dim: int) -> RopeScaling | None:
  factor = file.field('llama.rope.scaling.factor')
  # Where the type is left out, llama.cpp takes it for linear.
  kind = file.field('llama.rope.scaling.type', 'linear' if factor else 'none')
  if factor is None:
    factor = file.field('llama.rope.scale_linear', 1.0)
    kind = 'linear' if factor != 1.0 else kind
  if kind not in ('none', 'linear'):
    raise ValueError(
      f"{file.path}: rope scaling '{kind}' is not supported; "
      'use a checkpoint with linear, llama3 or none.'
    )
  if _ROPE_FACTORS in file.tensors:
    if factor != 1.0:
      raise ValueError(
        f'{file.path} scales rotary positions by {factor} and by a tensor of '
        'factors, which is not supported; use a checkpoint with one of both.'
      )
    return _llama3_scaling(file, head_dim)
  return RopeScaling('linear', _shortest(factor)) if kind == 'linear' else None


def _llama3_scaling(file: File, head_dim: int) -> RopeScaling:
  """The llama3 rule behind a tensor of factors, one a rotated pair.

  The tensor alone does not say the rule's constants; those of Llama 3.1 and
  3.2 (1, 4 and 8,192 positions) are tried, with the largest factor.
  """
  factors = np.asarray(file.tensors[_ROPE_FACTORS].data, np.float64).ravel()
  theta = _shortest(file.field('llama.rope.freq_base', 10_000.0))
  rule = RopeScaling('llama3', factor=_shortest(factors.max()))
  turns = (
    rule.original_max_position_embeddings
    * theta ** (-np.arange(0, head_dim, 2) / head_dim)
    / (2 * np.pi)
  )
  share = np.clip(
    (turns - rule.low_freq_factor)
    / (rule.high_freq_factor - rule.low_freq_factor),
    0,
    1,
  )
  expected = 1 / ((1 - share) / rule.factor + share)
  if factors.shape != expected.shape or not np.allclose(
    factors, expected, rtol=1e-4
  ):
    raise ValueError(
      f'{file.path}: {_ROPE_FACTORS} is not the scaling of Llama 3.1 or 3.2; '
      'use the checkpoint in the Hugging Face format.'
    )
  return rule
