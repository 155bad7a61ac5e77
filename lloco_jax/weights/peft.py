"""Adapter folders of PEFT, read and written without torch or peft."""

import hashlib
import math
import pathlib
import re
import warnings

import jax.numpy as jnp
import numpy as np

from lloco_jax.files import named_path, read_object
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.lora import (
  ATTENTION_PROJECTIONS,
  MLP_PROJECTIONS,
  Adapter,
  block_of,
  projection_shapes,
)
from lloco_jax.sharding import place_tree
from lloco_jax.weights import huggingface, sources

CONFIG = 'adapter_config.json'
WEIGHTS = 'adapter_model.safetensors'
TORCH_WEIGHTS = 'adapter_model.bin'

_KEY = re.compile(
  r'base_model\.model\.(?:model\.)?layers\.(\d+)\.'
  r'(?:self_attn|mlp)\.(\w+)\.lora_([AB])\.weight'
)
_READ = ('peft_type', 'r', 'lora_alpha', 'lora_dropout', 'target_modules')
_READ += ('use_rslora', 'bias', 'init_lora_weights')
# What says nothing about the weights; any other field that is set is refused.
_SILENT = ('auto_mapping', 'base_model_name_or_path', 'inference_mode')
_SILENT += ('task_type', 'revision', 'peft_version', 'ensure_weight_tying')
_SILENT += ('eva_config',)  # how A was initialised
# Key of the metadata of the weights.
_BASE = 'base_fingerprint'
# Whatever they are, they leave out some of what `target_modules` names.
_RESTRICTIONS = ('exclude_modules', 'layers_to_transform')
_NEEDED = {'r': int, 'lora_alpha': int | float, 'target_modules': str | list}
# PEFT's initialisations that leave the base as it is.
_PLAIN_INITS = (True, False, None, 'gaussian', 'eva', 'orthogonal')


def find_adapter(folder) -> pathlib.Path:
  """The folder of an adapter, fetched where `folder` is a hub name.

  Raises:
    FileNotFoundError: it is nowhere.
    OSError: it cannot be fetched.
  """
  try:
    return sources.resolve(folder)
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f"There is no adapter '{folder}': that is neither a folder, as train.py "
      'leaves under adapters/ in its workdir, nor a hub name like owner/name.'
    ) from error


def fingerprint(folder) -> str:
  """Identifies an adapter by the content of its files; raises as `load_adapter`
  where one is missing."""
  folder = find_adapter(folder)
  _read_config(folder)
  digest = hashlib.sha256((folder / CONFIG).read_bytes())
  digest.update(sources.file_hash(_weights_file(folder)).encode())
  return digest.hexdigest()


def load_adapter(
  folder, config: LlamaConfig, base_fingerprint: str = '', base_name: str = ''
) -> Adapter:
  """Reads a PEFT LoRA adapter for the base of `config`, in float32.

  Args:
    folder: a local folder, or the hub name of one.
    config: the base's.
    base_fingerprint: of the base; compared with that of the base that the
      adapter was trained on, where the folder says it.
    base_name: of the base; where the folder tells no fingerprint, as those of
      other programs, another name is warned of.

  Raises:
    FileNotFoundError: the folder or one of its two files is missing.
    ValueError: the adapter is of another base, damaged, or of another kind.
    ImportError: the weights are a torch file and torch is not installed.
  """
  folder = find_adapter(folder)
  fields = _read_config(folder)
  rank, alpha = fields['r'], float(fields['lora_alpha'])
  if fields.get('use_rslora'):
    alpha *= math.sqrt(rank)  # PEFT divides by sqrt(r) here, not by r
  path = _weights_file(folder)
  tensors = huggingface.open_tensors(path)
  _check_base(path, fields, base_fingerprint, base_name)
  targets = _targets(folder, fields, tensors, config)
  shapes = projection_shapes(config)
  expected = {
    (layer, target, side)
    for layer in range(config.num_hidden_layers)
    for target in targets
    for side in 'AB'
  }
  found = {}
  for name, tensor in tensors.items():
    match = _KEY.fullmatch(name)
    key = match and (int(match[1]), match[2], match[3])
    if key not in expected:
      raise ValueError(_unexpected(path, name, key, targets, config))
    inputs, outputs = shapes[key[1]]
    wanted = (rank, inputs) if key[2] == 'A' else (outputs, rank)
    if tensor.shape != wanted:
      raise ValueError(_misshapen(path, key, tensor.shape, wanted))
    if key in found:
      raise ValueError(
        f'{path} holds lora_{key[2]} of {key[1]} in layer {key[0]} a second '
        f'time, as {name}; save the adapter again.'
      )
    found[key] = tensor
  missing = sorted(expected - set(found))
  if missing:
    layer, target, side = missing[0]
    raise ValueError(
      f'{path} lacks lora_{side} of {target} in layer {layer} '
      f'({len(missing)} of {len(expected)} matrices are missing); it is '
      'incomplete, or was made for another base.'
    )
  layers = {}
  for target in targets:
    pair = {
      side: np.stack(
        [
          found[layer, target, side.upper()].read().astype(np.float32).T
          for layer in range(config.num_hidden_layers)
        ]
      )
      for side in 'ab'
    }
    for side, value in pair.items():
      if not np.isfinite(value).all():
        raise ValueError(
          f'{path} holds numbers that are not finite in lora_{side.upper()} of '
          f'{target}; train the adapter again.'
        )
    pair = {side: jnp.asarray(value) for side, value in pair.items()}
    layers.setdefault(block_of(target), {})[target] = pair
  dropout = float(fields.get('lora_dropout') or 0.0)
  return place_tree(config, Adapter({'layers': layers}, rank, alpha, dropout))


def save_adapter(
  folder,
  adapter: Adapter,
  base_name: str,
  dtype=np.float32,
  base_fingerprint: str = '',
) -> None:
  """Writes an adapter as a PEFT folder, which peft loads on `base_name`.

  `base_fingerprint`, where it is given, keeps it from other bases of the same
  shape; it stands in the metadata of the weights. A tree of gradients of an
  adapter can be written the same way.

  Raises:
    ValueError: the adapter is a bank of several.
  """
  if adapter.bank_size is not None:
    raise ValueError(
      f'A bank of {adapter.bank_size} adapters is no PEFT adapter; '
      'save each of them on its own.'
    )
  folder = named_path(folder)
  if folder.is_file():
    raise FileExistsError(
      f'{folder} is a file; an adapter is written to a folder.'
    )
  folder.mkdir(parents=True, exist_ok=True)
  tensors = {}
  for block, projections in adapter.weights['layers'].items():
    for name, pair in projections.items():
      for side, stacked in pair.items():
        for layer, matrix in enumerate(np.asarray(stacked, dtype)):
          key = (
            f'base_model.model.model.layers.{layer}.{block}.{name}.'
            f'lora_{side.upper()}.weight'
          )
          tensors[key] = np.ascontiguousarray(matrix.T)
  # Weights without a config are no adapter: a kill leaves none, not a mixture.
  (folder / CONFIG).unlink(missing_ok=True)
  metadata = {_BASE: base_fingerprint} if base_fingerprint else {}
  huggingface.write_safetensors(folder / WEIGHTS, tensors, **metadata)
  alpha = adapter.alpha
  fields = {
    'peft_type': 'LORA',
    'task_type': 'CAUSAL_LM',
    'base_model_name_or_path': base_name,
    'r': adapter.rank,
    'lora_alpha': int(alpha) if alpha == int(alpha) else alpha,
    'lora_dropout': adapter.dropout,
    'target_modules': sorted(adapter.targets),
    'bias': 'none',
    'fan_in_fan_out': False,
    'inference_mode': True,
  }
  huggingface.write_json(folder / CONFIG, fields)


def named_targets(folder) -> list[str]:
  """What the config of an adapter that was saved here says it adapts.

  Raises:
    FileNotFoundError, ValueError: as `load_adapter`.
  """
  return _read_config(named_path(folder))['target_modules']


def _read_config(folder: pathlib.Path) -> dict:
  path = folder / CONFIG
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is missing: an adapter is a folder with {CONFIG} and {WEIGHTS}.'
    )
  fields = read_object(path)
  if fields.get('peft_type') != 'LORA':
    raise ValueError(
      f'{path}: peft_type is {fields.get("peft_type")!r}; '
      "only 'LORA' adapters are supported."
    )
  for name, kinds in _NEEDED.items():
    if not fields.get(name):
      raise ValueError(f'{path} lacks the field {name}.')
    if not isinstance(fields[name], kinds):
      raise ValueError(
        f'{path}: {name} is {fields[name]!r}; download it again.'
      )
  for name, value in fields.items():
    if _is_refused(name, value):
      raise ValueError(
        f'{path}: {name} is {value!r}, which is not supported; '
        'only plain LoRA on linear layers is.'
      )
  return fields


def _is_refused(name: str, value) -> bool:
  if name == 'bias':
    return value != 'none'
  if name == 'init_lora_weights':
    return value not in _PLAIN_INITS
  if name in _READ + _SILENT:
    return False
  if name in _RESTRICTIONS:
    return value is not None and value != []
  # Numbers and strings only qualify switches that would be refused themselves.
  return bool(value) and isinstance(value, bool | dict | list)


def _targets(folder, fields: dict, tensors, config: LlamaConfig) -> list[str]:
  """The projections that `target_modules` means, by PEFT's rules."""
  wanted = fields['target_modules']
  matches = [_KEY.fullmatch(name) for name in tensors]
  depth = max((int(match[1]) + 1 for match in matches if match), default=0)
  depth = max(depth, config.num_hidden_layers)
  known = ATTENTION_PROJECTIONS + MLP_PROJECTIONS
  modules = [
    (f'model.layers.{layer}.{block_of(name)}.{name}', layer, name)
    for layer in range(depth)
    for name in known
  ]
  if wanted == 'all-linear':
    return list(known)
  if isinstance(wanted, str):
    try:
      pattern = re.compile(wanted)
    except re.error as error:
      raise ValueError(
        f"{folder / CONFIG}: target_modules is '{wanted}', which is no regular "
        f'expression ({error}).'
      ) from error
    found = [module for module in modules if pattern.fullmatch(module[0])]
    unknown = [] if found else [wanted]
  else:
    # A module is meant by its whole name or by its last parts.
    ends = {
      suffix: [x for x in modules if f'.{x[0]}'.endswith(f'.{suffix}')]
      for suffix in sorted(map(str, wanted))
    }
    found = [module for end in ends.values() for module in end]
    unknown = [suffix for suffix, end in ends.items() if not end]
  if unknown:
    raise ValueError(
      f'{folder / CONFIG}: target_modules names {unknown[0]}; '
      f'only {", ".join(known)} can be adapted.'
    )
  layers = {name: {x[1] for x in found if x[2] == name} for name in known}
  for name, chosen in layers.items():
    if chosen and not chosen >= set(range(config.num_hidden_layers)):
      raise ValueError(
        f'{folder / CONFIG}: target_modules adapts {name} in some layers only '
        f'({sorted(chosen)} of {config.num_hidden_layers}), which is not '
        'supported, or it was made for another base.'
      )
  return [name for name, chosen in layers.items() if chosen]


def _weights_file(folder: pathlib.Path) -> pathlib.Path:
  for name in (WEIGHTS, TORCH_WEIGHTS):
    if (folder / name).is_file():
      return folder / name
  raise FileNotFoundError(
    f'{folder / WEIGHTS} is missing: an adapter is a folder with {CONFIG} '
    f'and {WEIGHTS}.'
  )


def _check_base(
  path: pathlib.Path, fields: dict, fingerprint: str, base_name: str
) -> None:
  trained_on = None
  if path.suffix == '.safetensors':
    trained_on = huggingface.read_metadata(path).get(_BASE)
  theirs = fields.get('base_model_name_or_path') or ''
  if trained_on is None:
    if theirs and base_name and _last(theirs) != _last(base_name):
      warnings.warn(
        f"{path.parent} says no more of its base than the name '{theirs}'; if "
        f"'{base_name}' has other weights, its answers make no sense.",
        stacklevel=3,
      )
  elif fingerprint and trained_on != fingerprint:
    raise ValueError(
      f"{path} was trained on '{theirs}' with "
      'other weights, or another config.json, than those of this base (or '
      'another compressor); load that one, or train the adapter again.'
    )


def _last(name: str) -> str:
  """Of a path or hub name, which differ by machine, the part that tells."""
  return pathlib.PurePosixPath(name.replace('\\', '/')).name.lower()


def _unexpected(path, name: str, key, targets, config: LlamaConfig) -> str:
  if key and key[1] in targets and key[0] >= config.num_hidden_layers:
    return (
      f'{path} adapts layer {key[0]}, but the base has '
      f'{config.num_hidden_layers} layers: it was made for another base.'
    )
  return (
    f'{path} holds {name}, which its {CONFIG} does not name; only the lora_A '
    'and lora_B of its target_modules belong there.'
  )


def _misshapen(path, key, shape: tuple, wanted: tuple) -> str:
  _, target, side = key
  rank_axis = 0 if side == 'A' else 1
  if len(shape) != 2:
    return f'{path}: lora_{side} of {target} has shape {shape}, not a matrix.'
  if shape[rank_axis] != wanted[rank_axis]:
    return (
      f'{path}: lora_{side} of {target} has rank {shape[rank_axis]}, but '
      f'{CONFIG} says {wanted[rank_axis]}; the two files do not belong '
      'together.'
    )
  return (
    f'{path}: lora_{side} of {target} has width {shape[1 - rank_axis]}, but '
    f'the base has {wanted[1 - rank_axis]}: it was made for another base.'
  )
