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

from lloco_jax.files import named_path
from lloco_jax.model import Model
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.lora import Adapter, merge_adapter
from lloco_jax.sharding import place_tree
from lloco_jax.weights import peft
from lloco_jax.weights.huggingface import (
  open_tensors,
  save_params,
  write_json,
  write_safetensors,
)

FIELDS = 'compressor.json'
SUMMARY_TOKENS = 'summary_tokens.safetensors'
# Of the config, that decide what a vector is.
_SUMMARY_FIELDS = (
  'summary_length',
  'accumulate_summary',
  'summary_sharpness',
  'summary_interleaved',
)
_TENSOR = 'embed_summary.weight'
_FILES = (FIELDS, SUMMARY_TOKENS, peft.CONFIG, peft.WEIGHTS)
# Shipped with the package: folders by the name of their base and the word
# behind 'shipped:', '' for the one that is meant without.
SHIPPED = {'smollm2-135m': {'': 'smollm2_135m', 'texts': 'smollm2_135m_texts'}}
_PACKAGE = pathlib.Path(__file__).parent.parent / 'compressors'


def compressor_folder(name: str, base_name: str) -> pathlib.Path:
  """The folder that a config names; 'shipped' and 'shipped:WORD' of a base.

  Raises:
    ValueError: the package ships none for the base, or none so called.
  """
  shipped, _, word = str(name).partition(':')
  if shipped != 'shipped':
    return named_path(name)
  if base_name not in SHIPPED:
    raise ValueError(
      f"No compressor is shipped for '{base_name}', only for "
      f'{", ".join(SHIPPED)}; name the folder of one that was trained for it, '
      'or none where the checkpoint is an AutoCompressor itself.'
    )
  folders = SHIPPED[base_name]
  if word not in folders:
    words = ', '.join(f"'shipped:{each}'" for each in folders if each)
    raise ValueError(
      f"No compressor '{name}' is shipped for '{base_name}'; use 'shipped' or "
      f'{words}.'
    )
  return _PACKAGE / folders[word]


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
  folder = named_path(folder)
  # A kill leaves no compressor rather than a mixture of two.
  (folder / FIELDS).unlink(missing_ok=True)
  # Half the size; training goes on from it as well as from float32.
  peft.save_adapter(folder, adapter, model.name, np.float16, model.fingerprint)
  table = np.asarray(embed_summary, np.float32)
  write_safetensors(folder / SUMMARY_TOKENS, {_TENSOR: table})
  config = model.config
  write_json(
    folder / FIELDS,
    {
      'base': model.name,
      'base_fingerprint': model.fingerprint,
      **{name: getattr(config, name) for name in _SUMMARY_FIELDS},
      **fields,
    },
  )


def save_autocompressor(
  folder, params: dict, config, tokenizer, segment_length: int
) -> None:
  """Writes a compressor that is a checkpoint of its own, with its tokenizer.

  Args:
    folder: made where it is missing.
    params: all of the base's, and the summary embeddings.
    config: with the summary fields.
    tokenizer: of the base.
    segment_length: tokens of the longest segments it was trained on.
  """
  folder = named_path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  # Written last, it makes a checkpoint of the folder.
  (folder / 'config.json').unlink(missing_ok=True)
  tokenizer.backend.save(str(folder / 'tokenizer.json'))
  if tokenizer.eos_id is not None:
    token = tokenizer.backend.id_to_token(tokenizer.eos_id)
    write_json(folder / 'tokenizer_config.json', {'eos_token': token})
  save_params(folder, params, config, segment_length=segment_length)


def read_fields(folder) -> dict:
  """What compressor.json says.

  Raises:
    FileNotFoundError: the folder or one of its files is missing.
    ValueError: compressor.json is damaged.
  """
  folder = named_path(folder)
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
    strange = [
      name
      for name in fields
      if 'summary' in name and name not in _SUMMARY_FIELDS
    ]
    if strange:
      raise ValueError(f'unknown field {strange[0]}')
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f'{path} is damaged ({error!r}); copy the folder again.'
    ) from error
  return fields


def load_compressor(folder, model: Model) -> tuple[Adapter, jax.Array]:
  """The adapter and the summary embeddings [K, D] of a folder.

  Raises:
    FileNotFoundError: the folder or one of its files is missing.
    ValueError: the compressor is of another base, or damaged; or the model's
      config has other summary fields than the folder's.
  """
  folder = named_path(folder)
  fields = read_fields(folder)
  if fields['base_fingerprint'] != model.fingerprint:
    raise ValueError(
      f"The compressor in {folder} was trained on '{fields['base']}' with "
      f'other weights, or another config.json, than those of {model.name}; '
      'load that base.'
    )
  if model.config.summary_length:
    for name, value in summary_fields(fields).items():
      if getattr(model.config, name) != value:
        raise ValueError(
          f'The compressor in {folder} has {name} {value}, not '
          f'{getattr(model.config, name)}; give the same to go on from it.'
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
  adapter = peft.load_adapter(folder, model.config, model.fingerprint)
  return adapter, jnp.asarray(table)


def apply_compressor(model: Model, folder='shipped') -> Model:
  """The base as a compressor: adapter merged, summary tokens added.

  Args:
    model: the base.
    folder: of the compressor, or 'shipped': see `compressor_folder`.

  Raises:
    FileNotFoundError: the folder or one of its files is missing.
    ValueError: the compressor is of another base, or damaged; or none is
      shipped for this one; or the base is quantised.
  """
  folder = compressor_folder(folder, model.name)
  adapter, table = load_compressor(folder, model)
  fields = read_fields(folder)
  config = dataclasses.replace(model.config, **summary_fields(fields))
  params = merge_adapter(model.params, adapter)
  dtype = params['norm']['scale'].dtype
  params['embed_summary'] = {'embedding': table.astype(dtype)}
  params = place_tree(config, params)
  return Model(
    config=config,
    params=params,
    tokenizer=model.tokenizer,
    name=f'{model.name} with the compressor {folder.name}',
    fingerprint=fingerprint(model, folder),
    segment_length=fields.get('segment_length', model.segment_length),
  )


def summary_fields(fields: dict) -> dict:
  """What `read_fields` gave, as fields of the config; defaults for the rest."""
  return {
    name: fields.get(name, LlamaConfig.__dataclass_fields__[name].default)
    for name in _SUMMARY_FIELDS
  }


def with_summaries(config: LlamaConfig, chosen) -> LlamaConfig:
  """A base's config as that of a compressor; `chosen` is `config.summary`."""
  return dataclasses.replace(
    config,
    summary_length=chosen.length,
    summary_sharpness=chosen.sharpness,
    summary_interleaved=chosen.interleaved,
  )


def fingerprint(model: Model, folder) -> str:
  """Identifies a compressor by its base and the content of its folder."""
  folder = named_path(folder)
  digest = hashlib.sha256(model.fingerprint.encode())
  for name in _FILES:
    digest.update((folder / name).read_bytes())
  return digest.hexdigest()
