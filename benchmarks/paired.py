"""Sides of a comparison, each in a process of its own, that take turns.

Every side sets itself up and makes one unmeasured run, which compiles; then
in each round every side runs once, alone, so that a slow minute of the
machine falls on all of them, and ratios are taken within a round.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import dataclasses
import multiprocessing
import pathlib
import statistics
import time

import numpy as np

from benchmarks import common


@dataclasses.dataclass(frozen=True)
class Side:
  """`set_up(options)` gives the function to time, which returns arrays.

  `set_up` is a function of a module, so that another process finds it. The
  arrays are what was computed; sides that do the same work agree on them.
  """

  name: str
  set_up: Callable[[dict], Callable[[], list[np.ndarray]]]
  options: dict


@dataclasses.dataclass
class Measured:
  """Of one side: seconds and results by round, and memory in MiB.

  `peak` is the largest resident memory of the measured rounds, `idle` the
  resident memory before them: libraries, weights and compiled programs. None
  where they were not measured.
  """

  seconds: list[float]
  results: list[list[np.ndarray]]
  idle: float | None = None
  peak: float | None = None


def resident(field: str) -> float:
  """'VmRSS' (now) or 'VmHWM' (the highest) of this process, in MiB."""
  lines = pathlib.Path('/proc/self/status').read_text().splitlines()
  line = next(line for line in lines if line.startswith(field))
  return int(line.split()[1]) / 1024


def forget_peak() -> None:
  """Makes the highest resident memory that of now; Linux alone can."""
  pathlib.Path('/proc/self/clear_refs').write_text('5')


def _timed(run):
  """Seconds that it takes, and what it gives."""
  start = time.perf_counter()
  result = run()
  return time.perf_counter() - start, result


def _in_turn(sides, repeats: int, timed) -> dict[str, Measured]:
  """What `timed` says of every side, the order reversed every other round."""
  measured = {side.name: Measured([], []) for side in sides}
  for turn in range(repeats):
    for side in sides[:: -1 if turn % 2 else 1]:
      seconds, result = timed(side)
      measured[side.name].seconds.append(seconds)
      measured[side.name].results.append(result)
  return measured


def _work(pipe, set_up, options):
  run = set_up(options)
  run()
  forget_peak()
  idle = resident('VmRSS')
  pipe.send('ready')
  while pipe.recv() == 'go':
    pipe.send(_timed(run))
  pipe.send((idle, resident('VmHWM')))


def measure_together(sides: list[Side], repeats: int) -> dict[str, Measured]:
  """As `measure`, in this process: for a device that holds the base once.

  Memory is not measured.
  """

  def prepared(side):
    run = side.set_up(side.options)
    run()
    return run

  with ThreadPoolExecutor() as pool:
    runs = dict(zip((side.name for side in sides), pool.map(prepared, sides)))
  return _in_turn(sides, repeats, lambda side: _timed(runs[side.name]))


def measure(sides: list[Side], repeats: int) -> dict[str, Measured]:
  """Runs the sides in turn, each in a process of its own."""
  spawn = multiprocessing.get_context('spawn')
  pipes, workers = {}, []

  def timed(side):
    pipes[side.name].send('go')
    return _answer(pipes[side.name], side.name)

  try:
    for side in sides:
      pipes[side.name], theirs = spawn.Pipe()
      worker = spawn.Process(
        target=_work, args=(theirs, side.set_up, side.options), daemon=True
      )
      worker.start()
      workers.append(worker)
      # Ours no longer, so that its death ends the wait for an answer.
      theirs.close()
      _answer(pipes[side.name], side.name)
    measured = _in_turn(sides, repeats, timed)
    for side in sides:
      pipes[side.name].send('stop')
      found = measured[side.name]
      found.idle, found.peak = _answer(pipes[side.name], side.name)
  finally:
    for worker in workers:
      worker.terminate()
      worker.join()
  return measured


def _answer(pipe, name: str):
  try:
    return pipe.recv()
  except EOFError:
    raise RuntimeError(
      f'The side {name!r} died; what it printed above says why.'
    ) from None


def difference(first: np.ndarray, second: np.ndarray) -> float:
  """Share of unequal integers; or error relative to the largest number."""
  if np.issubdtype(first.dtype, np.integer):
    return float(np.mean(first != second))
  return float(np.max(np.abs(first - second)) / np.max(np.abs(second)))


def side_rows(measured: dict[str, Measured], unit: str, count: int) -> list:
  """A row a side; `count` units are done in a round."""
  return [
    {
      'side': name,
      'seconds': statistics.median(found.seconds),
      f'{unit}/s': count / statistics.median(found.seconds),
      'peak MiB': found.peak,
      'before MiB': found.idle,
    }
    for name, found in measured.items()
  ]


def pair_rows(
  measured: dict[str, Measured], pairs: list[tuple[str, str]]
) -> list[dict]:
  """A row a pair: how many times as fast the first is as the second."""
  rows = []
  for first, second in pairs:
    ours, theirs = measured[first], measured[second]
    ratios = [t / o for o, t in zip(ours.seconds, theirs.seconds)]
    rows.append(
      {
        'side': first,
        'against': second,
        'times as fast': statistics.median(ratios),
        'lowest': min(ratios),
        'highest': max(ratios),
        'memory ratio': ours.peak and ours.peak / theirs.peak,
        'difference': max(
          difference(a, b)
          for arrays in zip(ours.results, theirs.results)
          for a, b in zip(*arrays, strict=True)
        ),
      }
    )
  return rows


def write_checkpoint(folder, args, summary_length: int = 0) -> int:
  """Writes the base and a LoRA adapter that both sides load.

  Args:
    folder: of the checkpoint; the adapter lies in its folder `adapter`.
    args: `tiny`, `random` and `model` say which base.
    summary_length: summary tokens, random, that make the base a compressor.

  Returns:
    The width D of the base.
  """
  import jax

  import lloco_jax as lloco
  from lloco_jax.nn.llama import init_params
  from lloco_jax.nn.lora import LoraConfig, init_adapter
  from lloco_jax.weights import huggingface, peft

  key = jax.random.key(0)
  if args.tiny or args.random:
    config = common.shape('tiny' if args.tiny else 'smollm2-135m')
    params = init_params(config, key)
  else:
    model = lloco.load(args.model)
    config, params = model.config, model.params
  if summary_length:
    config = dataclasses.replace(config, summary_length=summary_length)
    table = params['embed_tokens']['embedding']
    vectors = jax.random.normal(key, (summary_length, config.hidden_size))
    params['embed_summary'] = {'embedding': vectors * table.std()}
  huggingface.save_params(folder, params, config)
  # Rank and targets of the reference; no dropout, so that both sides agree.
  adapter = init_adapter(config, LoraConfig(dropout=0.0), key)
  weights = jax.tree.map(lambda x: x, adapter.weights)
  for pair in weights['layers']['self_attn'].values():
    # As if trained a little: an adapter with B = 0 could be left out unseen.
    pair['b'] = 0.01 * jax.random.normal(key, pair['b'].shape)
  peft.save_adapter(
    pathlib.Path(folder) / 'adapter',
    adapter.replace(weights=weights),
    str(folder),
  )
  return config.hidden_size


def torch_base(options: dict):
  """The same base in transformers, float32, frozen."""
  import warnings

  import torch
  from transformers import LlamaForCausalLM
  from transformers.utils import logging

  # It would list the summary tokens, which it does not know, as unexpected.
  logging.set_verbosity_error()
  logging.disable_progress_bar()
  # peft calls what transformers has deprecated.
  warnings.filterwarnings('ignore', category=FutureWarning)
  model = LlamaForCausalLM.from_pretrained(
    options['checkpoint'], dtype=torch.float32
  )
  return model.requires_grad_(False).eval()


def torch_adapted(options: dict, trainable: bool):
  """The same base with the same adapter, in peft."""
  import peft

  return peft.PeftModel.from_pretrained(
    torch_base(options),
    f'{options["checkpoint"]}/adapter',
    is_trainable=trainable,
  )


def base_flags(parser) -> None:
  """The flags that say which base both sides load."""
  parser.add_argument(
    '--model', default='smollm2-135m', help='checkpoint that both sides load'
  )
  parser.add_argument(
    '--random',
    action='store_true',
    help='random weights of the shape of SmolLM2-135M instead',
  )
