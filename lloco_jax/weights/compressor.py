"""A trained compressor beside its base: a PEFT adapter and summary tokens.

The folder holds what training changed, a few megabytes, and not the base:
adapter_config.json, adapter_model.safetensors, summary_tokens.safetensors
and compressor.json.
"""

import dataclasses
import hashlib
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from lloco_jax.model import Model
from lloco_jax.nn.lora import Adapter, merge_adapter
from lloco_jax.weights import peft
from lloco_jax.weights.huggingface import (
  open_tensors,
  write_json,
  write_safetensors,
)

FIELDS = 'compressor.json'
SUMMARY_TOKENS = 'summary_tokens.safetensors'
_TENSOR = 'embed_summary.weight'
_FILES = (FIELDS, SUMMARY_TOKENS, peft.CONFIG, peft.WEIGHTS)
# Shipped with the package, by the name of their base.
SHIPPED = {'smollm2-135m': 'smollm2_135m'}
_PACKAGE = pathlib.Path(__file__).parent.parent / 'compressors'


def shipped_compressor(base_name: str) -> pathlib.Path:
  """The folder of the compressor that the package ships for a base.

  Raises:
    ValueError: it ships none.
  """
  if base_name not in SHIPPED:
    raise ValueError(
      f"No compressor is shipped for '{base_name}', only for "
      f'{", ".join(SHIPPED)}; train one, or name its folder.'
    )
  return _PACKAGE / SHIPPED[base_name]


def save_compressor(
  folder, model: Model, adapter: Adapter, embed_summary, fields: dict
) -> None:
  """Writes the folder.

  Args:
    folder: made where it is missing.
    model: the base that was trained on, its config with the summary fields.
    adapter: the trained adapter.
    embed_summary: [K, D].
    fields: what else is worth saying: segment length, data, tokens, seed.
  """
  folder = pathlib.Path(folder)
  # Half the size; training goes on from it as well as from float32.
  peft.save_adapter(folder, adapter, model.name, np.float16)
  table = np.asarray(embed_summary, np.float32)
  write_safetensors(folder / SUMMARY_TOKENS, {_TENSOR: table})
  config = model.config
  write_json(
    folder / FIELDS,
    {
      'base': model.name,
      'base_fingerprint': model.fingerprint,
      'summary_length': config.summary_length,
      'accumulate_summary': config.accumulate_summary,
      'summary_sharpness': config.summary_sharpness,
      **fields,
    },
  )


def read_fields(folder) -> dict:
  """What compressor.json says.

  Raises:
    FileNotFoundError: the folder or one of its files is missing.
    ValueError: compressor.json is damaged.
  """
  folder = pathlib.Path(folder)
  for name in _FILES:
    if not (folder / name).is_file():
      raise FileNotFoundError(
        f'{folder / name} is missing: a compressor needs {", ".join(_FILES)}.'
      )
  path = folder / FIELDS
  try:
    fields = json.loads(path.read_text(encoding='utf-8'))
    for name in ('base', 'base_fingerprint', 'summary_length'):
      fields[name]
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f'{path} is damaged ({error!r}); copy the folder again.'
    ) from error
  return fields


def load_compressor(folder, model: Model) -> tuple[Adapter, jax.Array]:
  """The adapter and the summary embeddings [K, D] of a folder.

  Raises:
    FileNotFoundError: the folder or one of its files is missing.
    ValueError: the compressor is of another base, or damaged.
  """
  folder = pathlib.Path(folder)
  fields = read_fields(folder)
  if fields['base_fingerprint'] != model.fingerprint:
    raise ValueError(
      f"The compressor in {folder} was trained on '{fields['base']}' with "
      f'other weights than those of {model.name}; load that base.'
    )
  tensors = open_tensors(folder / SUMMARY_TOKENS)
  if set(tensors) != {_TENSOR}:
    raise ValueError(
      f'{folder / SUMMARY_TOKENS} does not hold {_TENSOR} alone; copy the '
      'folder again.'
    )
  table = tensors[_TENSOR].read()
  wanted = (fields['summary_length'], model.config.hidden_size)
  if table.shape != wanted:
    raise ValueError(
      f'{folder / SUMMARY_TOKENS} holds {list(table.shape)}, not the '
      f'{list(wanted)} that {FIELDS} and the base say; copy the folder again.'
    )
  adapter = peft.load_adapter(folder, model.config)
  return adapter, jnp.asarray(table)


def apply_compressor(model: Model, folder) -> Model:
  """The base as a compressor: adapter merged, summary tokens added.

  Raises:
    FileNotFoundError: the folder or one of its files is missing.
    ValueError: the compressor is of another base, or damaged.
  """
  folder = pathlib.Path(folder)
  adapter, table = load_compressor(folder, model)
  fields = read_fields(folder)
  config = dataclasses.replace(
    model.config,
    summary_length=fields['summary_length'],
    accumulate_summary=fields.get('accumulate_summary', True),
    summary_sharpness=fields.get('summary_sharpness', 0.0),
  )
  params = merge_adapter(model.params, adapter)
  dtype = params['norm']['scale'].dtype
  params['embed_summary'] = {'embedding': table.astype(dtype)}
  return Model(
    config=config,
    params=params,
    tokenizer=model.tokenizer,
    name=model.name,
    fingerprint=_fingerprint(model, folder),
  )


def _fingerprint(model: Model, folder: pathlib.Path) -> str:
  digest = hashlib.sha256(model.fingerprint.encode())
  for name in _FILES:
    digest.update((folder / name).read_bytes())
  return digest.hexdigest()
