"""Adapters of a library's groups, from pairs that the user can edit."""

import dataclasses
import json
import sys
import types

import jax
import numpy as np
import pytest
from small_run import ROOT
from test_experiment import write_model
from test_library import encode, make, model, text_of  # noqa: F401
from test_train import kill_when, run

from configs import library as configs_library
from lloco_jax import experiment, library_job
from lloco_jax.data.examples import Example
from lloco_jax.data.jsonl import example_line, read_examples
from lloco_jax.library.adding import add_folder
from lloco_jax.library.library import Library
from lloco_jax.library.pairs import find_documents, pairs_file, read_pairs
from lloco_jax.weights import peft
from lloco_jax.weights.checkpoint import load

pytest.importorskip('lancedb', reason="needs the extra 'library'")


def fill(folder, texts=2):
  """A library of the groups mills and birds, which train.py can open."""
  library = make(folder / 'library', load(write_model(folder / 'tiny')))
  for group, word in (('mills', 'mill'), ('birds', 'goose')):
    files = folder / 'files' / group
    files.mkdir(parents=True)
    for number in range(texts):
      (files / f'{number}.txt').write_text(
        f'{word} {number}. {text_of(number)}'
      )
    (files / f'{group}.txt').write_text(text_of(7, 600) + 'crown ' * 60)
    add_folder(library, files, group, progress=False)
  return library


@pytest.fixture(scope='module')
def library(tmp_path_factory):
  return fill(tmp_path_factory.mktemp('filled'))


def pair(name, document, question='Which word?', answer='goose'):
  return Example(name, question, (answer,), (document,))


def write_pairs(library, group, pairs):
  path = pairs_file(library, group)
  path.parent.mkdir(exist_ok=True)
  path.write_text(''.join(map(example_line, pairs)))
  return path


def config_of(library, group='', **changes):
  config = configs_library.get_config()
  config.library.path, config.library.group = str(library.folder), group
  config.training.tensorboard = False
  config.epochs = 1
  config.update(changes)
  return config


def test_a_pair_is_read_as_it_was_written(tmp_path):
  pairs = [
    pair('1', 'a "b"', 'Wo? \u00e4', 'x\ny'),
    Example('2', 'q', ('a', 'b'), ('d', 'e'), ('who',)),
  ]
  path = tmp_path / 'pairs.jsonl'
  path.write_text(''.join(map(example_line, pairs)))
  assert read_examples(path) == tuple(pairs)
  assert json.loads(path.read_text().splitlines()[0]).keys() == {
    'id', 'question', 'answer', 'document_id',
  }  # fmt: skip


def test_a_pair_may_name_its_document_in_any_way(library, capsys):
  entries = [e for e in library.catalogue.entries() if e.group == 'birds']
  whole, *parts = entries
  assert whole.parts == 1 and len(parts) > 1 and parts[-1].parts > 1
  [last] = [e for e in parts if e.part == e.parts and 'birds.txt' in e.name]
  names = [whole.name, whole.path, '0.txt']
  pairs = [pair(str(place), name) for place, name in enumerate(names)]
  found = find_documents(library, 'birds', pairs)
  assert [each.document_ids for each in found] == [(whole.name,)] * 3
  # Of a long file, the part that has the words of question and answer.
  for name in ('birds.txt', last.path, last.name):
    asked = pair('long', name, 'Which crown?', 'crown')
    [found] = find_documents(library, 'birds', [asked])
    assert found.document_ids == (last.name,)
    assert dataclasses.replace(found, document_ids=(name,)) == asked
  capsys.readouterr()
  # The other group's, and nobody's.
  lost = [pair('1', '0.txt'), pair('2', 'mills.txt'), pair('3', 'x.txt')]
  assert len(find_documents(library, 'birds', lost)) == 1
  said = capsys.readouterr().out
  assert '2 of 3 pairs are left out' in said
  assert "'2' about 'mills.txt' for one" in said


def test_a_group_without_pairs_is_told_what_makes_them(library):
  for group, said in (
    ('birds', "'birds' has no .* library study --group=birds --library=/"),
    ('', "'birds' has no question-answer pairs; write some to '.*birds.jsonl'"),
    ('x', "no group 'x'; it has birds, mills"),
  ):
    with pytest.raises(ValueError, match=said):
      experiment.train(config_of(library, group))
  path = write_pairs(library, 'birds', [])
  try:
    assert read_pairs(library, 'birds') == ()
    path.write_text('{"id": 1}')
    with pytest.raises(ValueError, match=r"birds.jsonl, line 1: .*'id'"):
      experiment.train(config_of(library))
    write_pairs(library, 'birds', [pair('1', 'x')])
    with pytest.raises(ValueError, match="No pair in .* group 'birds'"):
      experiment.train(config_of(library))
  finally:
    path.unlink()
  assert not (library.folder / 'training').exists()


@pytest.mark.parametrize(
  'changes, said',
  [
    ({'prompt': 'x'}, "config.prompt is 'x'; it must be one of plain"),
    ({'distillation': 1.5}, 'distillation is 1.5; it must be from 0 to 1'),
    ({'remat': 'x'}, "config.remat is 'x'"),
  ],
)
def test_settings_are_checked_first(library, changes, said):
  with pytest.raises(ValueError, match=said):
    experiment.train(config_of(library, **changes))
  with pytest.raises(ValueError, match='no evaluation; ask the library itself'):
    experiment.evaluate(config_of(library))


def test_groups_are_trained_in_turn_and_answered_with_their_adapters(
  tmp_path, capsys
):
  library = fill(tmp_path, texts=1)
  [*_, last] = [e for e in library.catalogue.entries() if e.group == 'birds']
  write_pairs(library, 'birds', [pair('1', '0.txt'), pair('2', last.name)])
  config = config_of(library)
  experiment.train(config)
  said = capsys.readouterr().out
  assert "The group 'mills' has no question-answer pairs" in said
  assert "adapter of 'birds' on 2 pairs about 2 documents: 2 steps" in said
  library = Library(library.folder, encode=encode)
  folders = library.adapter_folders()
  assert folders.keys() == {'birds'}
  assert library.adapter('birds')[0].rank == 8
  experiment.train(config)
  assert "The adapter of 'birds' is trained" in capsys.readouterr().out
  # What is learnt now, with its text before the teacher, is another run.
  write_pairs(library, 'birds', [pair('1', '0.txt', answer='ferry')])
  write_pairs(library, 'mills', [pair('1', '0.txt')])
  experiment.train(config_of(library, prompt='qasper', distillation=0.5))
  now = library.adapter_folders()
  assert now.keys() == {'birds', 'mills'}
  assert now['birds'][0] != folders['birds'][0]
  assert now['mills'][1] == 'qasper'
  assert (library.folder / 'training/birds').is_dir()


@pytest.fixture
def trained(tmp_path, monkeypatch):
  """A library whose groups have a pair each, and the groups that are trained.

  In place of the training a batch is read; `trained.meanwhile` is called after
  the first.
  """
  library = fill(tmp_path, texts=1)
  for group in ('birds', 'mills'):
    write_pairs(library, group, [pair('1', '0.txt')])
  found = types.SimpleNamespace(library=library, groups=[], meanwhile=None)

  def run_task(task, training, run, folder, base):
    next(iter(task.batches))
    weights = jax.tree.map(np.asarray, task.trainable)
    peft.save_adapter(
      folder, weights, base.name, base_fingerprint=base.fingerprint
    )
    found.groups.append(run.parent.name)
    if len(found.groups) == 1 and found.meanwhile:
      found.meanwhile()

  monkeypatch.setattr(library_job, 'run_task', run_task)
  return found


def test_a_group_learns_what_the_library_had_at_the_beginning(
  trained, tmp_path
):
  library, file = trained.library, tmp_path / 'files/mills/0.txt'

  def move():
    file.rename(file.with_name('moved.txt'))
    add_folder(library, file.parent, 'mills', progress=False)

  trained.meanwhile = move
  experiment.train(config_of(library, distillation=0.5))
  assert trained.groups == ['birds', 'mills']
  assert library.adapter_folders().keys() == {'birds', 'mills'}


def test_summaries_that_go_while_others_are_trained_are_told(trained, tmp_path):
  library = trained.library

  def change():
    for group in ('birds', 'mills'):
      file = tmp_path / 'files' / group / '0.txt'
      file.write_text(f'Another one. {text_of(6, 200)}')
      add_folder(library, file.parent, group, progress=False)

  trained.meanwhile = change
  with pytest.raises(ValueError, match="'mills' was not trained: .* again"):
    experiment.train(config_of(library))
  assert library.adapter_folders().keys() == {'birds'}
  experiment.train(config_of(library))
  assert trained.groups == ['birds', 'birds', 'mills']
  [run] = (library.folder / 'training/mills').iterdir()
  claimed = json.loads((run / 'config.json').read_text())
  now = library_job._lesson(config_of(library), library, 'mills')
  assert claimed['fingerprints']['training_data'] == now.digest


def test_adapters_are_named_while_files_are_added(trained):
  library = Library(trained.library.folder)
  with library.alone():
    experiment.train(config_of(library))
  assert library.adapter_folders().keys() == {'birds', 'mills'}


def test_other_groups_are_trained_where_an_adapter_cannot_be_named(trained):
  library = trained.library
  named = library.folder / 'adapters.json'
  trained.meanwhile = lambda: named.write_text('{')
  with pytest.raises(ValueError) as refusal:
    experiment.train(config_of(library))
  assert trained.groups == ['birds', 'mills']
  for group, said in zip(trained.groups, str(refusal.value).splitlines()):
    [folder] = (library.folder / 'training' / group).glob('*/adapter')
    assert f"'{group}' is trained, but not named" in said
    assert 'adapters.json is damaged' in said
    assert f'lloco_jax library adapter {group} {folder} --prompt=plain' in said
  # Again, the damage is told before anything else; without it they are named.
  with pytest.raises(ValueError, match=r'^\S*adapters.json is damaged'):
    experiment.train(config_of(library))
  named.unlink()
  experiment.train(config_of(library))
  assert trained.groups == ['birds', 'mills']
  assert library.adapter_folders().keys() == {'birds', 'mills'}


def test_a_bare_name_of_two_files_is_told(tmp_path, model, capsys):  # noqa: F811
  for folder in ('one', 'two'):
    (tmp_path / 'files' / folder).mkdir(parents=True)
    (tmp_path / 'files' / folder / 'README.md').write_text(f'{folder} mill')
  library = make(tmp_path / 'library', model)
  add_folder(library, tmp_path / 'files', '{mills}', progress=False)
  capsys.readouterr()
  path = str(tmp_path / 'files/two/README.md')
  both = dataclasses.replace(pair('1', ''), document_ids=(path, 'README.md'))
  pairs = [both, pair('2', path), pair('3', 'x.md')]
  assert find_documents(library, '{mills}', pairs) == (pairs[1],)
  none, doubtful = capsys.readouterr().out.splitlines()
  assert '1 of 3 pairs are left out, as they ask about what is no docu' in none
  assert "'3' about 'x.md'" in none
  assert "several files of the group '{mills}' have the name" in doubtful
  assert "'1' about 'README.md' for one; write the path of" in doubtful


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_with_the_same_adapter(tmp_path):
  library = fill(tmp_path, texts=1)
  write_pairs(library, 'birds', [pair('1', '0.txt'), pair('2', '0.txt', 'So?')])

  def command(workdir):
    return [
      sys.executable, 'train.py', f'--config={ROOT}/configs/library.py',
      f'--config.library.path={library.folder}', f'--workdir={workdir}',
      '--config.epochs=150', '--config.training.checkpoint_every=20',
      '--config.training.tensorboard=False',
    ]  # fmt: skip

  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  ended = run(command(whole))
  assert ended.returncode == 0, ended.stderr
  kill_when(
    command(killed),
    lambda: any(p.name.isdigit() for p in killed.glob('*/*/checkpoints/*')),
  )
  name = '*/*/adapter/adapter_model.safetensors'
  assert not [*killed.glob(name)]
  ended = run(command(killed))
  assert ended.returncode == 0, ended.stderr
  assert 'Going on from step' in ended.stdout
  [one], [other] = whole.glob(name), killed.glob(name)
  assert one.read_bytes() == other.read_bytes()
  place, _ = Library(library.folder).adapter_folders()['birds']
  assert place == str(other.parent)
