"""The notebooks, run from top to bottom as installed from a wheel."""

import os
import pathlib
import subprocess
import sys
import sysconfig

from conftest import ROOT
import pytest

FOLDER = ROOT / 'notebooks'


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
  folder = tmp_path_factory.mktemp('wheel')
  command = [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '.']
  subprocess.run([*command, '-w', str(folder)], cwd=ROOT, check=True)
  (path,) = folder.glob('*.whl')
  return path


def environment_beside(folder) -> pathlib.Path:
  """A Python that has this one's packages, and room for one more."""
  subprocess.run([sys.executable, '-m', 'venv', str(folder)], check=True)
  version = f'python{sys.version_info.major}.{sys.version_info.minor}'
  packages = folder / 'lib' / version / 'site-packages'
  (packages / 'beside.pth').write_text(sysconfig.get_path('purelib'))
  return folder / 'bin' / 'python'


@pytest.mark.slow
@pytest.mark.parametrize('path', sorted(FOLDER.glob('*.ipynb')), ids=str)
def test_a_notebook_runs_from_top_to_bottom(path, wheel, tmp_path):
  reason = "runs notebooks; the extra 'test' has it"
  nbformat = pytest.importorskip('nbformat', reason=reason)
  pytest.importorskip('nbclient', reason=reason)
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  sources = [cell for cell in notebook.cells if 'SOURCE = ' in cell.source]
  (install,) = sources
  lines = install.source.splitlines()
  lines = [
    f'SOURCE = {str(wheel)!r}' if line.startswith('SOURCE = ') else line
    for line in lines
  ]
  install.source = '\n'.join(lines)
  written = tmp_path / 'notebook.ipynb'
  nbformat.write(notebook, written)
  python = environment_beside(tmp_path / 'environment')
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
    'MPLBACKEND': 'agg',
  }
  subprocess.run(
    [str(python), '-c', program, str(written)],
    cwd=tmp_path,
    env=env,
    check=True,
  )
  done = nbformat.read(written, as_version=4)
  outputs = [
    output.get('text', '')
    for cell in done.cells
    if cell.cell_type == 'code'
    for output in cell.outputs
  ]
  assert str(ROOT) not in subprocess.check_output(
    [str(python), '-c', 'import lloco_jax; print(lloco_jax.__file__)'],
    cwd=tmp_path, text=True,
  )  # fmt: skip
  assert any(outputs)
