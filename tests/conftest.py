"""What every test runs with: the CPU, exact matmuls, one compile cache."""

import importlib.metadata
import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Environment variables, set before jax is imported, also reach the programs
# that tests start.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_DEFAULT_MATMUL_PRECISION', 'float32')
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(ROOT / '.cache/jax'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')
# Where tests are to compile fast: the older compiler of fusions takes half the
# time of the newer one. Later versions have no choice, and no such flag.
if os.environ.get(
  'JAX_DISABLE_MOST_OPTIMIZATIONS'
) and importlib.metadata.version('jaxlib').startswith('0.10.'):
  os.environ.setdefault('XLA_FLAGS', '--xla_cpu_use_fusion_emitters=false')


@pytest.fixture(scope='session')
def golden() -> pathlib.Path:
  """The folder of arrays computed by the torch reference."""
  return ROOT / 'tests/golden'
