"""Plain texts from files, and their tokens in the cache."""

import gzip
import json
import lzma
import shutil

import numpy as np
import pytest

from lloco_jax.data.texts import also_in, read_texts, tokenize_texts


class Bytes:
  """A tokenizer that remembers what it was asked."""

  def __init__(self, fingerprint='f', vocab_size=300):
    self.fingerprint, self.vocab_size = fingerprint, vocab_size
    self.asked = []

  def encode(self, text):
    self.asked.append(text)
    return list(text.encode())


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.setenv('LLOCO_CACHE', str(tmp_path / 'cache'))
  folder = tmp_path / 'texts'
  (folder / 'below').mkdir(parents=True)
  (folder / 'b.txt').write_text('second é')
  (folder / 'below/a.md').write_text('third')
  (folder / 'picture.png').write_bytes(b'\xff')
  lines = [
    {'id': 'books/1', 'title': 'One', 'text': 'first'},
    {'id': 'talks/1', 'text': 'left out'},
  ]
  packed = '\n'.join(map(json.dumps, lines)).encode()
  (folder / 'a.jsonl.xz').write_bytes(lzma.compress(packed))
  (folder / 'c.jsonl.gz').write_bytes(gzip.compress(packed))
  return folder


def test_files_of_all_kinds_in_order(folder):
  found = [(each.id, each.text) for each in read_texts(folder, ['talks/'])]
  assert found == [
    ('books/1', 'first'),
    ('b.txt', 'second é'),
    ('below/a.md', 'third'),
    ('books/1', 'first'),
  ]
  [one] = read_texts(folder / 'b.txt')
  assert one.id == 'b.txt'


def test_tokens_are_those_of_the_tokenizer_and_kept(folder, tmp_path):
  tokenizer = Bytes()
  found = tokenize_texts(folder, tokenizer, ['talks/'])
  assert found.tokens.dtype == np.uint16
  assert found.ids == ('books/1', 'b.txt', 'below/a.md', 'books/1')
  assert [bytes(ids.astype(np.uint8)).decode() for _, ids in found] == [
    'first', 'second é', 'third', 'first',
  ]  # fmt: skip
  again = tokenize_texts(folder, tokenizer, ['talks/'])
  np.testing.assert_array_equal(again.tokens, found.tokens)
  assert len(tokenizer.asked) == 4
  assert len(tokenize_texts(folder, tokenizer).ids) == 6
  large = tokenize_texts(folder, Bytes('g', 2**17), ['talks/'])
  assert large.tokens.dtype == np.uint32
  tokenizer.asked.clear()
  (folder / 'b.txt').write_text('changed')
  tokenize_texts(folder, tokenizer, ['talks/'])
  assert tokenizer.asked == ['first', 'changed', 'third', 'first']
  kept = (tmp_path / 'cache/texts').iterdir()
  assert {path.suffix for path in kept} == {'.tokens', '.json'}


@pytest.mark.parametrize('damage', ['cut', 'gone', 'no bounds'])
def test_damaged_tokens_are_made_anew(folder, tmp_path, damage):
  found = tokenize_texts(folder, Bytes())
  expected = np.array(found.tokens)
  (tokens,) = (tmp_path / 'cache/texts').glob('*.tokens')
  (bounds,) = (tmp_path / 'cache/texts').glob('*.json')
  if damage == 'cut':
    tokens.write_bytes(tokens.read_bytes()[:-2])
  elif damage == 'gone':
    tokens.unlink()
  else:
    bounds.write_text('{"ids": [')
  again = tokenize_texts(folder, Bytes())
  np.testing.assert_array_equal(again.tokens, expected)
  np.testing.assert_array_equal(again.bounds, found.bounds)


@pytest.mark.parametrize(
  'name, content, sentence',
  [
    (
      'd.jsonl',
      b'{"id": "x", "text": "y"}\n{"id": 3}',
      "line 2: .*'text' is m",
    ),
    ('d.jsonl', b'{"id": "x", "text": " "}', "line 1: .*'x' is empty"),
    ('d.txt', b'', 'is empty'),
    ('d.txt', b'\xff', 'is not UTF-8'),
  ],
)
def test_damaged_files_are_named(folder, tmp_path, name, content, sentence):
  (folder / name).write_bytes(content)
  with pytest.raises(ValueError, match=f'{name}.*{sentence}|{sentence}'):
    tokenize_texts(folder, Bytes())
  # The next run does not find the half that was written.
  assert not list((tmp_path / 'cache/texts').glob('*'))


def test_names_are_below_the_folder_and_what_is_hidden_is_not_read(
  tmp_path, monkeypatch
):
  """So that `leave_out` never finds what it named under another name."""
  monkeypatch.setenv('LLOCO_CACHE', str(tmp_path / 'cache'))
  folder = tmp_path / 'texts'

  def ids(*names):
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in zip(names, ('one', 'two', 'three')):
      (folder / name).parent.mkdir(parents=True, exist_ok=True)
      (folder / name).write_text(text)
    found = tokenize_texts(folder, Bytes(), ['private/'], progress=False)
    return found.ids, found.fingerprint

  assert ids('a.TXT', 'b.Md', 'private/c.txt')[0] == ('a.TXT', 'b.Md')
  first = ids('keep/x.txt', 'private/y.txt', '.git/z.txt')
  second = ids('private/x.txt', 'public/y.txt')
  assert first[0] == ('keep/x.txt',) and second[0] == ('public/y.txt',)
  assert first[1] != second[1]
  other = tmp_path / 'others'
  (other / 'below').mkdir(parents=True)
  (other / 'below/z.txt').write_text('two')
  (other / 'a.txt').write_text('another')
  assert also_in(other, folder) == ['below/z.txt']
  assert also_in(other, folder, ['below/']) == []
  (name,) = also_in(folder, other)
  assert also_in(other, folder, (), [name]) == []
  assert also_in(other, tmp_path / 'nowhere') == []


def test_nothing_to_read(folder, tmp_path):
  (tmp_path / 'empty').mkdir()
  for path in (tmp_path / 'empty', tmp_path / 'missing'):
    with pytest.raises(FileNotFoundError, match='neither a file nor a folder'):
      list(read_texts(path))
  with pytest.raises(ValueError, match='is left'):
    tokenize_texts(
      folder / 'a.jsonl.xz', Bytes(),
      ['books', 'talks'],
    )  # fmt: skip


def test_texts_of_tensorflow_datasets(tmp_path, monkeypatch):
  tfds = pytest.importorskip(
    'tensorflow_datasets', reason='tensorflow_datasets is of the extra tfds'
  )
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))
  monkeypatch.setenv('LLOCO_CACHE', str(tmp_path / 'cache'))

  class SomeBooks(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      text = tfds.features.Text()
      features = {'book_title': text, 'book_text': text, 'book_id': text}
      return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict(features),
        disable_shuffling=True,
      )

    def _split_generators(self, manager):
      return {'train': self._generate_examples()}

    def _generate_examples(self):
      for number, text in enumerate(['The fox.', 'The mill.']):
        yield (
          number,
          {'book_title': 'x', 'book_text': text, 'book_id': f'b{number}'},
        )

  with pytest.raises(
    ValueError, match="no 'some_books' with the split 'train'"
  ):
    list(read_texts('tfds:some_books'))
  SomeBooks(
    data_dir=str(tmp_path / 'tfds'), file_format='array_record'
  ).download_and_prepare()
  found = {each.id: each.text for each in read_texts('tfds:some_books')}
  name = 'some_books/1.0.0#train'
  assert found == {f'{name}/b0': 'The fox.', f'{name}/b1': 'The mill.'}
  left = list(read_texts('tfds:some_books', (f'{name}/b0',)))
  assert [each.text for each in left] == ['The mill.']
  with pytest.raises(ValueError, match="with the split 'test'"):
    list(read_texts('tfds:some_books#test'))
