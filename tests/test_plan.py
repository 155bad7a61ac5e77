"""LLaMA2-7B on TPUs that are not there: the TPU compiler's word that it fits.

Contexts are of 4,000 summary vectors, as the paper's longest.
"""

import functools
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = [
  pytest.mark.slow,
  pytest.mark.timeout(900),
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
FSDP = ONE | {'fsdp': 8}
MIXED = ONE | {'fsdp': 4, 'tensor': 2}
TENSOR = ONE | {'tensor': 8}
STAGES = ('finetune', 'compressor', 'compress', 'prefill', 'decode')
# Positions of queries and of keys, and what the kernel pads them to.
SCORES = {
  'finetune': {4096 + 128, 4608},
  'compressor': {1536 + 50, 2048, 1536 + 100},
  'compress': {1536 + 50, 2048, 1536 + 50 + 4800, 6656},
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
  chosen = ('PATH', 'HOME', 'PYTHONPATH', 'TMPDIR')
  result = subprocess.run(
    [sys.executable, ROOT / 'tests/plan_program.py', json.dumps(arguments)],
    cwd=ROOT,
    env={name: os.environ[name] for name in chosen if name in os.environ}
    | {'PYTHONPATH': str(ROOT)},
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
    large = [s for s in taken['shapes'] if s[-1] in sizes and s[-2] in sizes]
    assert not large
  if rows > 1:
    widths = {4096 + 128, 1536 + 50, 1536 + 100}
    pairs = [pair for s in taken['shapes'] for pair in zip(s, s[1:])]
    assert not [pair for pair in pairs if pair[0] == rows and pair[1] in widths]


@pytest.mark.parametrize('stage', STAGES)
def test_int8_on_one_chip_of_16_gb(stage):
  taken = program('v5e:1x1', stage, 'int8', 'full', tuple(ONE.items()), 1)
  check(stage, taken, INT8)


@pytest.mark.parametrize('stage', STAGES)
def test_bfloat16_on_one_chip_of_32_gb(stage):
  remat = 'full' if stage == 'compressor' else 'projections'
  taken = program('v6e:1x1', stage, None, remat, tuple(ONE.items()), 1)
  check(stage, taken, BFLOAT16)


@pytest.mark.parametrize('axes', [FSDP, MIXED, TENSOR], ids=str)
@pytest.mark.parametrize('stage', STAGES)
def test_bfloat16_on_eight_chips_of_16_gb(stage, axes):
  rows = axes['fsdp']
  if stage in ('prefill', 'decode'):
    rows = 1
  taken = program('v5e:2x4', stage, None, 'full', tuple(axes.items()), rows)
  check(stage, taken, BFLOAT16, 8, rows)


@pytest.mark.parametrize('stage', STAGES)
def test_bfloat16_on_four_chips_of_95_gb(stage):
  axes = ONE | {'fsdp': 4}
  rows = 1 if stage in ('prefill', 'decode') else 4
  taken = program(
    'v5p:2x2x1', stage, None, 'projections', tuple(axes.items()), rows
  )
  check(stage, taken, BFLOAT16, 4, rows)
