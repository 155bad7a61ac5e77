"""The notebooks, run from top to bottom as installed from a wheel."""

import json
import os
import pathlib
import re
import subprocess
import sys
import sysconfig

from conftest import ROOT
import pytest

NOTEBOOKS = sorted((ROOT / 'notebooks').glob('*.ipynb'))


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
  folder = tmp_path_factory.mktemp('wheel')
  command = [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '.']
  subprocess.run([*command, '-w', str(folder)], cwd=ROOT, check=True)
  (path,) = folder.glob('*.whl')
  return path


@pytest.fixture(scope='module')
def python(tmp_path_factory) -> pathlib.Path:
  """A Python that has this one's packages, and room for one more."""
  folder = tmp_path_factory.mktemp('environment')
  subprocess.run([sys.executable, '-m', 'venv', str(folder)], check=True)
  version = f'python{sys.version_info.major}.{sys.version_info.minor}'
  packages = folder / 'lib' / version / 'site-packages'
  (packages / 'beside.pth').write_text(sysconfig.get_path('purelib'))
  return folder / 'bin' / 'python'


def set_variables(notebook, **values):
  """Sets each variable where the one line `NAME = ...` says it."""
  for name, value in values.items():
    line = re.compile(f'^{name} = .*$', re.MULTILINE)
    (cell,) = [
      each
      for each in notebook.cells
      if each.cell_type == 'code' and line.search(each.source)
    ]
    cell.source = line.sub(
      lambda _, n=name, v=value: f'{n} = {v!r}', cell.source
    )


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_what_it_printed(path):
  cells = json.loads(path.read_text(encoding='utf-8'))['cells']
  code = [cell for cell in cells if cell['cell_type'] == 'code']
  assert code
  for cell in code:
    assert not cell['outputs'] and cell['execution_count'] is None


@pytest.mark.slow
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path, wheel, python, tmp_path):
  reason = "runs notebooks; the extra 'test' has it"
  nbformat = pytest.importorskip('nbformat', reason=reason)
  pytest.importorskip('nbclient', reason=reason)
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  set_variables(notebook, SOURCE=str(wheel), MODEL='smollm2-135m')
  written = tmp_path / 'notebook.ipynb'
  nbformat.write(notebook, written)
  program = (
    'import sys, nbformat, nbclient\n'
    'notebook = nbformat.read(sys.argv[1], as_version=4)\n'
    'nbclient.NotebookClient(notebook, timeout=900).execute()\n'
    'nbformat.write(notebook, sys.argv[1])\n'
  )
  # Kernels are those of the environment that is first on the path.
  env = os.environ | {
    'PATH': f'{python.parent}{os.pathsep}{os.environ["PATH"]}',
    'JAX_PLATFORMS': 'cpu',
  }
  for name in ('MPLBACKEND', 'PYTHONPATH'):
    env.pop(name, None)
  subprocess.run(
    [str(python), '-c', program, str(written)],
    cwd=tmp_path,
    env=env,
    check=True,
  )
  assert str(ROOT) not in subprocess.check_output(
    [str(python), '-c', 'import lloco_jax; print(lloco_jax.__file__)'],
    cwd=tmp_path, env=env, text=True,
  )  # fmt: skip
  done = nbformat.read(written, as_version=4)
  outputs = [
    output
    for cell in done.cells
    if cell.cell_type == 'code'
    for output in cell.outputs
  ]
  assert any(output.get('text') for output in outputs)
  assert any('image/png' in output.get('data', ()) for output in outputs)
  assert (tmp_path / 'adapter/adapter_model.safetensors').is_file()
