"""What a config's data becomes: sources, limits, and what is said of them."""

from official_files import (
  WRITERS,
  article,
  hotpot_row,
  write_fairytaleqa,
  write_hotpotqa,
  write_json,
  write_lines,
  write_scrolls,
  write_squad,
)
import pytest

from configs import common
from lloco_jax.inputs import check_dataset, load_dataset


def data(path, source, **fields):
  config = common.finetuning('test').data
  config.source, config.path = source, str(path)
  config.update(fields)
  return config


PARTS = {
  'fairytaleqa': 'stories',
  'scrolls': 'qasper',
  'squad': 'v1.1',
  'hotpotqa': 'fullwiki',
  'longbench': 'qasper',
}


@pytest.mark.parametrize('source', WRITERS)
def test_every_source_is_loaded(tmp_path, source, capsys):
  part = PARTS.get(source, '')
  WRITERS[source](tmp_path, part)
  dataset = load_dataset(data(tmp_path, source, part=part))
  assert dataset.splits['validation']
  said = capsys.readouterr().out
  assert said.startswith('Data: ') and said.count('\n') == 1
  assert 'left out' not in said
  for name in dataset.files:
    assert name in said
  assert f'in {tmp_path}.' in said


@pytest.mark.parametrize('source', WRITERS)
def test_missing_files_are_told_in_a_sentence(tmp_path, source):
  config = data(tmp_path, source, part=PARTS.get(source, ''))
  with pytest.raises(FileNotFoundError, match=r'holds no .*; .*https?://.*\.$'):
    load_dataset(config)


def test_limits_are_kept_and_told(tmp_path, capsys):
  write_hotpotqa(tmp_path)
  rows = [hotpot_row(f'r{n}', f'Fox {n % 8}') for n in range(16)]
  write_json(tmp_path / 'hotpot_train_v1.1.json', rows)
  fields = {'part': 'fullwiki', 'seed': 42}
  config = data(tmp_path, 'hotpotqa', train_examples=3, **fields)
  dataset = load_dataset(config)
  assert len(dataset.splits['train']) == 3
  assert len(dataset.splits['validation']) == 1
  # Documents that nothing asks about any more are not compressed.
  assert set(dataset.documents) == {
    name
    for examples in dataset.splits.values()
    for example in examples
    for name in example.document_ids
  }
  said = capsys.readouterr().out
  assert dataset.told in said
  assert 'train 3 questions about ' in said
  assert '(of 16 questions about 8 documents; the rest is left out)' in said
  assert 'validation 1 questions about 1 documents; from' in said
  config = data(tmp_path, 'hotpotqa', train_documents=2, **fields)
  dataset = load_dataset(config)
  assert len(dataset.documents_of('train')) == 2
  assert len(dataset.splits['train']) == 4
  config = data(tmp_path, 'hotpotqa', questions_per_document=1, **fields)
  assert len(load_dataset(config).splits['train']) == 8


def test_validation_limits_hold_for_any_split_that_is_evaluated(tmp_path):
  write_fairytaleqa(tmp_path)
  config = data(tmp_path, 'fairytaleqa', part='stories', validation_examples=1)
  dataset = load_dataset(config, 'test')
  assert set(dataset.splits) == {'train', 'test'}
  assert len(dataset.splits['test']) == 1
  assert len(dataset.splits['train']) == 2
  with pytest.raises(ValueError, match="no split 'tset'"):
    load_dataset(config, 'tset')


def test_data_of_one_split_is_divided(tmp_path):
  write_squad(tmp_path)
  config = data(tmp_path, 'squad', part='v1.1', validation_share=0.5)
  dataset = load_dataset(config)
  train, validation = (
    {each.id for each in dataset.documents_of(split)}
    for split in ('train', 'validation')
  )
  assert len(train) == len(validation) == 2 and not train & validation
  # A training file alone is divided alike.
  file = tmp_path / 'dev-v1.1.json'
  moved = file.rename(tmp_path / 'train-v1.1.json')
  dataset = load_dataset(config)
  assert {each.id for each in dataset.documents_of('validation')} == validation
  moved.rename(file)
  # With the official training file nothing is divided.
  official = {'data': [article('Owl', 'Text')]}
  write_json(tmp_path / 'train-v1.1.json', official)
  dataset = load_dataset(config)
  assert len(dataset.documents_of('validation')) == 4
  assert [each.id for each in dataset.documents_of('train')] == ['Owl']


def test_every_answer_may_be_taught(tmp_path, capsys):
  write_scrolls(tmp_path)
  config = data(tmp_path, 'scrolls', part='qasper', teach_every_answer=True)
  dataset = load_dataset(config)
  taught = [example.answers[0] for example in dataset.splits['train']]
  assert taught == ['red', 'Red ones', 'foxes']
  assert len(dataset.splits['validation']) == 1
  assert 'train 3 answers to learn about 1 documents' in capsys.readouterr().out
  config.train_examples = 2
  assert len(load_dataset(config).splits['train']) == 2


def test_a_document_in_both_splits_is_told(tmp_path, capsys):
  write_hotpotqa(tmp_path)
  row = hotpot_row('c', 'Fox', 'Mill')
  write_json(tmp_path / 'hotpot_dev_fullwiki_v1.json', [row])
  load_dataset(data(tmp_path, 'hotpotqa', part='fullwiki'))
  assert 'Of the documents 1 are in both splits.' in capsys.readouterr().out


def test_a_text_that_is_there_twice_is_on_one_side_and_told(tmp_path, capsys):
  write_lines(
    tmp_path / 'documents.jsonl',
    [{'id': f'd{n}', 'text': f'Text {n // 2}'} for n in range(8)],
  )
  write_lines(
    tmp_path / 'train.jsonl',
    [
      {'id': f'{n}', 'question': 'Q', 'answer': 'A', 'document_id': f'd{n}'}
      for n in range(8)
    ],
  )
  dataset = load_dataset(data(tmp_path, 'jsonl', validation_share=0.5))
  train, validation = map(dataset.document_ids, ('train', 'validation'))
  assert sorted((*train, *validation)) == ['d0', 'd2', 'd4', 'd6']
  assert len(train) == len(validation) == 2
  said = capsys.readouterr().out
  assert "are taken as that one: 4 ('d1' as 'd0').\n" in said


def test_a_split_that_cannot_be_fetched_is_told_before_any_is():
  for evaluated in ('validation', 'train'):
    check_dataset(data('', 'hotpotqa', part='fullwiki'), evaluated)
  with pytest.raises(ValueError, match="'test'; .* of hotpotqa has train, val"):
    check_dataset(data('', 'hotpotqa', part='fullwiki'), 'test')


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'source': 'web'}, 'must be one of reports, jsonl, scrolls, quality, qms'),
    (
      {'source': 'quality', 'part': '', 'path': ''},
      'path is empty; name the folder .* QuALITY.*; download https://raw',
    ),
    ({'part': ''}, "part is ''; for hotpotqa it must be one of fullwiki, dist"),
    (
      {'source': 'quality'},
      "part is 'fullwiki'; for quality it must be '', as",
    ),
    ({'validation_share': 1.5}, 'config.data.validation_share is 1.5'),
    ({'train_examples': -1}, 'config.data.train_examples is -1'),
    ({'source': 'reports', 'part': ''}, 'path is .* made anew'),
    (
      {'source': 'reports', 'part': '', 'path': '', 'train_examples': 3},
      'train_examples is 3, but the reports are made anew',
    ),
  ],
)
def test_bad_settings_are_refused(tmp_path, fields, message):
  write_hotpotqa(tmp_path)
  fields = {'source': 'hotpotqa', 'part': 'fullwiki', **fields}
  with pytest.raises(ValueError, match=message):
    load_dataset(data(fields.pop('path', tmp_path), **fields))
