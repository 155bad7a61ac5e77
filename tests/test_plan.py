"""LLaMA2-7B on TPUs that are not there: the TPU compiler's word that it fits.

Contexts are of 4,000 summary vectors, as the paper's longest. Those that `make
tpu` compiles are the quickest, and one on a mesh; `make tpu-all` compiles all.
"""

import functools
import importlib.util
import itertools
import json
import math
import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = [
  pytest.mark.slow,
  # On slow cores the largest takes the compiler a quarter of an hour.
  pytest.mark.timeout(1800),
  pytest.mark.skipif(
    importlib.util.find_spec('libtpu') is None,
    reason="the TPU compiler is missing: pip install 'lloco_jax[tpu]'",
  ),
]

ROOT = pathlib.Path(__file__).resolve().parents[1]
GIB = 2**30
# What a base takes: int8 projections with float32 scales, the rest bfloat16.
LAYERS, ENDS = 6_476_005_376, 262_144_000
NORMS, SUMMARY, SCALES = 266_240, 50 * 4096, 32 * (5 * 4096 + 2 * 11_008)
BFLOAT16 = 2 * (LAYERS + ENDS + NORMS + SUMMARY)
# The head, which compression does not read.
HEAD = ENDS
INT8 = LAYERS + 4 * SCALES + 2 * (ENDS + NORMS + SUMMARY)

ONE = {'data': 1, 'fsdp': 1, 'tensor': 1}
# Of eight chips: parts of the rows and weights, times parts of the layers.
MESHES = {
  '8x1': ONE | {'fsdp': 8},
  '4x2': ONE | {'fsdp': 4, 'tensor': 2},
  '1x8': ONE | {'tensor': 8},
}
SEGMENTS = 4
STAGES = ('finetune', 'compressor', 'compress', 'prefill', 'decode')
# Positions of queries and of keys, and what the kernel pads them to.
SCORES = {
  'finetune': {4096 + 128, 4608},
  # Behind up to 200 slots of vectors, of which up to 100 run again; rows are
  # padded to lanes.
  'compressor': {
    *(2048, 1664, 1792),
    *range(1536 + 50, 1536 + 351, 50),
    *range(1664 + 50, 1792 + 201, 50),
  },
  'compress': {1536 + 100, 1664, 2048, 1536 + 100 + 4800, 1664 + 4800, 6656},
  'prefill': {4096 + 4 * 64, 4608},
}


@functools.cache
def program(topology, stage, quantization, remat, axes, rows):
  """What tests/plan_program.py prints, in an environment of its own."""
  arguments = {
    'topology': topology,
    'stage': stage,
    'quantization': quantization,
    'remat': remat,
    'axes': dict(axes),
    'sizes': {'rows': rows},
  }
  chosen = ('PATH', 'HOME', 'TMPDIR')
  path = [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
  result = subprocess.run(
    [sys.executable, ROOT / 'tests/plan_program.py', json.dumps(arguments)],
    cwd=ROOT,
    env={name: os.environ[name] for name in chosen if name in os.environ}
    | {'PYTHONPATH': os.pathsep.join(path)},
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr[-3000:]
  return json.loads(result.stdout.splitlines()[-1])


def check(stage, taken, base, parts=1, rows=1):
  """Fit, arguments, donation, and no array as large as the scores or as the
  rows of all devices."""
  assert taken['needed'] <= taken['memory']
  assert taken['base'] == pytest.approx(base / parts, rel=0.02)
  unread = HEAD / parts if stage == 'compress' else 0
  read = taken['passed'] - unread
  assert taken['arguments'] == pytest.approx(read, rel=0.02)
  # Sums of gradients, the kept prefix and the cache are written in place.
  if stage != 'prefill':
    assert taken['aliased'] > 0.95 * taken['output']
  if stage in SCORES:
    assert taken['kernels']
    sizes = SCORES[stage]
    # Of several heads: a share of the queries' width is as large as some keys.
    scores = [
      s
      for s in taken['shapes']
      if math.prod(s[:-2]) > 1 and s[-1] in sizes and s[-2] in sizes
    ]
    assert not scores
  if rows > 1:
    widths = {4096 + 128, 1536 + 50, 1536 + 100, 1536 + 150, 1664, 1792}
    widths |= {4096 + 4 * 64}
    # Segments of a device's one row look like as many rows; fsdp 8 tells.
    alike = stage == 'compressor' and rows == SEGMENTS
    many = rows * SEGMENTS if alike else rows
    pairs = [pair for s in taken['shapes'] for pair in zip(s, s[1:])]
    assert not [pair for pair in pairs if pair[0] == many and pair[1] in widths]


def some(values, chosen):
  """Values of a test, of which `make tpu` takes the chosen."""
  marks = {True: pytest.mark.tpu, False: ()}
  return [pytest.param(x, marks=marks[x in chosen]) for x in values]


@pytest.mark.parametrize(
  'stage', some(STAGES, ('finetune', 'compress', 'prefill', 'decode'))
)
def test_int8_on_one_chip_of_16_gb(stage):
  taken = program('v5e:1x1', stage, 'int8', 'full', tuple(ONE.items()), 1)
  check(stage, taken, INT8)


@pytest.mark.parametrize('stage', STAGES)
def test_bfloat16_on_one_chip_of_32_gb(stage):
  remat = 'full' if stage == 'compressor' else 'projections'
  taken = program('v6e:1x1', stage, None, remat, tuple(ONE.items()), 1)
  check(stage, taken, BFLOAT16)


@pytest.mark.parametrize(
  'chosen',
  some(itertools.product(STAGES, MESHES), [('finetune', '4x2')]),
  ids='-'.join,
)
def test_bfloat16_on_eight_chips_of_16_gb(chosen):
  stage, mesh = chosen
  axes = MESHES[mesh]
  rows = axes['fsdp']
  taken = program('v5e:2x4', stage, None, 'full', tuple(axes.items()), rows)
  check(stage, taken, BFLOAT16, 8, rows)


@pytest.mark.parametrize('stage', STAGES)
def test_bfloat16_on_four_chips_of_95_gb(stage):
  axes = ONE | {'fsdp': 4}
  taken = program(
    'v5p:2x2x1', stage, None, 'projections', tuple(axes.items()), 4
  )
  check(stage, taken, BFLOAT16, 4, 4)
