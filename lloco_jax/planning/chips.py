"""Devices to compile for that need not be there."""

import contextlib
import dataclasses
import importlib.util
import os
import re

import jax
from jax.experimental import topologies

# GiB of memory that a program can use, as the compiler says it.
MEMORY = {'v5e': 15.75, 'v5p': 95.74, 'v6e': 31.25}


@dataclasses.dataclass(frozen=True)
class Chips:
  """Devices of a topology such as 'v5e:2x4', and GiB of memory of each."""

  topology: str
  devices: tuple[jax.Device, ...]
  memory: float


def find_chips(topology: str) -> Chips:
  """The devices of a TPU topology, for the compiler alone.

  Call it before JAX has looked for devices: it keeps JAX from a real TPU.

  Raises:
    ValueError: there is no such topology.
    ImportError: libtpu, which has the compiler, is not installed.
  """
  kind, _, shape = topology.partition(':')
  if kind not in MEMORY or not re.fullmatch(r'\d+(x\d+){1,2}', shape):
    raise ValueError(
      f"There is no topology '{topology}'; give a chip of "
      f'{", ".join(MEMORY)} and its mesh, as v5e:1x1, v5e:2x4 or v5p:2x2x1.'
    )
  if importlib.util.find_spec('libtpu') is None:
    raise ImportError(
      'The TPU compiler is missing, which needs no TPU; install it with '
      "pip install 'lloco_jax[tpu]'."
    )
  os.environ['TPU_SKIP_MDS_QUERY'] = '1'
  # The compiler alone may be there several times; a TPU may not.
  os.environ['ALLOW_MULTIPLE_LIBTPU_LOAD'] = '1'
  jax.config.update('jax_platforms', 'cpu')
  bounds = {}
  if set(shape.split('x')) == {'1'}:
    bounds['chips_per_host_bounds'] = (1, 1, 1)
  try:
    with _silenced():
      found = topologies.get_topology_desc(topology, 'tpu', **bounds)
  except (RuntimeError, ValueError) as error:
    raise ValueError(
      f"The compiler knows no topology '{topology}': {error}"
    ) from error
  return Chips(topology, tuple(found.devices), MEMORY[kind])


@contextlib.contextmanager
def _silenced():
  """Without what libtpu says about a machine that has no TPU."""
  kept = os.dup(2)
  with open(os.devnull, 'wb') as nowhere:
    os.dup2(nowhere.fileno(), 2)
    try:
      yield
    finally:
      os.dup2(kept, 2)
      os.close(kept)
