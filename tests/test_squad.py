"""SQuAD: articles as documents, both versions."""

from official_files import article, write_json, write_squad
import pytest

from lloco_jax.data.squad import read_squad


def test_an_article_is_one_document(tmp_path):
  write_squad(tmp_path)
  dataset = read_squad(tmp_path)
  assert dataset.documents['Fox_0'].text == 'Fox 0.\n\nRed.'
  assert len(dataset.documents) == 4
  (examples,) = dataset.splits.values()
  assert len(examples) == 8
  assert examples[1].document_ids == ('Fox_0',)
  assert (examples[1].question, examples[1].answers) == ('Colour?', ('red',))


def test_answers_are_distinct_and_in_order(tmp_path):
  answers = [{'text': text} for text in ('b', 'a', 'b')]
  data = [article('X', 'Text', answers=answers)]
  write_json(tmp_path / 'dev-v1.1.json', {'data': data})
  (example,) = read_squad(tmp_path).splits['validation']
  assert example.answers == ('b', 'a')


def test_questions_without_an_answer(tmp_path):
  data = [
    article('X', 'Text', answers=[], is_impossible=True),
    article('Y', 'Text of Y', is_impossible=False),
  ]
  write_json(tmp_path / 'train-v2.0.json', {'data': data})
  nothing, some = read_squad(tmp_path, 'v2.0').splits['train']
  assert (nothing.answers, nothing.tags) == (
    ('unanswerable',),
    ('unanswerable',),
  )
  assert (some.answers, some.tags) == (('red',), ())
  with pytest.raises(FileNotFoundError, match='dev-v1.1.json from https://raj'):
    read_squad(tmp_path, 'v1.1')


@pytest.mark.parametrize(
  ('bad', 'message'),
  [
    (article('Z', 'Text', answers=[]), 'Z, paragraph 1: .* needs one or more'),
    (article('Z', 'Text', question=7), "Z, paragraph 1: Field 'question' is"),
    (article('Z'), "Document 'Z' is empty"),
    (article('Z', 'A', ' '), "Z, paragraph 2: Field 'context' is empty, and"),
    (
      article('Z', 'Text', is_impossible='false'),
      "Z, paragraph 1: Field 'is_impossible' is 'false'",
    ),
    (
      article('Z', 'Text', is_impossible=True),
      "Z, paragraph 1: Field 'is_impossible' is true, and",
    ),
    (article('Z', 'Text', id='X-0'), 'Z, paragraph 1: Two examples have the'),
    ({'title': 'Z'}, "Field 'paragraphs' is missing"),
  ],
)
def test_a_damaged_article_is_named(tmp_path, bad, message):
  write_json(tmp_path / 'dev-v1.1.json', {'data': [article('X', 'Text'), bad]})
  with pytest.raises(ValueError, match=f'v1.1.json, article 2: {message}'):
    read_squad(tmp_path)
  write_json(tmp_path / 'dev-v1.1.json', {'version': '1'})
  with pytest.raises(ValueError, match="v1.1.json: Field 'data' is missing"):
    read_squad(tmp_path)


def test_a_file_without_questions(tmp_path):
  (tmp_path / 'dev-v1.1.json').write_text('{"data": []}')
  with pytest.raises(ValueError, match='dev-v1.1.json holds no questions'):
    read_squad(tmp_path)
