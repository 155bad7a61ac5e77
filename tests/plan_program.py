"""Compiles one program for TPUs and prints what it takes, as JSON.

A process of its own, because the compiler's settings are those of a run and
not of the tests.
"""

import dataclasses
import json
import re
import sys

from lloco_jax.nn.lora import LoraConfig
from lloco_jax.planning import chips, memory, stages
from lloco_jax.sharding import make_placement
from lloco_jax.weights.published import read_config

MODEL = 'princeton-nlp/AutoCompressor-Llama-2-7b-6k'


def main(topology, stage, quantization, remat, axes, sizes):
  """Of LLaMA2-7B in bfloat16, or quantised."""
  found = chips.find_chips(topology)
  base = stages.make_base(
    read_config(MODEL),
    'bfloat16',
    quantization,
    LoraConfig(),
    found.devices[0],
    make_placement(axes, devices=found.devices),
  )
  program = stages.lower_stage(stage, base, stages.Sizes(**sizes), remat)
  compiled = memory.compile_program(program.lowered)
  taken = memory.memory_of(compiled, program.arguments, program.beside)
  text = compiled.as_text()
  shapes = {tuple(map(int, dims.split(','))) for dims in _SHAPES.findall(text)}
  print(
    json.dumps(
      dataclasses.asdict(taken)
      | {
        'needed': taken.needed,
        'memory': found.memory * memory.GIB,
        'base': memory.shard_bytes(base.params),
        'passed': memory.shard_bytes(program.arguments),
        'kernels': text.count('splash'),
        'shapes': sorted(shapes),
      }
    )
  )


_SHAPES = re.compile(r'\b(?:bf16|f32|s32|pred|s8)\[(\d+(?:,\d+)+)\]')

if __name__ == '__main__':
  main(**json.loads(sys.argv[1]))
