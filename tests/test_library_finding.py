"""Passages, groups and documents of a question, against plain numpy."""

import dataclasses

import numpy as np
import pytest
from test_library import WORDS, encode, make, model, text_of  # noqa: F401

from lloco_jax.library import finding
from lloco_jax.library.adding import add_folder
from lloco_jax.library.catalogue import Catalogue, Entry, Passage
from lloco_jax.library.finding import Hit, documents_of, find, vote
from lloco_jax.retrieval.search import unit_vectors

pytest.importorskip('lancedb', reason="needs the extra 'library'")

FIELDS = {
  'part': 1, 'parts': 1, 'file_hash': 'f', 'characters': 9, 'tokens': 4,
  'cut_tokens': 0, 'passages': 1,
}  # fmt: skip


def entry_of(name, group='g', vectors=10):
  return Entry(
    path=f'/d/{name}', group=group, text_hash=name, key=name, vectors=vectors,
    **FIELDS,
  )  # fmt: skip


def fill(catalogue, texts, group=lambda number: 'g'):
  """A passage of its own document for each text; gives the documents."""
  entries = [entry_of(f'{n}', group(n)) for n in range(len(texts))]
  vectors = unit_vectors(encode, texts)
  catalogue.put(
    entries,
    [
      Passage(entry.version, 0, entry.group, text, vector)
      for entry, text, vector in zip(entries, texts, vectors)
    ],
  )
  catalogue.tidy()
  return entries


@pytest.fixture(scope='module')
def texts():
  return [text_of(seed, 80) for seed in range(300)]


@pytest.fixture(scope='module')
def filled(texts, tmp_path_factory):
  catalogue = Catalogue(tmp_path_factory.mktemp('catalogue'), len(WORDS))
  return catalogue, fill(catalogue, texts, lambda n: f"it's {n % 3}")


@pytest.mark.parametrize('group', [None, "it's 1"])
@pytest.mark.parametrize('count', [1, 7, 100])
def test_vectors_are_ranked_as_by_numpy(filled, texts, group, count):
  catalogue, entries = filled
  places = [
    place for place, entry in enumerate(entries) if group in (None, entry.group)
  ]
  vectors = unit_vectors(encode, texts)[places]
  for question in ('goose and crown', 'the roof of the mill', WORDS[0]):
    query = unit_vectors(encode, [question])[0]
    cosines = vectors @ query
    order = np.argsort(-cosines, kind='stable')[:count]
    found = catalogue.by_vector(query, count, group)
    np.testing.assert_allclose(
      [row[3] for row in found], cosines[order], atol=1e-5
    )
    # Equal cosines may stand in any order.
    by_version = {entries[place].version: place for place in places}
    for version, number, text, cosine in found:
      place = by_version[version]
      assert (number, text) == (0, texts[place])
      np.testing.assert_allclose(
        cosines[places.index(place)], cosine, atol=1e-5
      )
    assert len({row[0] for row in found}) == len(order)


@pytest.mark.parametrize('group', [None, "it's 1"])
def test_words_find_every_passage_that_has_one(filled, texts, group):
  catalogue, entries = filled
  for question in ('goose', 'geese? "goose" (AND) mill:'):
    words = [word for word in WORDS if word in question]
    having = {
      entry.version
      for entry, text in zip(entries, texts)
      if any(word in text for word in words) and group in (None, entry.group)
    }
    found = catalogue.by_words(question, 1000, group)
    assert {row[0] for row in found} == having
    scores = [row[3] for row in found]
    assert scores == sorted(scores, reverse=True) and min(scores) > 0
  assert catalogue.by_words('unheard of', 10) == []
  assert catalogue.by_words('?!', 10) == []


def test_a_rare_word_counts_more(tmp_path):
  catalogue = Catalogue(tmp_path, len(WORDS))
  texts = ['the mill'] * 8 + ['the goose', 'the mill mill']
  entries = fill(catalogue, texts)
  found = catalogue.by_words('goose of the mill', 10)
  assert found[0][0] == entries[8].version


def test_passages_that_are_new_are_found_before_the_index_knows_them(tmp_path):
  catalogue = Catalogue(tmp_path, len(WORDS))
  fill(catalogue, ['the mill', 'a river'])
  new = entry_of('new')
  vector = unit_vectors(encode, ['goose'])[0]
  catalogue.put([new], [Passage(new.version, 0, 'g', 'goose', vector)])
  for found in (
    catalogue.by_words('goose', 1),
    catalogue.by_vector(vector, 1),
    Catalogue(tmp_path, len(WORDS)).by_words('goose', 1),
  ):
    assert [row[0] for row in found] == [new.version]


def test_what_a_stopped_program_left_is_never_found(tmp_path):
  catalogue = Catalogue(tmp_path, len(WORDS))
  entries = fill(catalogue, ['goose'] * 30 + ['goose goose mill'])
  catalogue.drop(entries[:30])
  vector = unit_vectors(encode, ['goose'])[0]
  for found in (
    catalogue.by_words('goose', 2),
    catalogue.by_vector(vector, 2),
  ):
    assert [row[0] for row in found] == [entries[30].version]


def test_tables_of_another_embedding_are_refused(tmp_path):
  Catalogue(tmp_path, 3)
  with pytest.raises(ValueError, match='does not read, or .* another text'):
    Catalogue(tmp_path, 4)


def test_a_document_takes_the_place_of_its_earlier_version(tmp_path):
  catalogue = Catalogue(tmp_path, len(WORDS))
  [old] = fill(catalogue, ['goose'])
  new = Entry(**{**vars(old), 'text_hash': 'n', 'key': 'n'})
  assert new.place == old.place and new.version != old.version
  vector = unit_vectors(encode, ['mill'])[0]
  catalogue.put([new], [Passage(new.version, 0, 'g', 'mill', vector)])
  assert catalogue.entries() == [new]
  assert catalogue.by_words('goose', 5) == []
  catalogue.tidy()
  assert catalogue.counts() == {new.version: 1}


@pytest.fixture(scope='module')
def library(tmp_path_factory, model):  # noqa: F811
  folder = tmp_path_factory.mktemp('files')
  library = make(tmp_path_factory.mktemp('library') / 'l', model)
  for group in ('one', 'two'):
    (folder / group).mkdir()
    for number in range(3):
      text = text_of(f'{group}{number}'.encode()[-1] + len(group), 600)
      (folder / group / f'{number}.txt').write_text(f'{group} {text}')
    add_folder(library, folder / group, group, progress=False)
  return library


@pytest.mark.parametrize('candidates', [1000, 6])
def test_both_searches_are_fused(library, monkeypatch, candidates):
  """Among few candidates, some are put forward by one search alone."""
  monkeypatch.setattr(finding, '_CANDIDATES', candidates)
  question = 'goose of the ferry'
  hits = find(library, question, 15)
  entries = library.catalogue.entries()
  texts = library.catalogue.texts([entry.version for entry in entries])
  passages = [
    (entry.version, text) for entry in entries for text in texts[entry.version]
  ]
  by_words = library.catalogue.by_words(question, candidates)
  words = {(version, text): score for version, _, text, score in by_words}
  vectors = unit_vectors(encode, [text for _, text in passages])
  found = vectors @ unit_vectors(encode, [question])[0]
  nearest = sorted(found, reverse=True)[:candidates]
  expected = {
    passage: 0.6 * words.get(passage, 0) / max(words.values())
    + 0.4 * max(cosine, nearest[-1])
    for passage, cosine in zip(passages, found)
    if passage in words or cosine >= nearest[-1]
  }
  scores = [hit.score for hit in hits]
  assert len(scores) == min(15, len(expected)) > 6
  best = sorted(expected.values(), reverse=True)
  np.testing.assert_allclose(scores, best[: len(scores)], rtol=1e-4)
  for hit in hits:
    name = hit.entry.version, hit.text
    np.testing.assert_allclose(hit.score, expected[name], rtol=1e-4)


def test_a_group_alone(library):
  hits = find(library, 'goose of the ferry', 50, 'two')
  assert {hit.entry.group for hit in hits} == {'two'}
  assert vote(hits) == 'two'
  assert vote(find(library, 'two')) == 'two'
  assert vote(find(library, 'one')) == 'one'


def test_refusals(library, tmp_path, model):  # noqa: F811
  with pytest.raises(ValueError, match="no group 'x'; it has one, two"):
    find(library, 'goose', group='x')
  with pytest.raises(ValueError, match='question is empty'):
    find(library, ' ')
  with pytest.raises(ValueError, match='has no documents; add some'):
    find(make(tmp_path / 'l', model), 'goose')
  with pytest.raises(ValueError, match='Nothing was found'):
    vote([])


def test_groups_vote_with_the_scores_of_their_hits():
  hits = [Hit(entry_of('a', 'x'), '', 0.5)]
  hits += [Hit(entry_of(f'{n}', 'y'), '', 0.2) for n in range(3)]
  assert vote(hits) == 'y' and vote(hits[:3]) == 'x'
  # Only the best five count.
  crowd = [Hit(entry_of(f'{n}', 'z'), '', 0.1) for n in range(90)]
  assert vote(hits + crowd) == 'y'


def test_documents_come_once_and_fit():
  small, large = entry_of('s', vectors=4), entry_of('l', vectors=7)
  other = entry_of('o', vectors=6)
  hits = [Hit(each, '', 1.0) for each in (small, small, large, other)]
  assert [hit.entry for hit in documents_of(hits, 9, 17)] == [
    small, large, other,
  ]  # fmt: skip
  assert [hit.entry for hit in documents_of(hits, 2, 17)] == [small, large]
  assert [hit.entry for hit in documents_of(hits, 9, 10)] == [small, other]
  assert documents_of(hits, 9, 3) == []
  copy = dataclasses.replace(small, path='/d/copy')
  assert len(documents_of([Hit(copy, '', 2.0), *hits], 9, 17)) == 3


def test_equal_scores_come_in_the_order_of_names(tmp_path, model, monkeypatch):  # noqa: F811
  """Whatever order the database gives them in."""
  library = make(tmp_path / 'library', model)
  (tmp_path / 'files').mkdir()
  for name in 'cab':
    (tmp_path / f'files/{name}.txt').write_text('The goose is late.')
  add_folder(library, tmp_path / 'files', 'birds', progress=False)
  search = library.catalogue.by_words
  for turned in (False, True):
    monkeypatch.setattr(
      library.catalogue,
      'by_words',
      lambda *given, turned=turned: search(*given)[:: -1 if turned else 1],
    )
    hits = find(library, 'goose')
    assert [hit.entry.path[-5:] for hit in hits] == ['a.txt', 'b.txt', 'c.txt']
    assert hits[0].score == hits[2].score
