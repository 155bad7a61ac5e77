"""Loading a checkpoint, whatever its form."""

import dataclasses
import functools
import json

from lloco_jax.files import read_object
from lloco_jax.model import Model
from lloco_jax.nn.config import LlamaConfig, eos_ids
from lloco_jax.nn.quantize import check_quantization, quantize_params
from lloco_jax.sharding import shardings_in_use
from lloco_jax.weights import (
  gguf,
  huggingface,
  layout,
  sources,
  streaming,
)
from lloco_jax.weights.tokenizer import Tokenizer


def load(
  name,
  dtype: str = 'float32',
  quantize: str | None = None,
  shardings: streaming.Shardings = None,
) -> Model:
  """Loads a checkpoint and, where it has one, its tokenizer.

  Args:
    name: a folder, a .gguf file, a hub name 'owner/name', or 'smollm2-135m'.
    dtype: of the parameters; 'float32', 'bfloat16', 'float16' or 'float64'.
    quantize: 'int8' quantises the projections as they are read
      (nn/quantize.py).
    shardings: of the parameters: a tree of them, or a function that makes it
      of the tree of shapes; None takes those of the mesh in use, or puts all
      on the default device. Each device's shards are read straight from
      safetensors (weights/streaming.py).

  Raises:
    FileNotFoundError: there is no such checkpoint, or a file of it is missing.
    ValueError: dtype or quantisation is unknown, or the checkpoint is damaged
      or not one that this network computes.
    OSError: the checkpoint cannot be fetched.
    ImportError: its format needs a package that is not installed.
  """
  dtype = layout.numpy_dtype(dtype)
  if quantize is not None:
    check_quantization(quantize)
  path = sources.resolve(name)
  segment_length = Model.segment_length
  if path.is_dir():
    config = _folder_config(path)
    fields = json.loads((path / 'config.json').read_text('utf-8'))
    segment_length = fields.get('segment_length', segment_length)
    # First, so that its errors come before the long reading of weights.
    tokenizer = _folder_tokenizer(path, config)
    if shardings is None:
      shardings = functools.partial(shardings_in_use, config)
    params = huggingface.load_params(path, config, dtype, quantize, shardings)
  else:
    file = gguf.open_gguf(path)
    tokenizer = Tokenizer.from_gguf(file)
    config = gguf.read_config(file)
    if shardings is None:
      shardings = functools.partial(shardings_in_use, config)
    config, params = gguf.load_gguf(file, dtype, quantize, shardings)
  return Model(
    config=config,
    params=params,
    tokenizer=tokenizer,
    name=str(name),
    fingerprint=sources.fingerprint(path),
    segment_length=segment_length,
  )


def quantize(model: Model, kind: str = 'int8') -> Model:
  """The model with a quantised base, such as `load` gives it.

  For what `load` cannot quantise: a base that an adapter was merged into.

  Raises:
    ValueError: the kind is unknown, or the base is quantised already.
  """
  return dataclasses.replace(model, params=quantize_params(model.params, kind))


def load_tokenizer(name) -> Tokenizer:
  """Loads the tokenizer of a checkpoint, but not its weights.

  Raises:
    ValueError: the checkpoint has none, or is damaged.
    FileNotFoundError, OSError, ImportError: as `load`.
  """
  path = sources.resolve(name)
  if path.is_dir():
    config = _folder_config(path)
    tokenizer = _folder_tokenizer(path, config)
  else:
    tokenizer = Tokenizer.from_gguf(path)
  if tokenizer is None:
    raise ValueError(
      f"The checkpoint '{name}' has no tokenizer, so it cannot read text; put "
      'its tokenizer.json beside the weights.'
    )
  return tokenizer


def _folder_config(path) -> LlamaConfig:
  """With the tokens that end an answer by either of its two files."""
  huggingface.refuse_adapter(path)
  config = LlamaConfig.from_file(path / 'config.json')
  generation = path / 'generation_config.json'
  if not generation.is_file():
    return config
  try:
    more = eos_ids(read_object(generation))
  except ValueError as error:
    raise ValueError(
      f'{generation} is damaged ({error}); download it again.'
    ) from error
  # The first one is what texts end with in training.
  ends = tuple(dict.fromkeys((*config.eos_token_ids, *more)))
  return dataclasses.replace(config, eos_token_ids=ends)


def _folder_tokenizer(path, config: LlamaConfig) -> Tokenizer | None:
  eos_id = config.eos_token_ids[0] if config.eos_token_ids else None
  return Tokenizer.from_folder(path, eos_id)
