"""Adding to a library that is stopped: by a kill, a full disk, another call."""

# ruff: noqa: F811  (fixtures of another file)

import os
import signal
import subprocess
import sys

import pytest
from test_library import (  # noqa: F401
  assert_clean,
  encode,
  files,
  load_short,
  make,
  model,
  state,
  text_of,
)

from lloco_jax.library import catalogue
from lloco_jax.library.adding import add_folder
from lloco_jax.library.checks import verify
from lloco_jax.library.library import Library

pytest.importorskip('lancedb', reason="needs the extra 'library'")


def add_and_die(folder, model_folder, files, step, count):
  """Adds a folder; the process is killed before the `count`-th such step.

  A step is a file taking its name, or a change of a table.
  """
  calls = []

  def deadly(function):
    def called(*args, **options):
      calls.append(function)
      if len(calls) == count:
        os.kill(os.getpid(), signal.SIGKILL)
      return function(*args, **options)

    return called

  model = load_short(model_folder)
  library = make(folder, model)
  if step == 'replace':
    os.replace = deadly(os.replace)
  elif step in ('passages', 'documents'):
    table = getattr(library.catalogue, f'_{step}')
    name = 'add' if step == 'passages' else 'merge_insert'
    setattr(table, name, deadly(getattr(table, name)))
  else:
    method = deadly(getattr(catalogue.Catalogue, step))
    setattr(catalogue.Catalogue, step, method)
  add_folder(library, files, 'mills')


@pytest.mark.slow
@pytest.mark.parametrize(
  'step, count',
  [('replace', 2), ('replace', 5), ('passages', 1), ('passages', 2)]
  + [('documents', 1), ('documents', 2), ('drop', 1), ('tidy', 2)],
)
@pytest.mark.parametrize('known', [False, True])
def test_killed_at_any_step_the_next_call_completes_it(
  tmp_path, model, files, step, count, known
):
  """While adding the first time, and while updating."""
  (files / 'long.txt').write_text(text_of(5, 3000))
  (files / 'z.txt').write_text(text_of(6, 600))
  library = make(tmp_path / 'library', model)
  if known:
    add_folder(library, files, 'mills')
    (files / 'a.txt').write_text(text_of(9))
    (files / 'long.txt').write_text(text_of(5, 3000) + text_of(7, 800))
    (files / 'below/c.html').unlink()
    (files / 'z.txt').write_text('Short.')
  program = (
    'import sys\n'
    f'sys.path.insert(0, {os.path.dirname(__file__)!r})\n'
    'import test_library_stopped\n'
    'from lloco_jax.library import adding\n'
    'adding._CHUNK = 1000\n'
    f'test_library_stopped.add_and_die({str(library.folder)!r}, '
    f'{model.name!r}, {str(files)!r}, {step!r}, {count})\n'
  )
  environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
  killed = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, env=environment
  )
  assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
  after = Library(library.folder, model, encode)
  # Nothing that is damaged, and every document whole, before it is mended.
  assert not verify(after).damage
  add_folder(after, files, 'mills')
  assert_clean(after)
  fresh = make(tmp_path / 'fresh', model)
  add_folder(fresh, files, 'mills')
  assert state(after) == state(fresh)


def may_mount() -> bool:
  command = ['unshare', '--map-root-user', '--mount', 'true']
  try:
    return subprocess.run(command, capture_output=True).returncode == 0
  except OSError:
    return False


@pytest.mark.slow
@pytest.mark.skipif(
  not may_mount(), reason='needs unshare and the right to mount a small disk'
)
@pytest.mark.parametrize('kilobytes', [60, 200, 380])
def test_a_disk_that_fills_up(tmp_path, model, files, kilobytes):
  """By summaries at first, then by the catalogue; with room it goes on."""
  for number in range(30):
    (files / f'{number}.txt').write_text(text_of(number, 500))
  disk = tmp_path / 'disk'
  disk.mkdir()
  library = f'{sys.executable} -m lloco_jax library'
  add = (
    f'{library} add {files} --group=mills --library={disk}/library '
    f'--model={model.name} --part_characters=400'
  )
  program = (
    f'mount -t tmpfs -o size={kilobytes}k tmpfs {disk} && {add}; '
    f'echo ended with $? >&2; mount -o remount,size=64m {disk} && {add} && '
    f'{library} verify --library={disk}/library'
  )
  done = subprocess.run(
    ['unshare', '--map-root-user', '--mount', 'sh', '-c', program],
    capture_output=True,
    text=True,
    env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
  )
  assert done.returncode == 0, done.stderr
  sentence, ended = done.stderr.strip().splitlines()
  assert sentence.startswith(f'OSError: The disk is full, so {disk}/library')
  assert ended == 'ended with 1'
  assert 'documents verified: 0 damaged, 0 leftovers' in done.stdout


@pytest.mark.slow
def test_two_processes_at_once(tmp_path, model, files):
  """One is told in a sentence or comes after; nothing is lost or doubled."""
  for number in range(20):
    (files / f'{number}.txt').write_text(text_of(number, 500))
  command = [
    sys.executable, '-m', 'lloco_jax', 'library', 'add', str(files),
    '--group=mills', f'--library={tmp_path / "library"}',
    f'--model={model.name}', '--part_characters=400',
  ]  # fmt: skip
  environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
  both = [
    subprocess.Popen(
      command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    for _ in range(2)
  ]
  told = [process.communicate() for process in both]
  codes = [process.returncode for process in both]
  assert 0 in codes, told
  for code, (_, error) in zip(codes, told):
    if code:
      assert error.decode().startswith('ValueError: Another program is')
      assert len(error.decode().strip().splitlines()) == 1
  library = Library(tmp_path / 'library', model)
  assert len({entry.path for entry in library.catalogue.entries()}) == 23
  assert_clean(library)
