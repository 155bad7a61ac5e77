"""What every test runs with: the CPU, exact matmuls, one compile cache."""

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


@pytest.fixture(scope='session')
def golden() -> pathlib.Path:
  """The folder of arrays computed by the torch reference."""
  return ROOT / 'tests/golden'
