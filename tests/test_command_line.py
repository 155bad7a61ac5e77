"""Flags: overrides reach the stage, and mistakes end in one sentence."""

import io
import pathlib
import subprocess
import sys

from absl import app, flags
import pytest

from lloco_jax import command_line

ROOT = pathlib.Path(__file__).resolve().parents[1]
DEMO = str(ROOT / 'configs/demo.py')


@pytest.fixture
def call(monkeypatch):
  """Calls `run` with a command line; gives what ended it, and its calls."""
  app.define_help_flags()
  names = set(flags.FLAGS)

  def call(*arguments, stage=None):
    calls = []
    monkeypatch.setattr(sys, 'argv', ['train.py', *arguments])
    with pytest.raises(SystemExit) as ended:
      command_line.run(stage or (lambda *args: calls.append(args)), DEMO)
    return ended.value.code, calls

  yield call
  for name in set(flags.FLAGS) - names:
    delattr(flags.FLAGS, name)
  flags.FLAGS.unparse_flags()


def assert_one_sentence(said, *words):
  assert isinstance(said, str)
  assert '\n' not in said.strip() and said.strip().endswith('.')
  for word in words:
    assert word in said


def test_without_flags_the_default_config_runs(call):
  code, [(config, workdir)] = call()
  assert code is None
  assert config.name == 'demo' and workdir is None


def test_overrides_reach_the_stage(call):
  code, [(config, workdir)] = call(
    '--config.epochs=7',
    '--config.training.optimizer.learning_rate=1e-5',
    '--config.data.words=(90, 120)',
    '--config.adapters=("lloco",)',
    '--workdir=somewhere',
  )
  assert code is None and workdir == 'somewhere'
  assert config.epochs == 7
  assert config.training.optimizer.learning_rate == 1e-5
  assert config.data.words == (90, 120)
  assert config.adapters == ('lloco',)


def test_another_config_is_read(call):
  _, [(config, _)] = call(f'--config={ROOT}/configs/compressor_smollm2.py')
  assert config.job == 'compressor'


@pytest.mark.parametrize(
  'flag, words',
  [
    ('--config.epoch=3', ["'epoch'", '"epochs"']),
    ('--config.training.sed=3', ["'sed'", '"seed"']),
    ('--config.nothing.like=3', ["'nothing'"]),
    ('--config.epochs=three', ['config.epochs', 'three']),
    ('--config.epochs.more=3', ["'epochs.more'"]),
    ('--config.data.words.more=3', ['names no key']),
    ('--config.training.tensorboard=maybe', ['tensorboard', 'maybe']),
    ('--config=no/such.py', ["'no/such.py'", 'configs/']),
    ('--config=no/such.py --config.epochs=3', ["'no/such.py'", 'configs/']),
    ('--workdir', ['--workdir']),
    ('--epochs=3', ['epochs']),
    ('stray', ['stray', '--']),
  ],
)
def test_mistakes_end_in_one_sentence(call, flag, words):
  code, calls = call(*flag.split())
  assert_one_sentence(code, *words)
  assert not calls


def test_help_tells_the_flags(call, capsys):
  call('--help')
  said = capsys.readouterr().out
  assert '--config' in said and '--workdir' in said


@pytest.mark.parametrize('error', [ValueError, OSError, FloatingPointError])
def test_expected_errors_of_the_stage_end_in_their_sentence(call, error):
  def stage(config, workdir):
    raise error('The thing is wrong; mend it.')

  code, _ = call(stage=stage)
  assert code == f'{error.__name__}: The thing is wrong; mend it.'


def test_a_traceback_is_shown_where_it_is_wanted(monkeypatch):
  def stage():
    raise ValueError('The thing is wrong; mend it.')

  monkeypatch.setenv('LLOCO_TRACEBACK', '1')
  with pytest.raises(ValueError, match='mend it'):
    command_line.say(stage)


def test_an_interrupt_is_told_in_a_line(capsys, monkeypatch):
  def stage():
    raise KeyboardInterrupt

  with pytest.raises(SystemExit) as ended:
    command_line.say(stage)
  assert ended.value.code == 130
  assert capsys.readouterr().err == (
    '\nStopped. Where work takes long, the same command goes on.\n'
  )
  monkeypatch.setenv('LLOCO_TRACEBACK', '1')
  with pytest.raises(KeyboardInterrupt):
    command_line.say(stage)


def test_names_that_the_output_cannot_show_are_escaped(monkeypatch):
  output = io.TextIOWrapper(io.BytesIO(), 'ascii')
  monkeypatch.setattr(sys, 'stdout', output)
  command_line.say(lambda: print('ü.txt', flush=True))
  assert output.buffer.getvalue() == b'\\xfc.txt\n'


def test_output_that_nobody_reads_is_no_error():
  program = 'from lloco_jax import command_line\ncommand_line.say(%s)'
  action = "lambda: [print('x' * 9999) for _ in range(99)]"
  with subprocess.Popen(
    [sys.executable, '-c', program % action],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  ) as run:
    run.stdout.close()
    assert run.stderr.read() == b''
  assert run.returncode == 1


def test_other_errors_are_not_hidden():
  with pytest.raises(ZeroDivisionError):
    command_line.say(lambda: 1 / 0)


@pytest.mark.parametrize('script', ['train.py', 'eval.py'])
def test_a_program_says_its_mistake_without_a_traceback(script, tmp_path):
  found = subprocess.run(
    [sys.executable, str(ROOT / script), '--config.epoch=3'],
    cwd=tmp_path,
    capture_output=True,
    text=True,
  )
  assert found.returncode == 1 and not found.stdout
  assert_one_sentence(found.stderr, "'epoch'")
