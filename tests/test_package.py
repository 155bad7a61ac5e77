"""The house rules that no linter checks."""

import ast
import configparser
import functools
import importlib.util
import itertools
import json
import pathlib
import re
import subprocess
import sys
import warnings

from packaging.requirements import Requirement
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'lloco_jax'

# A room may import its own level and those before it.
LEVELS = (
  {'nn'},
  {'weights'},
  {'data'},
  {'compression', 'finetuning', 'generation', 'retrieval'},
  {'evaluation', 'library', 'planning', 'serving'},
  {'endpoint'},
)


def _name(path):
  parts = path.relative_to(ROOT).with_suffix('').parts
  return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {_name(path): path for path in sorted(PACKAGE.rglob('*.py'))}


@functools.cache
def _tree(module):
  return ast.parse(MODULES[module].read_text(encoding='utf-8'))


@functools.cache
def _imports(module):
  """The modules of the package that a module imports, anywhere in it."""
  found = []
  for node in ast.walk(_tree(module)):
    if isinstance(node, ast.Import):
      found += [alias.name for alias in node.names if alias.name in MODULES]
    elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
      inner = [f'{node.module}.{alias.name}' for alias in node.names]
      found += [name if name in MODULES else node.module for name in inner]
  return found


@functools.cache
def _level(module):
  """The level of a module's room; of a module in no room, its imports'."""
  room = module.partition('.')[2].partition('.')[0]
  for level, rooms in enumerate(LEVELS):
    if room in rooms:
      return level
  if MODULES[module].name in ('__init__.py', '__main__.py'):
    assert MODULES[module].parent == PACKAGE, f'{module} is in no level.'
    return len(LEVELS)
  return max((_level(name) for name in _imports(module)), default=0)


def test_imports_are_light():
  """Every module imports without the large libraries it can do without."""
  names = [name for name in MODULES if not name.endswith('__main__')]
  if importlib.util.find_spec('tensorflow_datasets') is None:
    # Which imports nothing heavy itself, and stands behind its builders alone.
    names = [name for name in names if '.builders.' not in name]
  program = (
    'import importlib, json, sys\n'
    f'for name in {names!r}: importlib.import_module(name)\n'
    'print(json.dumps(sorted(sys.modules)))'
  )
  result = subprocess.run(
    [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True
  )
  assert result.returncode == 0, result.stderr
  heavy = {'torch', 'tensorflow', 'transformers', 'peft', 'nltk'}
  heavy |= {'bs4', 'lancedb', 'pypdf', 'starlette', 'uvicorn'}
  assert not heavy & set(json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize('module', MODULES)
def test_lower_rooms_never_import_upper(module):
  upper = {name for name in _imports(module) if _level(name) > _level(module)}
  assert not upper, f'{module} imports {sorted(upper)}'


@pytest.mark.parametrize('module', MODULES)
def test_public_names_have_docstrings(module):
  tree = _tree(module)
  kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
  bare = [
    node.name
    for node in tree.body
    if isinstance(node, kinds)
    and not node.name.startswith('_')
    and not ast.get_docstring(node)
  ]
  if tree.body and not ast.get_docstring(tree):
    bare.insert(0, 'the module itself')
  assert not bare, f'{module}: no docstring on {bare}'


@pytest.mark.parametrize('module', MODULES)
def test_modules_are_short(module):
  length = len(MODULES[module].read_text(encoding='utf-8').splitlines())
  if length >= 400:
    warnings.warn(f'{module} has {length} lines; aim below 400.', stacklevel=1)
  assert length < 600


def test_no_module_has_the_name_of_a_public_function():
  public = {
    node.name
    for node in _tree('lloco_jax').body
    if isinstance(node, ast.FunctionDef)
  }
  public |= {
    alias.asname or alias.name
    for node in _tree('lloco_jax').body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
  }
  tops = {name.split('.')[1] for name in MODULES if '.' in name}
  assert not public & tops


def test_tracked_files_name_no_private_path():
  listed = subprocess.run(
    ['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True
  )
  if listed.returncode:
    pytest.skip('not a git checkout')
  private = re.compile(r'(?<![\w./:~-])/(?:root|work|home|Users|tmp)/\w')
  found = []
  for name in filter(None, listed.stdout.split('\0')):
    try:
      text = (ROOT / name).read_text(encoding='utf-8')
    except (UnicodeDecodeError, FileNotFoundError):
      continue
    found += [
      f'{name}:{number}'
      for number, line in enumerate(text.splitlines(), 1)
      if private.search(line)
    ]
  assert not found


@pytest.mark.parametrize('python', ['3.11', '3.12', '3.13', '3.14'])
def test_a_broken_pair_of_jax_and_flax_is_never_installed(python):
  """flax up to 0.12.8 does not work with jax 0.11.1 and newer."""
  setup = configparser.ConfigParser()
  setup.read(ROOT / 'setup.cfg')
  lines = setup['options']['install_requires'].strip().splitlines()
  allowed = {'jax': set(), 'flax': set()}
  versions = {
    'jax': ('0.10.2', '0.11.0', '0.11.1', '0.12.0.1'),
    'flax': ('0.12.7', '0.12.8', '0.12.9', '0.12.12'),
  }
  for requirement in map(Requirement, lines):
    name, marker = requirement.name, requirement.marker
    if name not in allowed:
      continue
    if marker and not marker.evaluate({'python_version': python}):
      continue
    allowed[name].update(requirement.specifier.filter(versions[name]))
  old_flax, new_jax = {'0.12.7', '0.12.8'}, {'0.11.1', '0.12.0.1'}
  pairs = list(itertools.product(allowed['jax'], allowed['flax']))
  assert pairs
  assert not [p for p in pairs if p[0] in new_jax and p[1] in old_flax]
