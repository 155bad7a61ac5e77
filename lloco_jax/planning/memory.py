"""What the compiler says a program takes of each device's memory."""

import dataclasses
import re

import jax
import numpy as np

GIB = 2**30
# Two ways in which the TPU compiler says it.
_TOO_MUCH = re.compile(
  r'RESOURCE_EXHAUSTED.*(?:Used (\S+) of (\S+) hbm'
  r'|\(([\d.]+\w)\) exceeds available HBM \(([\d.]+\w)\))',
  re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes per device; `aliased` of the output lie in given-up arguments.

  `beside` is what stays in memory while the program runs, and is no argument
  that it reads.
  """

  arguments: int
  temporaries: int
  output: int
  aliased: int
  beside: int = 0

  @property
  def needed(self) -> int:
    own = self.arguments + self.temporaries + self.output - self.aliased
    return own + self.beside


class DoesNotFitError(ValueError):
  """The compiler found no way to place a program in a device's memory."""


def compile_program(lowered):
  """The compiled program of a lowered one.

  Raises:
    DoesNotFitError: it takes more memory than a device has.
  """
  try:
    return lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    found = _TOO_MUCH.search(str(error))
    if not found:
      raise
    sizes = [size for size in found.groups() if size]
    raise DoesNotFitError(
      f'it takes {sizes[0]} of the {sizes[1]} that a device has.'
    ) from error


def memory_of(compiled, arguments=(), beside=()) -> Memory:
  """Of a compiled program.

  Args:
    compiled: the program.
    arguments: arrays, or their shapes, that it is called with; those that it
      does not read are in memory all the same.
    beside: what else is in memory.
  """
  found = compiled.memory_analysis()
  read = found.argument_size_in_bytes
  return Memory(
    arguments=read,
    temporaries=found.temp_size_in_bytes,
    output=found.output_size_in_bytes,
    aliased=found.alias_size_in_bytes,
    beside=max(shard_bytes(arguments) - read, 0) + shard_bytes(beside),
  )


def shard_bytes(tree) -> int:
  """Bytes of a tree's arrays, or of their shapes, on one of their devices."""

  def of(leaf):
    shape = leaf.sharding.shard_shape(leaf.shape)
    return int(np.prod(shape)) * leaf.dtype.itemsize

  return sum(map(of, jax.tree.leaves(tree)))
