"""One run by several processes, on several hosts that share its folders.

Every process runs the same programs in the same order, each on its devices.
What a process finds in a folder may be newer than what another one found, so
whatever decides which programs run is taken from the first.
"""

import contextlib
import os

import jax
from jax.experimental import multihost_utils
import numpy as np


def start_processes() -> None:
  """Joins the processes of a run; comes before anything that asks for devices.

  On a TPU pod, under Slurm or Open MPI, JAX finds the others itself. Elsewhere
  JAX_COORDINATOR_ADDRESS (host:port of the first), LLOCO_PROCESSES (their
  number) and LLOCO_PROCESS (this one's, from 0) say it.

  Raises:
    ValueError: the environment does not say who the others are.
  """
  if jax.distributed.is_initialized():
    return
  numbers = {}
  for argument, name in (
    ('num_processes', 'LLOCO_PROCESSES'),
    ('process_id', 'LLOCO_PROCESS'),
  ):
    said = os.environ.get(name, '0')
    if not said.isdecimal():
      raise ValueError(f"{name} is '{said}'; it must be a number.")
    if name in os.environ:
      numbers[argument] = int(said)
  try:
    jax.distributed.initialize(**numbers)
  except ValueError as error:
    raise ValueError(
      f'config.mesh.processes is set, but the other processes are not found '
      f'({error}); give JAX_COORDINATOR_ADDRESS, LLOCO_PROCESSES and '
      'LLOCO_PROCESS.'
    ) from None


def is_first() -> bool:
  """Whether this process writes what is written once."""
  return jax.process_index() == 0


def agreed(numbers: list[int]) -> list[int]:
  """The numbers that the first process has."""
  if jax.process_count() == 1 or not numbers:
    return numbers
  mine = np.asarray(numbers, np.int32)
  return multihost_utils.broadcast_one_to_all(mine).tolist()


def all_did(mine: bool) -> bool:
  """Whether every process did what this one says of itself."""
  if jax.process_count() == 1:
    return mine
  return bool(np.all(multihost_utils.process_allgather(np.asarray(mine))))


def wait_for_all(what: str) -> None:
  """Returns when every process has come to the same place."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(what)


@contextlib.contextmanager
def one_voice():
  """Lets the first process alone print."""
  if is_first():
    yield
    return
  with open(os.devnull, 'w') as nowhere, contextlib.redirect_stdout(nowhere):
    yield
