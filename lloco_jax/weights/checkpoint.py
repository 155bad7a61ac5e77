"""Loading a checkpoint, whatever its form."""

import jax
import jax.numpy as jnp

from lloco_jax.model import Model
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.weights import gguf, huggingface, layout, sources
from lloco_jax.weights.tokenizer import Tokenizer


def load(name, dtype: str = 'float32') -> Model:
  """Loads a checkpoint and, where it has one, its tokenizer.

  Args:
    name: a folder, a .gguf file, a hub name 'owner/name', or 'smollm2-135m'.
    dtype: of the parameters; 'float32', 'bfloat16', 'float16' or 'float64'.

  Raises:
    FileNotFoundError: there is no such checkpoint, or a file of it is missing.
    ValueError: the dtype is unknown, or the checkpoint is damaged or not one
      that this network computes.
    OSError: the checkpoint cannot be fetched.
    ImportError: its format needs a package that is not installed.
  """
  dtype = layout.numpy_dtype(dtype)
  if dtype == 'float64' and not jax.config.jax_enable_x64:
    raise ValueError(
      "dtype 'float64' needs JAX's 64-bit mode; call "
      "jax.config.update('jax_enable_x64', True) first."
    )
  path = sources.resolve(name)
  if path.is_dir():
    config = LlamaConfig.from_file(path / 'config.json')
    # First, so that its errors come before the long reading of weights.
    tokenizer = _folder_tokenizer(path, config)
    params = huggingface.load_params(path, config, dtype)
  else:
    file = gguf.open_gguf(path)
    tokenizer = Tokenizer.from_gguf(file)
    config, params = gguf.load_gguf(file, dtype)
  return Model(
    config=config,
    params=_to_device(params),
    tokenizer=tokenizer,
    name=str(name),
    fingerprint=sources.fingerprint(path),
  )


def load_tokenizer(name) -> Tokenizer:
  """Loads the tokenizer of a checkpoint, but not its weights.

  Raises:
    ValueError: the checkpoint has none, or is damaged.
    FileNotFoundError, OSError, ImportError: as `load`.
  """
  path = sources.resolve(name)
  if path.is_dir():
    config = LlamaConfig.from_file(path / 'config.json')
    tokenizer = _folder_tokenizer(path, config)
  else:
    tokenizer = Tokenizer.from_gguf(path)
  if tokenizer is None:
    raise ValueError(
      f"The checkpoint '{name}' has no tokenizer, so it cannot read text; put "
      'its tokenizer.json beside the weights.'
    )
  return tokenizer


def _folder_tokenizer(path, config: LlamaConfig) -> Tokenizer | None:
  eos_id = config.eos_token_ids[0] if config.eos_token_ids else None
  return Tokenizer.from_folder(path, eos_id)


def _to_device(params: dict) -> dict:
  """Moves the tree leaf by leaf, letting go of each on the host."""
  for key, value in params.items():
    if isinstance(value, dict):
      _to_device(value)
    else:
      params[key] = jnp.asarray(value)
  return params
