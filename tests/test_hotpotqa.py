"""HotpotQA rows: paragraphs joined as in the reference, both settings."""

from official_files import hotpot_row, write_hotpotqa, write_json
import pytest

from lloco_jax.data.hotpotqa import read_hotpotqa

DOCUMENT = 'Fox\nFox is. Fox was.\n\nMill\nMill is. Mill was.'


def test_paragraphs_are_joined_and_shared(tmp_path):
  write_hotpotqa(tmp_path)
  dataset = read_hotpotqa(tmp_path)
  first, second = dataset.splits['train']
  assert first.document_ids == second.document_ids == ('a',)
  assert dataset.documents['a'].text == DOCUMENT
  assert len(dataset.documents) == 2
  assert (first.question, first.answers) == ('Which one is a?', ('the mill',))


def test_tags_tell_whether_the_gold_paragraphs_are_there(tmp_path):
  write_hotpotqa(tmp_path)
  dataset = read_hotpotqa(tmp_path)
  assert dataset.splits['train'][0].tags == (
    'bridge',
    'hard',
    'gold paragraphs',
  )
  assert dataset.splits['validation'][0].tags == ('bridge', 'hard')


def test_questions_that_nothing_was_retrieved_for_are_asked(tmp_path):
  write_hotpotqa(tmp_path)
  rows = [hotpot_row(id, 'Fox') | {'context': []} for id in 'xy']
  write_json(tmp_path / 'hotpot_dev_fullwiki_v1.json', rows)
  dataset = read_hotpotqa(tmp_path)
  x, y = dataset.splits['validation']
  assert x.document_ids == y.document_ids
  assert dataset.documents[x.document_ids[0]].text == (
    'No paragraphs were found.'
  )
  assert 'no paragraphs' in y.tags and 'gold paragraphs' not in y.tags


def test_settings_share_the_training_file(tmp_path):
  write_hotpotqa(tmp_path, 'fullwiki')
  row = hotpot_row('d', 'Fox', 'Mill', 'Owl')
  write_json(tmp_path / 'hotpot_dev_distractor_v1.partial.json', [row])
  dataset = read_hotpotqa(tmp_path, 'distractor')
  assert [e.id for e in dataset.splits['validation']] == ['d']
  assert dataset.files == (
    'hotpot_train_v1.1.json',
    'hotpot_dev_distractor_v1.partial.json',
  )
  with pytest.raises(ValueError, match='another part than config.data.part'):
    read_hotpotqa(tmp_path / 'hotpot_dev_distractor_v1.partial.json')
  full = read_hotpotqa(tmp_path, 'fullwiki')
  assert full.splits['train'] == dataset.splits['train']


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'context': [['Fox', 'one text']]}, "Field 'context' is no list of pairs"),
    ({'context': [['Fox']]}, "Field 'context' is no list of pairs"),
    ({'context': [['Fox', [1]]]}, "Field 'context' is no list of pairs"),
    ({'context': [[None, ['Text.']]]}, "Field 'context' is no list of pairs"),
    ({'_id': 'a'}, "Two examples have the id 'a'"),
    ({'supporting_facts': None}, "Field 'supporting_facts' is no list"),
    ({'context': []}, "Document 'b' is empty"),
    ({'answer': ''}, "'b' has an empty answer"),
  ],
)
def test_a_damaged_row_is_named(tmp_path, change, message):
  rows = [hotpot_row('a', 'Fox'), hotpot_row('b', 'Fox') | change]
  write_json(tmp_path / 'hotpot_train_v1.1.json', rows)
  with pytest.raises(ValueError, match=f'v1.1.json, row 2: .*{message}'):
    read_hotpotqa(tmp_path)


def test_missing_files_are_told_with_their_address(tmp_path):
  with pytest.raises(
    FileNotFoundError, match='dev_fullwiki_v1.json from http:'
  ):
    read_hotpotqa(tmp_path)
