"""Commands beside train.py and eval.py: python -m lloco_jax COMMAND --help."""

import argparse
from collections.abc import Sequence
import json
import pathlib

from lloco_jax import command_line
from lloco_jax.endpoint.commands import add_serve
from lloco_jax.evaluation import pairing, plots, ratios
from lloco_jax.files import write_file
from lloco_jax.library.commands import add_ask, add_library
from lloco_jax.planning.commands import add_plan


def main(arguments: Sequence[str] | None = None) -> None:
  """Runs the command that the arguments name, by default the program's own."""
  parser = argparse.ArgumentParser(prog='python -m lloco_jax')
  commands = parser.add_subparsers(
    title='commands', required=True, metavar='COMMAND'
  )
  _add_compare(commands)
  _add_ratios(commands)
  add_library(commands)
  add_ask(commands)
  add_serve(commands)
  add_plan(commands)
  chosen, chosen.overrides = parser.parse_known_args(arguments)
  if chosen.overrides and not hasattr(chosen, 'takes_overrides'):
    parser.error(f'unrecognized arguments: {" ".join(chosen.overrides)}')
  command_line.say(lambda: chosen.action(chosen))


def _add_compare(commands) -> None:
  parser = commands.add_parser(
    'compare',
    help='how two runs differ, question by question',
    description='Pairs the answers of two runs that were evaluated on the '
    'same examples: the difference with its interval, and what changed.',
  )
  parser.add_argument('run_a', metavar='RUN_A', help='workdir of a run')
  parser.add_argument('run_b', metavar='RUN_B', help='workdir of another')
  parser.add_argument(
    '--system', help="whose answers; by default RUN_A's main one, LLoCO"
  )
  parser.add_argument(
    '--most',
    type=int,
    default=20,
    metavar='N',
    help='show at most N changed answers (default: 20)',
  )
  parser.add_argument(
    '--output', metavar='FILE', help='write all of it as JSON'
  )
  parser.set_defaults(action=_compare)


def _add_ratios(commands) -> None:
  parser = commands.add_parser(
    'ratios',
    help='the score of runs by how much they compress',
    description='Lists the scores of runs that compress more or less, and '
    'draws them against the tokens a summary vector stands for.',
  )
  parser.add_argument('runs', nargs='+', metavar='RUN', help='workdir of a run')
  parser.add_argument(
    '--output',
    default='score_against_ratio.png',
    metavar='FILE',
    help='where the plot goes (default: score_against_ratio.png)',
  )
  parser.set_defaults(action=_ratios)


def _ratios(chosen) -> None:
  _check_folder(chosen.output)
  plots.check_format(chosen.output)
  found = ratios.read_ratios(chosen.runs)
  print(ratios.ratio_text(found), end='')
  plots.save_figure(ratios.ratio_figure(found), chosen.output)
  print(f'Plot: {chosen.output}')


def _check_folder(output: str) -> None:
  if pathlib.Path(output).is_dir():
    raise ValueError(f"--output '{output}' is a folder; name a file in it.")
  if not pathlib.Path(output).parent.is_dir():
    raise FileNotFoundError(
      f"There is no folder for --output '{output}'; make it first."
    )


def _compare(chosen) -> None:
  if chosen.most < 0:
    raise ValueError(f'--most is {chosen.most}; it must be 0 or more.')
  if chosen.output:
    _check_folder(chosen.output)
  found = pairing.compare_runs(chosen.run_a, chosen.run_b, chosen.system)
  print(pairing.pairing_text(found, chosen.most), end='')
  if chosen.output:
    text = json.dumps(
      pairing.pairing_fields(found),
      indent=2,
      ensure_ascii=False,
      allow_nan=False,
    )
    # A lone surrogate cannot be UTF-8, but its backslash form is valid JSON.
    content = (text + '\n').encode('utf-8', 'backslashreplace')
    write_file(pathlib.Path(chosen.output), content)


if __name__ == '__main__':
  main()
