"""What the benchmarks share: flags, shapes, where they ran, and the report.

Nothing here imports jax or torch at the top, so that a worker process holds
the libraries of its own side alone.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import sys

from rich.console import Console
from rich.table import Table

# Fields of a Hugging Face config.json.
SHAPES = {
  'tiny': {
    'vocab_size': 256,
    'hidden_size': 32,
    'intermediate_size': 64,
    'num_hidden_layers': 2,
    'num_attention_heads': 4,
    'num_key_value_heads': 2,
    'tie_word_embeddings': True,
  },
  'smollm2-135m': {
    'vocab_size': 49_152,
    'hidden_size': 576,
    'intermediate_size': 1_536,
    'num_hidden_layers': 30,
    'num_attention_heads': 9,
    'num_key_value_heads': 3,
    'max_position_embeddings': 8_192,
    'rms_norm_eps': 1e-5,
    'rope_theta': 100_000.0,
    'tie_word_embeddings': True,
  },
  'llama2-7b': {
    'vocab_size': 32_000,
    'hidden_size': 4_096,
    'intermediate_size': 11_008,
    'num_hidden_layers': 32,
    'num_attention_heads': 32,
    'num_key_value_heads': 32,
    'max_position_embeddings': 4_096,
    'rms_norm_eps': 1e-5,
  },
}
PACKAGES = ('jax', 'jaxlib', 'flax', 'numpy', 'torch', 'transformers', 'peft')


def shape(name: str, **changes):
  """The LlamaConfig of a named shape, some of its fields changed."""
  from lloco_jax.nn.config import LlamaConfig

  return LlamaConfig.from_huggingface(SHAPES[name] | changes)


class Bytes:
  """The tokenizer of the toy network."""

  fingerprint = 'bytes'
  eos_id = None

  def encode(self, text, block_characters=None):
    return list(text.encode())

  def decode(self, tokens):
    return bytes(tokens).decode(errors='replace')


def tiny_model():
  """A compressor of toy size with random weights, which reads bytes."""
  import jax

  from lloco_jax.model import Model
  from lloco_jax.nn.llama import init_params

  config = shape('tiny', summary_length=2, max_position_embeddings=999)
  params = init_params(config, jax.random.key(0))
  return Model(config, params, Bytes(), 'tiny', '0', 32)


def write_tiny_model(folder: pathlib.Path, window: int = 999) -> None:
  """One like it in a folder, for what loads its model itself."""
  import jax
  import tokenizers

  from lloco_jax.nn.llama import init_params
  from lloco_jax.weights.compressor import save_autocompressor
  from lloco_jax.weights.tokenizer import Tokenizer

  letters = tokenizers.pre_tokenizers.ByteLevel.alphabet()
  ids = {letter: number for number, letter in enumerate(['<eos>', *letters])}
  backend = tokenizers.Tokenizer(tokenizers.models.BPE(ids, []))
  backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
    add_prefix_space=False
  )
  backend.decoder = tokenizers.decoders.ByteLevel()
  config = shape(
    'tiny',
    vocab_size=len(ids),
    summary_length=2,
    max_position_embeddings=window,
  )
  params = init_params(config, jax.random.key(0))
  save_autocompressor(folder, params, config, Tokenizer(backend, 0), 32)


def flags(description: str, repeats: int | None) -> argparse.ArgumentParser:
  """A parser with the flags of every benchmark; None where no rounds run."""
  parser = argparse.ArgumentParser(
    description=description,
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
  )
  parser.add_argument(
    '--tiny', action='store_true', help='a network and texts of toy size'
  )
  if repeats is not None:
    parser.add_argument('--repeats', type=int, default=repeats, help='rounds')
  parser.add_argument('--output', help='JSON file to write')
  return parser


def shrink(args: argparse.Namespace, **values) -> None:
  """With --tiny, puts these values in place of the flags'."""
  if args.tiny:
    vars(args).update(values)


def environment() -> dict:
  """Versions, processor, load and command of this run."""
  versions = {}
  for name in PACKAGES:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  gpu = {'device': name} if (name := _gpu()) else {}
  return gpu | {
    'command': shlex.join(['python', *sys.argv]),
    'python': platform.python_version(),
    'versions': versions,
    'processor': _processor(),
    'cores': len(os.sched_getaffinity(0)),
    'load_average_at_start': os.getloadavg()[0],
  }


def _gpu() -> str:
  """Name of the first NVIDIA GPU, asked without starting JAX on it."""
  if os.environ.get('JAX_PLATFORMS') == 'cpu' or not shutil.which('nvidia-smi'):
    return ''
  query = ['nvidia-smi', '--query-gpu=name', '--format=csv,noheader']
  found = subprocess.run(query, capture_output=True, text=True, check=False)
  return found.stdout.partition('\n')[0].strip()


def _processor() -> str:
  lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  names = [line.split(': ')[1] for line in lines if line.startswith('model n')]
  return names[0] if names else platform.machine()


def report(
  args: argparse.Namespace,
  where: dict,
  tables: dict[str, list[dict]],
  notes: tuple[str, ...] = (),
) -> None:
  """Prints the tables, rows of equal keys, and writes them as JSON."""
  console = Console(width=None if sys.stdout.isatty() else 110)
  for title, rows in tables.items():
    table = Table(title=title, title_justify='left')
    for name, value in rows[0].items():
      justify = 'left' if isinstance(value, str) else 'right'
      table.add_column(name, justify=justify)
    for row in rows:
      table.add_row(*map(_text, row.values()))
    console.print(table)
  for note in notes:
    console.print(note, highlight=False)
  versions = ', '.join(f'{k} {v}' for k, v in where['versions'].items())
  console.print(
    f'{where.get("device", "cpu")}: {where["processor"]}, {where["cores"]} '
    f'cores, load {where["load_average_at_start"]:.1f} at the start; '
    f'{versions}',
    highlight=False,
  )
  if args.output:
    content = {
      'environment': where,
      'settings': vars(args),
      'tables': tables,
      'notes': notes,
    }
    text = json.dumps(content, indent=2) + '\n'
    pathlib.Path(args.output).write_text(text, encoding='utf-8')


def _text(value) -> str:
  if value is None:
    return '-'
  if isinstance(value, float):
    return f'{value:,.0f}' if abs(value) >= 1000 else f'{value:.3g}'
  return f'{value:,}' if isinstance(value, int) else str(value)
