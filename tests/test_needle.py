"""Needles, found again by hand in the documents that they were put into."""

import json

import pytest
from test_experiment import write_model
from tiny_model import Characters

from configs import common
from configs import needle as needle_config
from lloco_jax.data import needle
from lloco_jax.data.cities import CITIES
from lloco_jax.data.needle import insert, make_needles
from lloco_jax.inputs import load_dataset
from lloco_jax.weights.checkpoint import load, load_tokenizer

REPEATS = {'train': 2, 'validation': 3}
LENGTHS, DEPTHS = (300, 700), (0, 50, 100)
FIXED = (
  "Mary's favourite fashion designer was Coco Chanel when she was a teenager."
)


def make(kind='random', lengths=LENGTHS, depths=DEPTHS, **fields):
  return make_needles(kind, Characters(), lengths, depths, REPEATS, **fields)


@pytest.fixture(scope='module')
def made():
  return make()


def ends_here(text, place):
  """Whether a line or sentence ends at a place, and the next one begins."""
  if place in (0, len(text)):
    return True
  before = text[:place]
  space = before[len(before.rstrip()) :]
  if not space or text[place].isspace():
    return False
  return '\n' in space or before.rstrip().rstrip('"\')')[-1] in '.!?'


def needle_of(example):
  return f'The magic city is {example.answers[0]}.'


def without(document, sentence):
  """The haystack that a document was, and where the needle stood in it."""
  before, found, after = document.text.partition(sentence)
  assert found and sentence not in after
  if not after:
    return before.rstrip(), len(before.rstrip())
  assert after[0] == ' '
  return before + after[1:], len(before)


def test_cities_are_many_and_no_city_is_in_both_splits():
  train, validation = (
    {city.casefold() for city in CITIES[split]} for split in REPEATS
  )
  assert not train & validation
  for split, found in (('train', train), ('validation', validation)):
    assert len(found) == len(CITIES[split]) >= 40
    assert all(city == city.strip() for city in CITIES[split])
  # An answer that holds another one would score in part.
  every = sorted(train | validation)
  assert not [(a, b) for a in every for b in every if a != b and a in b]


def test_every_cell_has_its_documents_and_tags(made):
  for split, repeats in REPEATS.items():
    examples = made.splits[split]
    assert len(examples) == len(LENGTHS) * len(DEPTHS) * repeats
    cells = [example.tags for example in examples]
    for length in LENGTHS:
      for depth in DEPTHS:
        tags = (f'length={length}', f'depth={depth}')
        assert cells.count(tags) == repeats
        answers = {e.answers for e in examples if e.tags == tags}
        assert len(answers) == repeats
    assert {e.question for e in examples} == {'What is the magic city?'}
    for example in examples:
      assert example.answers[0] in CITIES[split]
      (name,) = example.document_ids
      assert needle_of(example) in made.documents[name].text
  assert len(made.documents) == sum(map(len, made.splits.values()))
  assert {each.group for each in made.documents.values()} == {'needle'}


def test_lengths_and_depths_are_kept(made):
  for examples in made.splits.values():
    for example in examples:
      length, depth = (int(tag.split('=')[1]) for tag in example.tags)
      document = made.documents[example.document_ids[0]]
      # A token is a character; no sentence of a report has 160.
      assert length - 160 - 40 < len(document.text) <= length
      haystack, place = without(document, needle_of(example))
      wanted = round(len(haystack) * depth / 100)
      while not ends_here(haystack, wanted):
        wanted -= 1
      assert place == wanted


def test_splits_share_no_text(made, tmp_path):
  starts = {
    split: {
      without(made.documents[e.document_ids[0]], needle_of(e))[0][:150]
      for e in examples
    }
    for split, examples in made.splits.items()
  }
  assert not starts['train'] & starts['validation']
  # Four texts of words of their own, and a copy of the first.
  rows = [
    {'id': f'{number}', 'text': f'The {word} is {word}. ' * 40}
    for number, word in enumerate(['oak', 'elm', 'oak', 'fir', 'ash'])
  ]
  path = tmp_path / 'texts.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  dataset = make(path=str(path), lengths=(300, 900))
  words = {'train': ('oak', 'fir'), 'validation': ('elm', 'ash')}
  for split, other in (('train', 'validation'), ('validation', 'train')):
    found = ' '.join(d.text for d in dataset.documents_of(split))
    assert all(word in found for word in words[split])
    assert not any(word in found for word in words[other])
  # Where one text is too short, the next one follows.
  long = [d.text for d in dataset.documents_of('train') if len(d.text) > 800]
  assert long and all('oak' in text and 'fir' in text for text in long)


def test_the_seed_decides(made):
  assert make() == made
  assert make(seed=1).splits != made.splits


def test_repeats_of_a_cell_have_other_texts(made):
  examples = [e for e in made.splits['validation'] if 'depth=50' in e.tags]
  texts = {
    without(made.documents[e.document_ids[0]], needle_of(e))[0]
    for e in examples
  }
  assert len(texts) == len(examples)


def test_the_fixed_needle_does_not_train(tmp_path):
  path = tmp_path / 'one.txt'
  path.write_text('A fox lived here. It was red.\n' * 40)
  dataset = make('fixed', path=str(path))
  assert list(dataset.splits) == ['validation']
  for example in dataset.splits['validation']:
    assert example.answers == ('Coco Chanel',)
    text = dataset.documents[example.document_ids[0]].text
    assert text.count(FIXED) == 1
    assert 'favourite fashion designer' in example.question


@pytest.mark.parametrize(
  ('haystack', 'depth', 'wanted'),
  [
    ('One. Two. Three.', 0, 'N. One. Two. Three.'),
    ('One. Two. Three.', 40, 'One. N. Two. Three.'),
    ('One. Two. Three.', 100, 'One. Two. Three. N.'),
    ('One. Two. Three', 90, 'One. Two. N. Three'),
    ('One\nTwo\n\nThree', 70, 'One\nTwo\n\nN. Three'),
    ('He said "No!" Then 3.5 left.', 80, 'He said "No!" N. Then 3.5 left.'),
    ('no end at all', 50, 'N. no end at all'),
    ('no end at all', 100, 'no end at all N.'),
    ('一。二。三。', 50, '一。 N. 二。三。'),
  ],
)
def test_insertion_goes_back_to_an_end(haystack, depth, wanted):
  assert insert(haystack, 'N.', depth) == wanted


def test_lengths_are_in_the_tokens_of_a_real_tokenizer(tmp_path):
  folder = write_model(tmp_path / 'model')
  tokenizer = load_tokenizer(folder)
  assert tokenizer.fingerprint == load(folder).tokenizer.fingerprint
  assert tokenizer.eos_id == load(folder).tokenizer.eos_id
  path = tmp_path / 'text.md'
  path.write_text('Äpfel fielen über Nacht. 山の上。 The mill was dry.\n' * 99)
  (tmp_path / 'text2.md').write_text('Ein anderer Tag begann.\n' * 99)
  dataset = make_needles(
    'random', tokenizer, (150, 400), (0, 33, 100), REPEATS, path=str(tmp_path)
  )
  for examples in dataset.splits.values():
    for example in examples:
      text = dataset.documents[example.document_ids[0]].text
      length = int(example.tags[0].split('=')[1])
      # A byte is a token at the most, and no line has more than 62.
      assert length - 62 - 40 < len(tokenizer.encode(text)) <= length
      assert '\ufffd' not in text


def test_a_seam_that_costs_tokens_shortens_the_haystack():
  class Seams(Characters):
    def encode(self, text):
      seam = [0] * 30 if len(text) > 100 and 'The magic city' in text else []
      return seam + super().encode(text)

  tokenizer = Seams()
  dataset = make_needles('random', tokenizer, (400,), (50,), REPEATS)
  for document in dataset.documents.values():
    assert 400 - 30 - 160 - 40 < len(tokenizer.encode(document.text)) <= 400


def test_a_text_that_would_be_cut_far_too_early_is_refused(tmp_path):
  """Its length would be told as that of the grid."""
  for number in range(4):
    text = f'The owl {number}.\n' + 'and so on ' * 900
    (tmp_path / f'{number}.txt').write_text(text)
  with pytest.raises(ValueError, match='near the end of its first 3,9'):
    make(lengths=(4000,), path=str(tmp_path))


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'kind': 'both'}, "needle is 'both'; use one of random, fixed"),
    ({'lengths': ()}, r'lengths of needles are \(\); give one or more'),
    ({'lengths': (300, 300)}, 'lengths .* each once'),
    ({'lengths': (0,)}, r'lengths .* each must be 1 or more'),
    ({'depths': (50, 101)}, 'depths .* each must be 0 to 100'),
    ({'lengths': (20,)}, 'length of 20 tokens leaves no room'),
    ({'lengths': (42,)}, 'no end of a line or sentence near'),
  ],
)
def test_bad_grids_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    make(**fields)


def test_a_haystack_with_a_needle_is_refused(tmp_path):
  for name in 'ab':
    text = 'It was long ago. ' * 200
    if name == 'b':
      text += f'The magic city is {CITIES["validation"][0]}. ' + text
    (tmp_path / f'{name}.txt').write_text(text)
  with pytest.raises(ValueError, match='holds the needle .The magic city'):
    make(path=str(tmp_path))


def test_texts_that_are_too_short_are_refused(tmp_path):
  for name in 'ab':
    (tmp_path / f'{name}.txt').write_text(f'The {name}. ' * 50)
  with pytest.raises(ValueError, match='1 are for train and hold 350 tokens'):
    make(path=str(tmp_path))
  (tmp_path / 'b.txt').unlink()
  with pytest.raises(ValueError, match='0 are for validation and hold 0 tok'):
    make(path=str(tmp_path), lengths=(300,))


def config(**fields):
  data = common.finetuning('test').data
  data.source, data.part = 'needle', 'random'
  data.needle.lengths, data.needle.depths = LENGTHS, DEPTHS
  data.needle.train_repeats = 2
  data.needle.validation_repeats = 3
  data.update(fields)
  return data


def test_a_config_becomes_needles(made, capsys):
  assert load_dataset(config(), tokenizer=Characters) == made
  assert capsys.readouterr().out == (
    'Data: train 12 questions about 12 documents; validation 18 questions '
    'about 18 documents; made texts.\n'
  )
  fewer = load_dataset(config(train_examples=5), tokenizer=Characters)
  assert len(fewer.splits['train']) == 5
  with pytest.raises(ValueError, match="part is ''; for needle it must be one"):
    load_dataset(config(part=''), tokenizer=Characters)
  with pytest.raises(ValueError, match='give load_dataset what loads the tok'):
    load_dataset(config())


@pytest.mark.parametrize('model', common.MODELS)
def test_the_config_has_the_papers_grid(model):
  found = needle_config.get_config(model)
  grid = found.data.needle
  assert grid.depths == tuple(round(100 * n / 9) for n in range(10))
  if model == 'llama2-7b':
    lengths = tuple(round(1000 + 31_000 * n / 9) for n in range(10))
    assert (grid.lengths, grid.validation_repeats) == (lengths, 10)
  else:
    assert grid.lengths == tuple(range(1000, 9000, 1000))
  assert found.data.part in needle.PARTS
  tiny = needle_config.get_config(f'{model},tiny')
  assert tiny.name == f'needle_tiny_{model}'
  assert max(tiny.data.needle.lengths) <= 1000
  tiny.name, tiny.data = found.name, found.data
  assert tiny == found


def test_an_unknown_size_is_refused():
  with pytest.raises(ValueError, match="'huge' is no word .*size: tiny"):
    needle_config.get_config('smollm2,huge')
