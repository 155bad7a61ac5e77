"""Made passages: what they ask stands in them, and shapes never change."""

import functools
import itertools
import re

import numpy as np
import pytest

from lloco_jax.data.batches import IGNORED
from lloco_jax.data.documents import Document
from lloco_jax.data.examples import Dataset, Example
from lloco_jax.data.passages import (
  AskedPassages,
  PassageConfig,
  first_segments,
  make_passage,
  passage_batches,
)
from lloco_jax.data.rarity import token_rarity
from lloco_jax.data.reports import SPLITS
from lloco_jax.data.words import FIRST_NAMES, SECOND_NAMES
from lloco_jax.nn.visibility import UNSEEN

CONFIG = PassageConfig(
  segment_length=40, segments=3, width=72, targets=16, repeat_share=0.0
)
REPEATS = PassageConfig(
  segment_length=40, segments=3, width=72, targets=40, repeat_share=1.0
)


class Pieces:
  """A tokenizer whose tokens are pieces of five characters."""

  eos_id = 0

  def __init__(self):
    self.pieces = ['']
    self.ids = {'': 0}

  def encode(self, text):
    ids = []
    for start in range(0, len(text), 5):
      piece = text[start : start + 5]
      if piece not in self.ids:
        self.ids[piece] = len(self.pieces)
        self.pieces.append(piece)
      ids.append(self.ids[piece])
    return ids

  def decode(self, ids):
    return ''.join(self.pieces[token] for token in ids)


def made_batches(tokenizer, config, batch_size):
  made = functools.partial(make_passage, tokenizer, config)
  return passage_batches(made, config, batch_size)


def text_of(tokenizer, passage):
  return tokenizer.decode(sum(passage.segments, []))


def test_an_index_is_one_passage_and_the_seed_another():
  tokenizer = Pieces()
  passages = [make_passage(tokenizer, CONFIG, index) for index in range(20)]
  again = [make_passage(tokenizer, CONFIG, index) for index in range(20)]
  assert passages == again
  texts = {text_of(tokenizer, passage) for passage in passages}
  other = PassageConfig(**{**vars(CONFIG), 'seed': 1})
  texts |= {
    text_of(tokenizer, make_passage(tokenizer, other, index))
    for index in range(20)
  }
  assert len(texts) == 40


def test_what_is_asked_stands_in_the_text():
  """In one sentence the name and the answer; no question comes twice."""
  tokenizer, counts = Pieces(), set()
  for index in range(60):
    passage = make_passage(tokenizer, CONFIG, index)
    text = text_of(tokenizer, passage)
    assert len(passage.segments) <= CONFIG.segments
    full = [len(ids) for ids in passage.segments[:-1]]
    assert full == [CONFIG.segment_length] * len(full)
    asked = [tokenizer.decode(prompt) for prompt, _ in passage.questions]
    assert len(set(asked)) == len(asked)
    counts.add(len(asked))
    for question, (_, answer) in zip(asked, passage.questions):
      assert answer[-1] == tokenizer.eos_id
      value = tokenizer.decode(answer).strip()
      names = re.findall(r'(?=\b([A-Z]\w+ [A-Z]\w+)\b)', question)
      assert any(
        name in sentence and re.search(rf'\b{value}\b', sentence)
        for sentence in re.split(r'\.\s', text)
        for name in names
      ), (question, value, text)
  assert max(counts) == CONFIG.questions


def test_questions_that_the_row_has_no_room_for_are_left_out():
  tokenizer = Pieces()
  narrow = PassageConfig(**{**vars(CONFIG), 'width': 40})
  counts = {'wide': 0, 'narrow': 0}
  for index in range(20):
    every = make_passage(tokenizer, CONFIG, index)
    fewer = make_passage(tokenizer, narrow, index)
    assert fewer.segments == every.segments
    assert all(question in every.questions for question in fewer.questions)
    counts['wide'] += len(every.questions)
    counts['narrow'] += len(fewer.questions)
  assert 20 <= counts['narrow'] < counts['wide']


def test_every_batch_has_one_shape():
  tokenizer = Pieces()
  batches = itertools.islice(iter(made_batches(tokenizer, CONFIG, 2)), 40)
  shapes = [
    {name: (array.shape, array.dtype) for name, array in batch.items()}
    for batch in batches
  ]
  assert shapes == shapes[:1] * 40
  assert shapes[0]['segments'] == ((2, 3, 40), np.int32)
  assert shapes[0]['lengths'] == ((2, 3), np.int32)
  assert shapes[0]['tokens'] == ((2, CONFIG.width), np.int32)
  assert shapes[0]['targets'] == ((2, CONFIG.targets), np.int32)


def test_a_batch_holds_its_passages():
  tokenizer = Pieces()
  batches = iter(made_batches(tokenizer, CONFIG, 2))
  next(batches)
  batch = next(batches)
  for row, index in enumerate((2, 3)):
    passage = make_passage(tokenizer, CONFIG, index)
    lengths = batch['lengths'][row]
    parts = [
      ids[:length].tolist()
      for ids, length in zip(batch['segments'][row], lengths)
      if length
    ]
    assert parts == passage.segments
    prompts = sum((p + a[:-1] for p, a in passage.questions), [])
    read = batch['offsets'][row] != UNSEEN
    assert batch['tokens'][row][read].tolist() == prompts
    answers = sum((answer for _, answer in passage.questions), [])
    counted = batch['targets'][row] != IGNORED
    assert batch['targets'][row][counted].tolist() == answers


def test_questions_about_several_passages_stand_in_one_row():
  tokenizer = Pieces()
  config = PassageConfig(**{**vars(CONFIG), 'passages_per_context': 2})
  batch = next(iter(made_batches(tokenizer, config, 4)))
  assert batch['segments'].shape == (4, 3, 40)
  assert batch['tokens'].shape == (2, 2 * CONFIG.width)
  for row in range(2):
    asked = [
      question
      for index in (2 * row, 2 * row + 1)
      for question in make_passage(tokenizer, config, index).questions
    ]
    counted = batch['targets'][row] != IGNORED
    answers = sum((answer for _, answer in asked), [])
    assert batch['targets'][row][counted].tolist() == answers
  with pytest.raises(ValueError, match='3 rows cannot be put 2 a context'):
    made_batches(tokenizer, config, 3)


def test_without_questions_a_batch_is_its_segments():
  config = PassageConfig(**{**vars(CONFIG), 'questions': 0})
  batch = next(iter(made_batches(Pieces(), config, 2)))
  assert set(batch) == {'segments', 'lengths'}
  assert (batch['lengths'] == CONFIG.segment_length).all()


def test_a_rare_token_weighs_its_information_to_a_power():
  tokenizer = Pieces()
  parts = [
    ids
    for index in range(3)
    for ids in make_passage(tokenizer, CONFIG, index).segments
  ]
  counts = np.bincount(np.concatenate(parts), minlength=10_000) + 1
  segments = first_segments(
    functools.partial(make_passage, tokenizer, CONFIG), passages=3
  )
  weights = token_rarity(segments, 10_000, 2.0)
  expected = np.log(counts.sum() / counts) ** 2
  np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_repeat_rows_ask_for_a_segment():
  tokenizer, parts = Pieces(), set()
  for index in range(30):
    passage = make_passage(tokenizer, REPEATS, index)
    ((prompt, answer),) = passage.questions
    found = re.fullmatch(r'Repeat part (\d):', tokenizer.decode(prompt))
    assert answer == passage.segments[int(found[1]) - 1]
    parts.add(int(found[1]))
  assert parts == {1, 2, 3}


def test_the_share_of_repeat_rows():
  tokenizer = Pieces()
  config = PassageConfig(**{**vars(REPEATS), 'repeat_share': 0.3})
  prompts = [
    tokenizer.decode(make_passage(tokenizer, config, index).questions[0][0])
    for index in range(100)
  ]
  assert 15 < sum(prompt.startswith('Repeat') for prompt in prompts) < 45


def test_no_name_of_a_validation_report_occurs():
  """Nor would one be missed: their own names are all found."""
  tokenizer = Pieces()
  parity = {split: number for number, split in enumerate(SPLITS)}
  names = {split: set() for split in SPLITS}
  for (i, first), (j, second) in itertools.product(
    enumerate(FIRST_NAMES), enumerate(SECOND_NAMES)
  ):
    for split in SPLITS:
      if (i + j) % 2 == parity[split]:
        names[split].add(f'{first} {second}')
  pairs = set()
  for index in range(120):
    text = text_of(tokenizer, make_passage(tokenizer, CONFIG, index))
    pairs.update(re.findall(r'(?=\b(\w+ \w+)\b)', text))
  assert len(pairs & names['train']) > 120
  assert not pairs & names['validation']


def test_passages_that_hold_no_fact_are_refused():
  tiny = PassageConfig(segment_length=6, segments=1)
  with pytest.raises(ValueError, match='6 tokens holds a fact; raise'):
    make_passage(Pieces(), tiny, 0)
  with pytest.raises(ValueError, match='6 tokens holds a fact; raise'):
    next(iter(made_batches(Pieces(), tiny, 1)))


@pytest.mark.parametrize('field', ['width', 'targets'])
def test_rows_too_narrow_for_one_question_are_refused(field):
  for config in (CONFIG, REPEATS):
    narrow = PassageConfig(**{**vars(config), field: 1})
    with pytest.raises(ValueError, match=rf'{field} \(1\).*; raise them'):
      make_passage(Pieces(), narrow, 0)


def make_dataset(**lengths):
  """A document for each number of words, with two questions about it."""
  documents = {
    name: Document(name, ' '.join([f'{name:4}'] * words))
    for name, words in lengths.items()
  }
  examples = [
    Example(f'{name}{number}', f'{number}?', (f'{name}.',), (name,))
    for name in documents
    for number in range(2)
  ]
  return documents, examples


def test_passages_of_a_data_set_come_once_a_round(capsys):
  """Those that fit a row, each with questions about it alone."""
  documents, examples = make_dataset(a=10, b=119, c=120, d=121)
  examples += [
    Example('both', 'Both?', ('a.',), ('a', 'b')),
    Example('long', 'Long? ' * 80, ('a.',), ('a',)),
  ]
  tokenizer = Pieces()
  dataset = Dataset(documents, {'train': tuple(examples)})
  passages = AskedPassages(dataset, tokenizer, CONFIG)
  assert '6 of 10 questions, about 3 documents' in capsys.readouterr().out
  assert passages.tokens == (10 + 119 + 120) // 3
  rounds = []
  for start in range(0, 12, 3):
    names = []
    for index in range(start, start + 3):
      passage = passages(index)
      assert passages(index) == passage
      text = text_of(tokenizer, passage)
      (name,) = set(text.split())
      assert text == documents[name].text
      lengths = [len(ids) for ids in passage.segments]
      assert max(lengths) <= CONFIG.segment_length
      asked = [tokenizer.decode(prompt) for prompt, _ in passage.questions]
      assert len({*asked}) == 2
      for _, answer in passage.questions:
        assert tokenizer.decode(answer[:-1]).strip() == f'{name}.'
      names.append(name)
    assert sorted(names) == ['a', 'b', 'c']
    rounds.append(tuple(names))
  assert len({*rounds}) > 1
  batch = next(iter(passage_batches(passages, CONFIG, 2)))
  assert batch['segments'].shape == (2, 3, 40)
  assert batch['tokens'].shape == (2, CONFIG.width)


def test_fewer_questions_are_asked_than_there_are():
  documents, examples = make_dataset(a=10)
  one = PassageConfig(**{**vars(CONFIG), 'questions': 1})
  dataset = Dataset(documents, {'train': tuple(examples)})
  passages = AskedPassages(dataset, Pieces(), one)
  seen = [passages(index).questions for index in range(20)]
  assert {len(questions) for questions in seen} == {1}
  assert len({str(questions) for questions in seen}) == 2


def test_a_data_set_of_which_nothing_fits_is_refused():
  documents, examples = make_dataset(a=121)
  dataset = Dataset(documents, {'train': tuple(examples)})
  with pytest.raises(ValueError, match='No question can be asked; raise'):
    AskedPassages(dataset, Pieces(), CONFIG)
