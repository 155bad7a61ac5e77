"""The shape of a Llama-family network, read from a Hugging Face config."""

import dataclasses
import pathlib

import numpy as np

from lloco_jax.files import read_object


@dataclasses.dataclass(frozen=True)
class RopeScaling:
  """Scaling of the rotary frequencies: 'linear' or 'llama3'."""

  kind: str
  factor: float
  low_freq_factor: float = 1.0
  high_freq_factor: float = 4.0
  original_max_position_embeddings: int = 8192


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
  """Everything the network needs to know; names follow Hugging Face."""

  vocab_size: int
  hidden_size: int
  intermediate_size: int
  num_hidden_layers: int
  num_attention_heads: int
  num_key_value_heads: int
  head_dim: int
  max_position_embeddings: int
  rms_norm_eps: float = 1e-6
  rope_theta: float = 10_000.0
  rope_scaling: RopeScaling | None = None
  tie_word_embeddings: bool = False
  attention_bias: bool = False
  mlp_bias: bool = False
  bos_token_id: int | None = None
  eos_token_ids: tuple[int, ...] = ()
  pad_token_id: int | None = None
  # AutoCompressor: summary tokens appended to a segment (0: not a compressor).
  summary_length: int = 0
  accumulate_summary: bool = True
  # Ours: 0 takes the final hidden states for summary vectors, as the
  # reference does. Above 0 each is the mean of all token embeddings, weighted
  # by softmax(summary_sharpness * its logits): a vector such as the base has
  # always read, which a compressor trained on few tokens would not find.
  summary_sharpness: float = 0.0
  # Ours: each summary token stands behind its own run of the segment, not all
  # at the end, so that it finds its tokens right before it (Zhang et al. 2024,
  # arXiv 2401.03462).
  summary_interleaved: bool = False

  @classmethod
  def from_huggingface(cls, fields: dict) -> 'LlamaConfig':
    """Builds the config from the fields of a `config.json`.

    Raises:
      ValueError: a field asks for something this network does not compute.
    """
    kind = fields.get('model_type', 'llama')
    if kind != 'llama':
      raise ValueError(
        f"config.json: model_type is '{kind}'; only 'llama' is supported."
      )
    activation = fields.get('hidden_act', 'silu')
    if activation not in ('silu', 'swish'):
      raise ValueError(
        f"config.json: hidden_act is '{activation}'; only 'silu' is supported."
      )
    if fields.get('quantization_config'):
      raise ValueError(
        'config.json: the checkpoint is quantised (quantization_config); use '
        'one in bfloat16, float16 or float32, or a GGUF file.'
      )
    # transformers 5 moved the rotary settings into `rope_parameters`.
    rope = fields.get('rope_parameters') or {}
    for name, only in (('partial_rotary_factor', 1), ('attention_dropout', 0)):
      found = {**rope, **fields}.get(name, only)
      if found != only:
        raise ValueError(
          f'config.json: {name} is {found}; only {only} is supported.'
        )
    heads = fields['num_attention_heads']
    kv_heads = fields.get('num_key_value_heads') or heads
    if heads % kv_heads:
      raise ValueError(
        f'config.json: num_attention_heads is {heads}, which '
        f'num_key_value_heads, {kv_heads}, does not divide.'
      )
    head_dim = fields.get('head_dim') or fields['hidden_size'] // heads
    if head_dim % 2:
      raise ValueError(
        f'config.json: head_dim is {head_dim}; rotary positions need an even '
        'one.'
      )
    try:
      eos = eos_ids(fields)
    except ValueError as error:
      raise ValueError(f'config.json: {error}') from None
    theta = rope.get('rope_theta') or fields.get('rope_theta') or 10_000.0
    return cls(
      vocab_size=fields['vocab_size'],
      hidden_size=fields['hidden_size'],
      intermediate_size=fields['intermediate_size'],
      num_hidden_layers=fields['num_hidden_layers'],
      num_attention_heads=heads,
      num_key_value_heads=kv_heads,
      head_dim=head_dim,
      max_position_embeddings=fields.get('max_position_embeddings', 2048),
      rms_norm_eps=fields.get('rms_norm_eps', 1e-6),
      rope_theta=float(theta),
      rope_scaling=_rope_scaling(fields.get('rope_scaling') or rope, fields),
      tie_word_embeddings=bool(fields.get('tie_word_embeddings', False)),
      attention_bias=bool(fields.get('attention_bias', False)),
      mlp_bias=bool(fields.get('mlp_bias', False)),
      bos_token_id=fields.get('bos_token_id'),
      eos_token_ids=eos,
      pad_token_id=fields.get('pad_token_id'),
      summary_length=fields.get('summary_length') or 0,
      accumulate_summary=bool(fields.get('accumulate_summary', True)),
      summary_sharpness=float(fields.get('summary_sharpness', 0.0)),
      summary_interleaved=bool(fields.get('summary_interleaved', False)),
    )

  @classmethod
  def from_file(cls, path) -> 'LlamaConfig':
    """Reads a Hugging Face `config.json`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is not a config this network can compute.
    """
    path = pathlib.Path(path)
    if not path.is_file():
      raise FileNotFoundError(
        f'{path} is missing: a checkpoint folder needs its config.json.'
      )
    fields = read_object(path)
    try:
      return cls.from_huggingface(fields)
    except KeyError as error:
      raise ValueError(f'{path} lacks the field {error}.') from error

  def check_ids(self, ids, what: str) -> None:
    """Raises ValueError where token ids of `what` are not in the vocabulary."""
    ids = np.asarray(ids)
    for worst in (ids.min(), ids.max()) if ids.size else ():
      if not 0 <= worst < self.vocab_size:
        raise ValueError(
          f"{what} has the token id {worst}, outside the model's vocabulary of "
          f'{self.vocab_size}; the tokenizer is of another checkpoint.'
        )

  def to_huggingface(self) -> dict:
    """The fields of a `config.json` that `from_huggingface` reads back."""
    fields = dataclasses.asdict(self)
    fields['model_type'] = 'llama'
    fields['hidden_act'] = 'silu'
    eos = fields.pop('eos_token_ids')
    fields['eos_token_id'] = list(eos) if len(eos) > 1 else (eos or (None,))[0]
    scaling = fields['rope_scaling']
    if scaling:
      scaling['rope_type'] = scaling.pop('kind')
    return fields


def eos_ids(fields: dict) -> tuple[int, ...]:
  """Of `eos_token_id`, a number, several or none; ValueError for others."""
  found = fields.get('eos_token_id')
  listed = found if isinstance(found, list) else [found]
  if found is None:
    return ()
  if not all(isinstance(id_, int) for id_ in listed):
    raise ValueError(f'eos_token_id is {found!r}; it must be a token id.')
  return tuple(listed)


def _rope_scaling(fields: dict, config: dict) -> RopeScaling | None:
  if not isinstance(fields, dict):
    raise ValueError(
      f'config.json: rope_scaling is {fields!r}; it must be an object.'
    )
  kind = fields.get('rope_type') or fields.get('type') or 'default'
  if kind == 'default':
    return None
  if kind not in ('linear', 'llama3'):
    raise ValueError(
      f"config.json: rope scaling '{kind}' is not supported; "
      "use a checkpoint with 'linear', 'llama3' or none."
    )
  # As transformers has it, where the scaling does not say.
  window = config.get('max_position_embeddings', 2048)
  fields = {'original_max_position_embeddings': window, **fields}
  given = {
    field.name: fields[field.name]
    for field in dataclasses.fields(RopeScaling)
    if field.name in fields
  }
  if 'factor' not in given:
    raise ValueError(f"config.json: rope scaling '{kind}' lacks its factor.")
  return RopeScaling(kind=kind, **given)
