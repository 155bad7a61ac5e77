"""The command `plan` of python -m lloco_jax."""

import ast
from collections.abc import Sequence
import functools
import runpy

from ml_collections import ConfigDict

from lloco_jax.planning.chips import MEMORY, find_chips
from lloco_jax.planning.report import make_plans, plan_text
from lloco_jax.planning.stages import STAGES, Sizes

_OVERRIDE = '--config.'


def add_plan(commands) -> None:
  """Adds the command `plan` to those of a parser."""
  parser = commands.add_parser(
    'plan',
    help='what a config takes of the memory of TPUs',
    description='Compiles the largest programs of a config for TPUs that need '
    'not be there, from the shapes of its arrays alone, and says what each '
    'takes of the memory of a device. Keys of the config are set as in '
    'train.py: --config.batch.rows=2.',
  )
  parser.add_argument(
    '--config', required=True, metavar='FILE[:NAME]', help='an experiment'
  )
  parser.add_argument(
    '--topology',
    required=True,
    metavar='CHIP:MESH',
    help=f'a chip of {", ".join(MEMORY)} and how many, such as v5e:2x4',
  )
  parser.add_argument(
    '--stage',
    action='append',
    choices=STAGES,
    default=[],
    help='plan this one; by default all that the config runs',
  )
  for name, what in (
    (
      'context',
      'summary vectors before a question (default: those of the longest '
      'document that the token cap leaves)',
    ),
    ('prompt', f'tokens of a question (default: {Sizes.prompt})'),
  ):
    parser.add_argument(f'--{name}', type=int, metavar='N', help=what)
  parser.set_defaults(action=_plan, takes_overrides=True)


def _plan(chosen) -> None:
  given = {name: getattr(chosen, name) for name in ('context', 'prompt')}
  sizes = {name: size for name, size in given.items() if size is not None}
  for name, size in sizes.items():
    if size < 1:
      raise ValueError(f'--{name} is {size}; it must be >= 1.')
  config = read_config(chosen.config, chosen.overrides)
  chips = find_chips(chosen.topology)
  for plan in make_plans(config, chips, chosen.stage, **sizes):
    print(plan_text(plan, chips), flush=True)


def read_config(place: str, overrides: Sequence[str] = ()) -> ConfigDict:
  """The config of 'FILE' or 'FILE:NAME', with '--config.KEY=VALUE' set.

  Raises:
    ValueError: the file has no such config, or the config no such key.
    FileNotFoundError: there is no such file.
  """
  path, _, name = place.partition(':')
  make = runpy.run_path(path).get('get_config')
  if make is None:
    raise ValueError(f'{path} has no get_config; see those in configs/.')
  config = make(name) if name else make()
  config.lock()
  for override in overrides:
    key, equals, text = override.removeprefix(_OVERRIDE).partition('=')
    if not override.startswith(_OVERRIDE) or not equals:
      raise ValueError(
        f"'{override}' is no argument of this command; keys of the config are "
        f'set by {_OVERRIDE}KEY=VALUE.'
      )
    try:
      value = _value(_present(config, key), text)
      config.update_from_flattened_dict({key: value})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
      raise ValueError(
        f"The config has no key '{key}' for such a value as {text}; its keys "
        'are in configs/.'
      ) from error
  return config


def _present(config: ConfigDict, key: str):
  return functools.reduce(lambda part, name: part[name], key.split('.'), config)


def _value(present, text: str):
  """What a text stands for, where a value like that which is present does."""
  if isinstance(present, str):
    return text
  if isinstance(present, bool) and text.lower() in ('true', 'false'):
    return text.lower() == 'true'
  try:
    value = ast.literal_eval(text)
  except (SyntaxError, ValueError):
    value = text
  if isinstance(present, tuple) and not isinstance(value, tuple | list):
    return (value,)
  return value
