"""Loading in pieces, onto one device and eight, and what the host holds."""

import dataclasses
import os
import pathlib
import subprocess
import sys

from conftest import ROOT
import jax
import large_checkpoint
import numpy as np
import pytest
from test_huggingface import CONFIG, flat, tensors_of, tree_of, write_shards

from lloco_jax.nn.quantize import quantize_kernel, quantize_params
from lloco_jax.weights import huggingface, layout, streaming

MIB = 2**20


def on_eight_devices(program, *arguments):
  """What a program of this folder prints."""
  environment = os.environ | {
    'PYTHONPATH': str(ROOT),
    'XLA_FLAGS': '--xla_force_host_platform_device_count=8',
  }
  done = subprocess.run(
    [sys.executable, str(ROOT / 'tests' / program), *map(str, arguments)],
    env=environment,
    capture_output=True,
    text=True,
  )
  assert not done.returncode, done.stderr
  return done.stdout


@pytest.mark.parametrize('piece', [800, 1])
@pytest.mark.parametrize('quantize', [None, 'int8'])
def test_pieces_make_the_same_tree(tmp_path, monkeypatch, piece, quantize):
  """Three layers: two of a kernel and one, or one at a time."""
  monkeypatch.setattr(streaming, 'PIECE_BYTES', piece)
  config = dataclasses.replace(CONFIG, num_hidden_layers=3)
  tensors = tensors_of(config)
  write_shards(tmp_path, tensors)
  params = flat(huggingface.load_params(tmp_path, config, 'float32', quantize))
  expected = tree_of(tensors, config)
  if quantize:
    expected = quantize_params(expected)
  expected = flat(expected)
  assert params.keys() == expected.keys()
  for path, leaf in expected.items():
    assert isinstance(params[path], jax.Array)
    np.testing.assert_array_equal(params[path], leaf, str(path))


def test_eight_devices_get_the_bytes_that_one_does(tmp_path):
  on_eight_devices('sharded_loading.py', tmp_path)


def test_a_scale_is_read_where_the_kernel_was_not():
  """As where other processes have the rest of the kernel."""
  kernels = np.random.default_rng(0).normal(size=(2, 5, 6)).astype('float32')
  tensors = [
    layout.Tensor(kernel.T.shape, lambda index, kernel=kernel: kernel.T[index])
    for kernel in kernels
  ]
  leaf = streaming._Leaf(tensors, True, np.dtype('float32'), True)
  every = slice(None)
  codes, scale = quantize_kernel(kernels)
  np.testing.assert_array_equal(
    leaf.read((every, slice(1, 3), slice(0, 4))), codes[:, 1:3, :4]
  )
  np.testing.assert_array_equal(leaf.read_scale((every, every)), scale)


def test_a_missing_sharding_is_said_before_weights_are_read(
  tmp_path, monkeypatch
):
  write_shards(tmp_path, tensors_of(CONFIG))
  monkeypatch.setattr(
    streaming._Leaf, 'read', lambda *_: pytest.fail('too late')
  )
  tree = jax.tree.map(
    lambda _: jax.sharding.SingleDeviceSharding(jax.devices()[0]),
    tree_of(tensors_of(CONFIG), CONFIG),
  )
  with pytest.raises(
    ValueError, match='none for layers/self_attn/q_proj/scale'
  ):
    huggingface.load_params(tmp_path, CONFIG, 'float32', 'int8', tree)


@pytest.mark.slow
@pytest.mark.skipif(
  not pathlib.Path('/proc/self/status').exists(),
  reason='the peak memory of a process is read from /proc, as Linux has it',
)
@pytest.mark.parametrize('quantize', ['', 'int8'])
def test_the_host_holds_a_piece(tmp_path, quantize):
  """A checkpoint of 2 GB onto eight devices, in a process of its own.

  The peak of the process without the arrays it keeps. Devices being the
  processor, a piece is there twice; so would a leaf be, of 470 MB.
  """
  size = large_checkpoint.write(tmp_path)
  assert size > 1.8e9
  out = on_eight_devices('large_checkpoint.py', tmp_path, quantize)
  before, kept, peak = map(int, out.split())
  assert kept == pytest.approx(size / (2 if quantize else 1), rel=0.1)
  assert peak - kept < before + 600 * MIB
