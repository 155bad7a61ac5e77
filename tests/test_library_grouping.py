"""Groups that are found by what files are about."""

import collections
import types

import numpy as np
import pytest
from test_library import (  # noqa: F401
  WORDS,
  assert_clean,
  counted,
  encode,
  make,
  model,
)

from lloco_jax.__main__ import main
from lloco_jax.library import commands, grouping
from lloco_jax.library.adding import add_folder
from lloco_jax.library.checks import verify
from lloco_jax.library.grouping import (
  UNGROUPED,
  find_groups,
  is_ungrouped,
  name_clusters,
  nearest_group,
)
from lloco_jax.library.pairs import groups_of, pairs_file

pytest.importorskip('lancedb', reason="needs the extra 'library'")

TOPICS = {'mill': WORDS[:3], 'boat': WORDS[5:7], 'farm': WORDS[7:]}


def topic_text(topic, seed):
  """Words of a topic among words that every text has."""
  random = np.random.default_rng(seed)
  words = [*random.choice(TOPICS[topic], 30), *['that', 'with'] * 10]
  return ' '.join(random.permutation(words))


def write(folder, topics, start=0):
  folder.mkdir(exist_ok=True)
  for number, topic in enumerate(topics, start):
    path = folder / f'{number:02d}-{topic}.txt'
    path.write_text(topic_text(topic, number))


def topics_by_group(library):
  found = collections.defaultdict(set)
  for entry in library.catalogue.entries():
    found[entry.group].add(entry.path.rpartition('-')[2])
  return dict(found)


@pytest.fixture
def library(tmp_path, model):  # noqa: F811
  library = make(tmp_path / 'library', model)
  write(tmp_path / 'files', ['mill', 'boat', 'farm', 'mill'] * 3)
  add_folder(library, tmp_path / 'files', progress=False)
  return library


def test_files_are_put_where_they_are_alike(library, tmp_path):
  assert topics_by_group(library).keys() == {UNGROUPED}
  assert is_ungrouped(library)
  before = library.store.keys()
  found = find_groups(library)
  assert sorted(map(len, found.files.values())) == [3, 3, 6]
  groups = topics_by_group(library)
  assert len(groups) == 3 and all(len(each) == 1 for each in groups.values())
  for group, [topic] in groups.items():
    named = set(group.split('-'))
    assert named <= set(TOPICS[topic.removesuffix('.txt')])
  assert [each.count for each in found.tried] == [2, 3, 4, 5, 6]
  assert '     3  ' in found.text() and found.text().count(' *\n') == 1
  assert library.store.keys() == before
  assert_clean(library)
  # What is there stays; a new file comes to those that are like it.
  assert not is_ungrouped(library)
  write(tmp_path / 'files', ['boat'], start=40)
  counts = add_folder(library, tmp_path / 'files', progress=False)
  assert counted(counts) == (1, 12, 0, 0, 0, 0)
  assert sorted(map(len, topics_by_group(library).values())) == [1, 1, 1]
  # So does a file that has changed.
  write(tmp_path / 'files', ['boat'], start=0)
  (tmp_path / 'files/00-mill.txt').write_text(topic_text('farm', 1))
  add_folder(library, tmp_path / 'files', progress=False)
  [entry] = [e for e in library.catalogue.entries() if '00-mill' in e.path]
  assert groups[entry.group] == {'mill.txt'}


def test_a_grouping_that_was_stopped_is_completed(
  library, tmp_path, monkeypatch
):
  monkeypatch.setattr(grouping, '_AT_ONCE', 5)
  put, calls = library.catalogue.put, []

  def stop(*arguments):
    calls.append(arguments)
    if len(calls) == 2:
      raise KeyboardInterrupt
    put(*arguments)

  with monkeypatch.context() as patch:
    patch.setattr(library.catalogue, 'put', stop)
    with pytest.raises(KeyboardInterrupt):
      find_groups(library)
  assert UNGROUPED in topics_by_group(library) and not is_ungrouped(library)
  assert 'not all in the groups' in verify(library).text()
  with pytest.raises(ValueError, match='not all in the groups'):
    groups_of(library)
  plan = library.folder / 'grouping.json'
  kept = plan.read_bytes()
  plan.write_bytes(kept[:-5])
  with pytest.raises(ValueError, match='grouping.json is damaged'):
    find_groups(library)
  plan.write_bytes(kept)
  add_folder(library, tmp_path / 'files', progress=False)
  groups = topics_by_group(library)
  assert len(groups) == 3 and all(len(each) == 1 for each in groups.values())
  assert not (library.folder / 'grouping.json').exists()
  assert_clean(library)


def test_a_number_of_groups_can_be_named(library):
  assert len(find_groups(library, count=2).files) == 2
  assert len(topics_by_group(library)) == 2
  with pytest.raises(ValueError, match='into 99 groups; it must be 2'):
    find_groups(library, count=99)
  with pytest.raises(ValueError, match='into -1 groups'):
    find_groups(library, count=-1)
  with pytest.raises(ValueError, match='most is 0'):
    find_groups(library, most=0)


def test_files_that_are_alike_stay_together(tmp_path, model, monkeypatch):  # noqa: F811
  library = make(tmp_path / 'library', model)
  assert not find_groups(library).files
  assert nearest_group(library, encode(['mill'])[0]) == UNGROUPED
  write(tmp_path / 'files', ['mill', 'boat', 'farm'])
  add_folder(library, tmp_path / 'files', progress=False)
  found = find_groups(library)
  assert found.files.keys() == {UNGROUPED} and not found.tried
  assert 'too few or too alike' in found.text()
  write(tmp_path / 'files', ['boat'] * 3, start=40)
  add_folder(library, tmp_path / 'files', progress=False)
  monkeypatch.setattr(grouping, '_LEAST_SILHOUETTE', 1.0)
  assert find_groups(library).files.keys() == {UNGROUPED}
  assert topics_by_group(library).keys() == {UNGROUPED}


@pytest.mark.parametrize('topics', [['mill'], ['mill', 'boat', 'farm']])
def test_groups_of_the_users_outlast_a_search_that_finds_none(
  tmp_path,
  model,  # noqa: F811
  monkeypatch,
  topics,
):
  library = make(tmp_path / 'library', model)
  for start, name in enumerate(('letters', 'invoices')):
    write(tmp_path / name, topics, 40 * start)
    add_folder(library, tmp_path / name, name, progress=False)
  before = library.catalogue.entries()
  monkeypatch.setattr(grouping, '_LEAST_SILHOUETTE', 1.0)
  found = find_groups(library)
  assert library.catalogue.entries() == before
  assert {name: len(paths) for name, paths in found.files.items()} == {
    'letters': len(topics),
    'invoices': len(topics),
  }
  assert 'too few or too alike' in found.text() and '*' not in found.text()


def test_groups_with_pairs_are_left_alone(library):
  path = pairs_file(library, UNGROUPED)
  path.parent.mkdir()
  path.write_text('')
  assert not is_ungrouped(library)
  with pytest.raises(ValueError, match="'documents' has question-answer pairs"):
    find_groups(library)
  path.unlink()
  adapter = library.folder / 'adapters/documents'
  adapter.mkdir(parents=True)
  (adapter / 'adapter_config.json').write_text('{}')
  with pytest.raises(ValueError, match="'documents' has an adapter"):
    find_groups(library)


def test_names_are_words_that_others_lack():
  files = [
    'king king kings kings ring that', 'king king kings kings ring with',
    'ship that with sail', 'ship sail ship with that', 'once that with',
  ]  # fmt: skip
  words = [collections.Counter(text.split()) for text in files]
  assert name_clusters(words, [0, 0, 1, 1, 1]) == ['king-ring', 'ship-sail']
  empty = [collections.Counter()] * 3
  assert name_clusters(empty, [0, 1, 2]) == ['group', 'group-2', 'group-3']


def test_the_commands(tmp_path, model, capsys, monkeypatch):  # noqa: F811
  write(tmp_path / 'files', ['mill', 'boat', 'farm'] * 3)
  place = f'--library={tmp_path / "l"}'

  def call(*arguments):
    main(['library', *arguments, place])
    return capsys.readouterr().out

  opened = types.SimpleNamespace(
    make=lambda folder, *_, **__: make(folder, model)
  )
  monkeypatch.setattr(commands, 'Library', opened)
  said = call('add', str(tmp_path / 'files'))
  assert '9 added' in said and said.count(': 3 files') == 3
  assert 'silhouette' not in call('add', str(tmp_path / 'files'))
  library = make(tmp_path / 'l', model)
  monkeypatch.setattr(commands, 'Library', lambda folder: library)
  assert call('group', '--groups=2').count(' files\n') == 2
