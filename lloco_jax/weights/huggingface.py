"""Checkpoint folders of Hugging Face: config.json and weights, in and out."""

import json
import pathlib
import zipfile

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from lloco_jax.files import named_path, replacing, write_file
from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.quantize import is_quantized
from lloco_jax.weights import layout, streaming
from lloco_jax.weights.layout import Tensor

SAFETENSORS = 'model.safetensors'
TORCH = 'pytorch_model.bin'
_FLOATS = ('F16', 'BF16', 'F32', 'F64')


def weight_files(folder) -> list[pathlib.Path]:
  """The files that hold the weights of a checkpoint folder.

  One file goes before shards, safetensors before torch.

  Raises:
    FileNotFoundError: there are none, or a shard of the index is missing.
    ValueError: the index cannot be read.
  """
  folder = pathlib.Path(folder)
  for name in (SAFETENSORS, TORCH):
    if (folder / name).is_file():
      return [folder / name]
    index = folder / f'{name}.index.json'
    if index.is_file():
      return _shards(index)
  raise FileNotFoundError(
    f'{folder} holds no weights; put {SAFETENSORS} or {TORCH} there, or '
    'their shards with the index.json.'
  )


def refuse_adapter(folder) -> None:
  """Raises FileNotFoundError where a folder has an adapter and no base."""
  folder = pathlib.Path(folder)
  if not (folder / 'adapter_config.json').is_file():
    return
  try:
    weight_files(folder)
    has_base = (folder / 'config.json').is_file()
  except FileNotFoundError:
    has_base = False
  if not has_base:
    raise FileNotFoundError(
      f'{folder} is a PEFT adapter, not a base; load the base it was made '
      'for, then this folder with load_adapter.'
    )


def load_params(
  folder,
  config: LlamaConfig,
  dtype='float32',
  quantize: str | None = None,
  shardings: streaming.Shardings = None,
) -> dict:
  """Reads the base's parameters onto devices, stacked by layer.

  Names and shapes are checked from the files' headers before any weight is
  read. Safetensors are then read in slices, as streaming.py says. Torch files
  are too, but are mapped into memory (those of before 2020: read) as a whole.

  Args:
    folder: with the weights.
    config: of the network.
    dtype: of the parameters.
    quantize, shardings: see `load_leaves`.

  Raises:
    FileNotFoundError: weights or one of their shards are missing.
    ValueError: a file is damaged, or its tensors are not the config's; or
      dtype or quantisation is unknown.
    ImportError: the weights are torch files and torch is not installed.
  """
  dtype = layout.numpy_dtype(dtype)
  places = layout.slots(config)
  files = weight_files(folder)
  tensors, head = {}, None
  for path in files:
    for name, tensor in open_tensors(path).items():
      if name not in places and f'model.{name}' in places:
        name = f'model.{name}'
      if name in tensors:
        raise ValueError(f'{path} holds {name} a second time.')
      if name == 'lm_head.weight' and config.tie_word_embeddings:
        head = tensor
      elif not name.endswith('rotary_emb.inv_freq'):
        tensors[name] = tensor
  source = files[0] if len(files) == 1 else folder
  shapes = {name: tensor.shape for name, tensor in tensors.items()}
  layout.check(places, shapes, source)
  if head is not None:
    _check_tied(source, tensors['model.embed_tokens.weight'], head)
  return streaming.load_leaves(places, tensors, dtype, quantize, shardings)


def save_params(
  folder,
  params: dict,
  config: LlamaConfig,
  shard_bytes: int = 4 * 10**9,
  **fields,
) -> None:
  """Writes a checkpoint folder that this library and transformers load.

  The weights are one file, or shards of about `shard_bytes` bytes with their
  index, so that no second copy of a large base is held in memory. `fields` are
  written to config.json besides.

  Raises:
    ValueError: the base is quantised.
  """
  if is_quantized(params):
    raise ValueError(
      'A quantised base is no checkpoint that others load; save the one that '
      'it was made from.'
    )
  folder = named_path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  # Written last: a kill leaves no checkpoint rather than a mixture of two.
  (folder / 'config.json').unlink(missing_ok=True)
  shards, size = [{}], 0
  for name, slot in layout.slots(config).items():
    itemsize = np.dtype(params['norm']['scale'].dtype).itemsize
    size += int(np.prod(slot.shape)) * itemsize
    if size > shard_bytes and shards[-1]:
      shards.append({})
      size = int(np.prod(slot.shape)) * itemsize
    shards[-1][name] = slot
  weight_map, total, count = {}, 0, len(shards)
  for number, shard in enumerate(shards, 1):
    name = f'model-{number:05}-of-{count:05}.safetensors'
    if count == 1:
      name = SAFETENSORS
    weight_map.update(dict.fromkeys(shard, name))
    tensors = {key: layout.take(params, slot) for key, slot in shard.items()}
    total += sum(tensor.nbytes for tensor in tensors.values())
    write_safetensors(folder / name, tensors)
  if count > 1:
    index = {'metadata': {'total_size': total}, 'weight_map': weight_map}
    write_json(folder / f'{SAFETENSORS}.index.json', index)
    # A single file of an earlier save would go before the shards.
    (folder / SAFETENSORS).unlink(missing_ok=True)
  fields |= config.to_huggingface()
  fields['torch_dtype'] = np.dtype(params['norm']['scale'].dtype).name
  write_json(folder / 'config.json', fields)


def open_tensors(path: pathlib.Path) -> dict[str, Tensor]:
  """The tensors of a safetensors or torch file, not yet read.

  Raises:
    ValueError: the file is damaged or holds other things than float tensors.
    ImportError: it is a torch file and torch is not installed.
  """
  if path.suffix == '.safetensors':
    return _open_safetensors(path)
  return _open_torch(path)


def write_safetensors(path: pathlib.Path, tensors: dict, **metadata) -> None:
  """Writes numpy arrays so that a reader sees the whole file or none.

  Equal tensors and metadata give equal bytes.
  """
  metadata = {'format': 'pt', **metadata}
  with replacing(path) as temporary:
    safetensors.numpy.save_file(tensors, temporary, metadata=metadata)
    _sort_metadata(temporary)
    # It comes readable by its owner alone, but is meant to be shared.
    temporary.chmod(0o644)


def _sort_metadata(path: pathlib.Path) -> None:
  # The library writes the keys of the metadata in an order of chance.
  with path.open('r+b') as file:
    size = int.from_bytes(file.read(8), 'little')
    header = json.loads(file.read(size))
    header['__metadata__'] = dict(sorted(header['__metadata__'].items()))
    text = json.dumps(header, separators=(',', ':'), ensure_ascii=False)
    file.seek(8)
    file.write(text.encode().ljust(size))


def read_metadata(path: pathlib.Path) -> dict[str, str]:
  """The metadata of a safetensors file that `open_tensors` could open."""
  with safetensors.safe_open(path, framework='numpy') as file:
    return file.metadata() or {}


def write_json(path: pathlib.Path, fields: dict) -> None:
  """Writes JSON so that a reader sees the whole file or none."""
  write_file(path, json.dumps(fields, indent=2, sort_keys=True) + '\n')


def _shards(index: pathlib.Path) -> list[pathlib.Path]:
  try:
    names = set(json.loads(index.read_text('utf-8'))['weight_map'].values())
  except (ValueError, KeyError, AttributeError, TypeError) as error:
    raise ValueError(
      f'{index} is not an index of shards; download it again.'
    ) from error
  paths = [index.parent / name for name in sorted(names)]
  for path in paths:
    if not path.is_file():
      raise FileNotFoundError(
        f'{path} is missing, and {index.name} names it; download it again.'
      )
  return paths


def _check_tied(source, embedding: Tensor, head: Tensor) -> None:
  """Raises ValueError where a head is not the embedding that it is tied to."""
  rows = 4096
  same = head.shape == embedding.shape and all(
    np.array_equal(head.read(part), embedding.read(part))
    for start in range(0, head.shape[0], rows)
    for part in [slice(start, min(start + rows, head.shape[0]))]
  )
  if not same:
    raise ValueError(
      f'{source} holds an lm_head.weight other than the embedding, but '
      'config.json says that they are tied; set tie_word_embeddings to false '
      'there to use it, or remove it from the file.'
    )


def _open_safetensors(path: pathlib.Path) -> dict[str, Tensor]:
  try:
    file = safetensors.safe_open(path, framework='numpy')
  except safetensors.SafetensorError as error:
    raise ValueError(
      f'{path} is truncated or not a safetensors file; download it again.'
    ) from error
  tensors = {}
  with file:
    for name in file.keys():
      view = file.get_slice(name)
      _check_float(path, name, view.get_dtype() in _FLOATS, view.get_dtype())

      # Opened each time: what was read of an open file stays in memory.
      def read(index=..., name=name):
        with safetensors.safe_open(path, framework='numpy') as file:
          return file.get_slice(name)[index]

      tensors[name] = Tensor(tuple(view.get_shape()), read)
  return tensors


def _open_torch(path: pathlib.Path) -> dict[str, Tensor]:
  try:
    import torch
  except ImportError as error:
    raise ImportError(
      f'{path} is a torch file, and torch is not installed; '
      'pip install lloco_jax[torch], or use safetensors.'
    ) from error
  try:
    # Only zip files, torch's format since 2020, can be mapped into memory.
    loaded = torch.load(
      path,
      map_location='cpu',
      weights_only=True,
      mmap=zipfile.is_zipfile(path),
    )
  except Exception as error:  # torch raises many kinds for a damaged file
    raise ValueError(
      f'{path} is truncated, or holds more than tensors; download it again.'
    ) from error
  if not isinstance(loaded, dict) or not all(
    isinstance(value, torch.Tensor) for value in loaded.values()
  ):
    raise ValueError(
      f'{path} is not a dictionary of tensors by name; save the state_dict of '
      'the model itself.'
    )
  floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
  tensors = {}
  for name, value in loaded.items():
    _check_float(path, name, value.dtype in floats, value.dtype)

    def read(index=..., value=value):
      value = value.detach()[index]
      if value.dtype == torch.bfloat16:
        bits = value.contiguous().view(torch.int16).numpy()
        return bits.view(ml_dtypes.bfloat16)
      return value.numpy()

    tensors[name] = Tensor(tuple(value.shape), read)
  return tensors


def _check_float(path, name: str, is_float: bool, dtype) -> None:
  if not is_float:
    raise ValueError(
      f'{path}: {name} is stored as {dtype}; only checkpoints in float16, '
      'bfloat16, float32 or float64 are read.'
    )
