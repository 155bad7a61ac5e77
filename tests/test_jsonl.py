"""A user's own folder of documents and examples."""

import gzip
import json

import pytest

from lloco_jax.data.documents import Document
from lloco_jax.data.examples import Example
from lloco_jax.data.jsonl import read_jsonl

DOCUMENTS = [
  {'id': 'minutes', 'text': 'Ada spoke.', 'group': 'meetings'},
  {'id': 'diary', 'text': 'Grüße'},
]
TRAIN = [
  {
    'id': '1',
    'question': 'Who?',
    'answers': ['Ada', 'Ada L.'],
    'document_ids': ['minutes', 'diary'],
  }
]
VALIDATION = [
  {'id': '2', 'question': 'Who?', 'answer': 'Ada', 'document_id': 'minutes'}
]


def write(folder, name, entries):
  lines = [
    entry
    if isinstance(entry, bytes)
    else json.dumps(entry, ensure_ascii=False).encode()
    for entry in entries
  ]
  (folder / f'{name}.jsonl').write_bytes(b'\n'.join(lines))


@pytest.fixture
def folder(tmp_path):
  write(tmp_path, 'documents', DOCUMENTS)
  write(tmp_path, 'train', TRAIN)
  write(tmp_path, 'validation', VALIDATION)
  return tmp_path


def test_a_folder_is_read(folder):
  dataset = read_jsonl(folder)
  assert dataset.documents == {
    'minutes': Document('minutes', 'Ada spoke.', 'meetings'),
    'diary': Document('diary', 'Grüße', 'default'),
  }
  assert dataset.splits == {
    'train': (Example('1', 'Who?', ('Ada', 'Ada L.'), ('minutes', 'diary')),),
    'validation': (Example('2', 'Who?', ('Ada',), ('minutes',)),),
  }


def test_examples_may_have_tags(folder):
  write(folder, 'train', [TRAIN[0] | {'tags': ['hard', 'long']}])
  dataset = read_jsonl(folder)
  assert dataset.splits['train'][0].tags == ('hard', 'long')
  assert dataset.files == ('documents.jsonl', 'train.jsonl', 'validation.jsonl')
  write(folder, 'train', [TRAIN[0] | {'tags': 'hard'}])
  with pytest.raises(ValueError, match="line 1: Field 'tags' is not a list"):
    read_jsonl(folder)


def test_a_text_that_is_there_twice_is_one_document(folder):
  twins = [
    {'id': 'copy', 'text': 'Ada spoke.', 'group': 'meetings'},
    # In another group its adapter is another.
    {'id': 'elsewhere', 'text': 'Ada spoke.'},
  ]
  write(folder, 'documents', [*DOCUMENTS, *twins])
  write(folder, 'train', [TRAIN[0] | {'document_ids': ['copy', 'minutes']}])
  write(folder, 'validation', [VALIDATION[0] | {'document_id': 'copy'}])
  dataset = read_jsonl(folder)
  assert list(dataset.documents) == ['minutes', 'diary', 'elsewhere']
  for split in ('train', 'validation'):
    assert dataset.document_ids(split) == ('minutes',)
  assert dataset.told == (
    'Documents that have the text of another and are taken as that one: 1 '
    "('copy' as 'minutes')."
  )
  write(folder, 'documents', [*DOCUMENTS, *twins, twins[0]])
  with pytest.raises(ValueError, match="line 5: Two documents .* 'copy'"):
    read_jsonl(folder)


def test_blank_lines_windows_line_ends_and_a_byte_order_mark(folder):
  path = folder / 'documents.jsonl'
  lines = path.read_bytes().replace(b'\n', b'\r\n\r\n')
  path.write_bytes(b'\xef\xbb\xbf' + lines + b'\r\n')
  assert list(read_jsonl(folder).documents) == ['minutes', 'diary']


def test_one_split_is_enough(folder):
  (folder / 'train.jsonl').unlink()
  assert list(read_jsonl(folder).splits) == ['validation']


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    (b'{"id": "x", "text": "cut o', r'line 3 is not valid JSON'),
    (b'[' * 100_000, r'line 3 is not valid JSON'),
    (b'{"id": "x", "text": "Gr\xfc"}', r'line 3 is not UTF-8: byte 0xfc .* 23'),
    (b'["x", "text"]', r'line 3 holds no object'),
    ({'id': 'x', 'txt': 'a'}, r"line 3 has an unknown field 'txt'"),
    ({'id': 'x'}, r"line 3: Field 'text' is missing"),
    ({'id': 7, 'text': 'a'}, r"line 3: Field 'id' is not text"),
    ({'id': 'x', 'text': ' '}, r"line 3: Document 'x' is empty"),
    (b'{"id": "x", "text": "\\ud800"}', r"line 3: Document 'x' holds half"),
    (
      {'id': 'diary', 'text': 'a'},
      r"line 3: Two documents have the id 'diary'",
    ),
  ],
)
def test_a_damaged_document_is_named(folder, line, message):
  write(folder, 'documents', [*DOCUMENTS, line])
  with pytest.raises(ValueError, match=message):
    read_jsonl(folder)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'answers': ['Ada']}, "'answer' and 'answers' are both given"),
    ({'answer': None}, "line 1: Field 'answer' is null; give it a text"),
    ({'answer': 3}, "line 1: Field 'answer' is not text; put its value in"),
    ({'answer': ''}, "line 1: Example '2' has an empty answer"),
    (
      {'document_id': 'letter'},
      "line 1: Example '2' asks about document 'letter'",
    ),
    ({'id': '1'}, "line 1: Two examples have the id '1'"),
  ],
)
def test_a_damaged_example_is_named(folder, change, message):
  write(folder, 'validation', [VALIDATION[0] | change])
  with pytest.raises(ValueError, match=message):
    read_jsonl(folder)


@pytest.mark.parametrize('answers', ['Ada', [], [1]])
def test_answers_that_are_no_list_of_texts_are_refused(folder, answers):
  write(folder, 'train', [TRAIN[0] | {'answers': answers}])
  with pytest.raises(ValueError, match="line 1: Field 'answers' is not a list"):
    read_jsonl(folder)


def test_missing_files_are_named(folder):
  with pytest.raises(FileNotFoundError, match="no folder '.*elsewhere'"):
    read_jsonl(folder / 'elsewhere')
  (folder / 'train.jsonl').write_bytes(b'\n')
  with pytest.raises(ValueError, match=r'train\.jsonl holds no lines'):
    read_jsonl(folder)
  (folder / 'train.jsonl').unlink()
  (folder / 'validation.jsonl').unlink()
  with pytest.raises(FileNotFoundError, match='neither train.jsonl nor'):
    read_jsonl(folder)
  (folder / 'documents.jsonl').unlink()
  with pytest.raises(FileNotFoundError, match=r'holds no documents\.jsonl'):
    read_jsonl(folder)
  write(folder, 'train', TRAIN)
  with pytest.raises(
    FileNotFoundError, match=r'has no documents\.jsonl; write'
  ):
    read_jsonl(folder)
  with pytest.raises(ValueError, match='is a file; name the folder'):
    read_jsonl(folder / 'train.jsonl')
  (folder / 'documents.jsonl').mkdir()
  with pytest.raises(ValueError, match=r'documents\.jsonl is a folder'):
    read_jsonl(folder)


def test_a_folder_at_home_whose_files_are_packed(folder, monkeypatch):
  expected = read_jsonl(folder)
  monkeypatch.setenv('HOME', str(folder.parent))
  for file in folder.iterdir():
    packed = file.with_name(f'{file.name}.gz')
    packed.write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
  found = read_jsonl(f'~/{folder.name}')
  assert found.splits == expected.splits
  assert dict(found.documents) == dict(expected.documents)


def test_no_tags(folder):
  write(folder, 'train', [TRAIN[0] | {'tags': []}])
  assert read_jsonl(folder).splits['train'][0].tags == ()
