"""Flags of train.py and eval.py, and errors said in one sentence."""

from collections.abc import Callable
import io
import os
import sys

from absl import app, flags, logging
from ml_collections import config_flags

# As shells tell it of a program that SIGINT has ended.
_INTERRUPTED = 130
# Errors that say in one sentence what is wrong with an input.
_EXPECTED = (ValueError, OSError, ImportError, FloatingPointError)


def run(stage: Callable, default_config: str) -> None:
  """Calls `stage(config, workdir)` with what the command line says.

  Expected errors end the program with their sentence; LLOCO_TRACEBACK=1
  shows where they come from.
  """
  try:
    # With a default the flag reads the command line as it is defined.
    config = config_flags.DEFINE_config_file(
      'config',
      default_config,
      'Experiment to run. --config.KEY=VALUE sets one of its keys, which '
      'configs/common.py explains and a run prints as it starts.',
      lock_config=True,
    )
  except (AttributeError, KeyError, TypeError) as error:
    sys.exit(_unknown_key(error))
  workdir = flags.DEFINE_string(
    'workdir', None, 'Folder of the run; by default runs/<name of the config>.'
  )
  # Or --help would tell the flags of the script alone, which has none.
  for flag in (config, workdir):
    flags.FLAGS.register_key_flag_for_module(
      sys.argv[0], flags.FLAGS[flag.name]
    )

  def main(argv):
    # Orbax tells its whole configuration otherwise.
    logging.set_verbosity(logging.WARNING)
    if len(argv) > 1:
      sys.exit(f'Unknown arguments: {" ".join(argv[1:])}; flags start with --.')
    try:
      # A file that is missing is told as the config is first touched.
      config.value.keys()
    except OSError as error:
      sys.exit(_unread_file(error))
    say(lambda: stage(config.value, workdir.value))

  def parse(argv):
    try:
      return flags.FLAGS(argv)
    except (AttributeError, KeyError, TypeError) as error:
      sys.exit(_unknown_key(error))
    except OSError as error:
      sys.exit(_unread_file(error))
    except flags.Error as error:
      # An error in a config's own file comes with all that led to it.
      said = str(error).strip().splitlines()[-1].rstrip('.')
      sys.exit(f'{said}; --help tells the flags.')

  app.run(main, flags_parser=parse)


def say(action: Callable) -> None:
  """Runs an action; expected errors end the program with their sentence.

  So does an interrupt. Characters that the output cannot show are escaped.
  """
  if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors='backslashreplace')
  try:
    action()
  except BrokenPipeError:
    # Whoever read the output has gone, as `head` does; nor is it flushed.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)
  except _EXPECTED as error:
    if os.environ.get('LLOCO_TRACEBACK'):
      raise
    sys.exit(f'{type(error).__name__}: {error}')
  except KeyboardInterrupt:
    if os.environ.get('LLOCO_TRACEBACK'):
      raise
    print(
      '\nStopped. Where work takes long, the same command goes on.',
      file=sys.stderr,
    )
    sys.exit(_INTERRUPTED)


def _unknown_key(error: Exception) -> str:
  """ml_collections quotes its message twice, with its line break."""
  if os.environ.get('LLOCO_TRACEBACK'):
    raise error
  if isinstance(error, TypeError):
    return f'A --config flag names no key ({error}). The keys are in configs/.'
  said = str(error).strip('\'"').replace('\\n', '\n').replace('\\', '')
  key, _, hint = said.rpartition('lookup: ')[2].partition('\n')
  key = key.strip('\'"')
  hint = f' {hint}' if hint else ''
  return f"The config has no key '{key}'.{hint} Its keys are in configs/."


def _unread_file(error: OSError) -> str:
  """ml_collections tells all that it tried; the system's reason is enough."""
  reason = str(error)[str(error).rfind('[Errno') :].strip()
  return f'The config cannot be read: {reason}; see those in configs/.'
