"""An evaluation against answers asked for one by one."""

import dataclasses

import numpy as np
import pytest
from tiny_model import WIDTH, Characters, tiny_adapter, tiny_model

import lloco_jax as lloco
from lloco_jax.data.contexts import ContextKind
from lloco_jax.data.documents import Document
from lloco_jax.data.examples import Example
from lloco_jax.data.prompts import Prompt
from lloco_jax.evaluation import runner
from lloco_jax.evaluation.answer_cache import AnswerCache
from lloco_jax.evaluation.metrics import accuracy
from lloco_jax.evaluation.results import read_results, write_results
from lloco_jax.evaluation.runner import evaluate
from lloco_jax.evaluation.systems import (
  CONTROLS,
  FINETUNED_ON,
  System,
  standard_systems,
)
from lloco_jax.generation.answering import answer_text
from lloco_jax.generation.decoding import decode_in_place, prefill
from lloco_jax.generation.sampling import Sampling
from lloco_jax.retrieval.passages import Retrieval

NEW = 4
PROMPT = Prompt('', 'Q:{question}A:')
WORDS = 'oak ash elm fir yew '
# Characters are tokens: with a question of 7 and 4 new tokens in a window of
# 100, 'b' fits and 'c' does not.
DOCUMENTS = {
  'c': Document('c', (WORDS * 9)[:120]),
  'a': Document('a', WORDS * 2),
  'b': Document('b', (WORDS * 9)[2:91]),
}
EXAMPLES = tuple(
  Example(
    f'{key}/{index}', f'{index}{key}?', (f'{index}',), (key,), (f'of {key}',)
  )
  for index in range(2)
  for key in ('b', 'c', 'a')
)


@pytest.fixture(scope='module')
def model():
  return tiny_model(window=100)


@pytest.fixture(scope='module')
def summaries():
  random = np.random.default_rng(0)
  return {
    key: random.normal(size=(count, WIDTH)).astype(np.float32)
    for key, count in (('a', 5), ('b', 12), ('c', 15))
  }


@pytest.fixture(scope='module')
def systems():
  return standard_systems(
    {key: tiny_adapter(seed) for seed, key in enumerate(FINETUNED_ON)}
  )


@pytest.fixture(scope='module')
def results(model, summaries, systems):
  return evaluate(
    model, EXAMPLES, DOCUMENTS, summaries, systems, PROMPT,
    max_new_tokens=NEW, progress=False,
  )  # fmt: skip


def ask(model, contexts, questions, adapter=None):
  """Answers to questions of 7 tokens, each in a row of its own."""
  rows = np.zeros((6, 100 - 7 - NEW, WIDTH), np.float32)
  ids = np.ones((6, 7), np.int32)
  lengths = np.zeros(6, np.int32)
  for row, (context, question) in enumerate(zip(contexts, questions)):
    rows[row, : len(context)] = context
    lengths[row] = len(context)
    ids[row] = model.tokenizer.encode(PROMPT.ask(question))
  answers = lloco.generate(
    model, ids, rows, adapter, NEW, context_lengths=lengths
  ).tolist()
  ended = [
    tokens[: tokens.index(0)] if 0 in tokens else tokens for tokens in answers
  ]
  texts = [answer_text(model.tokenizer, tokens) for tokens in ended]
  return texts[: len(questions)]


def by_name(results):
  return {result.name: result for result in results}


def test_predictions_are_those_asked_one_by_one(
  model, summaries, systems, results
):
  def text(key, length):
    ids = model.tokenizer.encode(DOCUMENTS[key].text)[:length]
    return model.params['embed_tokens']['embedding'][np.asarray(ids)]

  none = np.zeros((0, WIDTH), np.float32)
  other = {'a': 'b', 'b': 'c', 'c': 'a'}
  read = {
    ContextKind.NONE: lambda key: none,
    ContextKind.WINDOW: lambda key: text(key, 100 - 7 - NEW),
    ContextKind.BUDGET: lambda key: text(key, len(summaries[key])),
    ContextKind.FULL: lambda key: text(key, None),
    ContextKind.SUMMARIES: lambda key: summaries[key],
    ContextKind.OTHER_SUMMARIES: lambda key: summaries[other[key]],
  }
  examples = {example.id: example for example in EXAMPLES}
  for system, result in zip(systems, results, strict=True):
    assert result.name == system.name
    ids = [answer.example_id for answer in result.answers]
    expected = ['a/0', 'a/1', 'b/0', 'b/1', 'c/0', 'c/1']
    assert ids == expected[: 4 if system.name == 'full context' else 6]
    contexts = [read[system.kind](answer.document) for answer in result.answers]
    questions = [answer.question for answer in result.answers]
    predictions = [answer.prediction for answer in result.answers]
    assert predictions == ask(model, contexts, questions, system.adapter)
    for answer in result.answers:
      example = examples[answer.example_id]
      assert answer.question == example.question
      assert answer.references == example.answers
      assert answer.tags == example.tags
      assert answer.document_ids == example.document_ids


def test_systems_differ(results):
  predictions = {
    result.name: tuple(answer.prediction for answer in result.answers)
    for result in results
  }
  assert len(set(predictions.values())) == len(results)


def test_tokens_read(results):
  read = {name: result.tokens_read for name, result in by_name(results).items()}
  summaries = (5 + 12 + 15) / 3
  assert read == {
    'no context': 0,
    'context truncated to the window': (40 + 89 + 89) / 3,
    "truncated to the summaries' token count": summaries,
    'full context': (40 + 89) / 2,
    'compressed without finetuning': summaries,
    'LLoCO': summaries,
    'finetuned on uncompressed context': (40 + 89 + 89) / 3,
    'finetuned without context': 0,
    'finetuned on equal-budget truncation': summaries,
    "LLoCO with another document's summaries": summaries,
  }


def test_times(results):
  for result in results:
    assert 0 < result.seconds_to_first_token
    # Two questions share each document's prefill.
    assert result.seconds_per_answer > result.seconds_to_first_token / 2


def test_results_can_be_written(results, tmp_path):
  written = write_results(tmp_path, results, 'f1', CONTROLS, samples=100)
  assert read_results(tmp_path) == written


def without_times(results):
  return [
    dataclasses.replace(
      result, seconds_to_first_token=None, seconds_per_answer=None
    )
    for result in results
  ]


def test_same_again_whatever_the_order_of_documents(
  model, summaries, systems, results, capsys
):
  again = evaluate(
    model, EXAMPLES, dict(sorted(DOCUMENTS.items())), summaries, systems,
    PROMPT, max_new_tokens=NEW,
  )  # fmt: skip
  assert without_times(again) == without_times(results)
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == len(systems)
  full = next(line for line in lines if line.startswith('full context'))
  assert '4 answers' in full and '2 questions skipped' in full
  # Where it fits, the text cut to the window is the same text.
  assert 'answered before' not in lines[0] and 'answered before' in full


def test_rows_that_are_answered_together(
  model, summaries, systems, results, monkeypatch
):
  together = []
  answer = runner.answer_all

  def counted(model, asked, *rest):
    together.append((len(asked), rest[-1]))
    return answer(model, asked, *rest)

  monkeypatch.setattr(runner, 'answer_all', counted)
  again = evaluate(
    model, EXAMPLES, DOCUMENTS, summaries, systems, PROMPT,
    max_new_tokens=NEW, progress=False, rows=2,
  )  # fmt: skip
  assert without_times(again) == without_times(results)
  assert max(together) == (2, 2)


def test_equal_reading_runs_once(model, summaries, monkeypatch):
  contexts = []
  answer = runner.answer_all

  def counted(model, asked, *rest):
    contexts.extend(len(each.context) for each in asked)
    return answer(model, asked, *rest)

  monkeypatch.setattr(runner, 'answer_all', counted)
  systems = [
    System('window', '', ContextKind.WINDOW),
    System('full', '', ContextKind.FULL),
  ]
  window, full = evaluate(
    model, EXAMPLES, DOCUMENTS, summaries, systems, PROMPT,
    max_new_tokens=NEW, progress=False,
  )  # fmt: skip
  assert contexts == [89, 89, 40]
  assert full.answers == window.answers[:4]


def test_scores_are_of_the_given_metrics(model, summaries):
  metrics = {
    'length': lambda prediction, references: len(prediction),
    'question': lambda prediction, references: float(references[0]),
  }
  (result,) = evaluate(
    model, EXAMPLES, DOCUMENTS, summaries,
    [System('no context', '', ContextKind.NONE)], PROMPT, metrics, NEW, False,
  )  # fmt: skip
  for answer in result.answers:
    index = float(answer.example_id[-1])
    assert answer.scores == {
      'length': len(answer.prediction),
      'question': index,
    }


# What is searched for by the digit of a question.
LETTERS = 'eol'


def passage_systems(passages=2, search=None):
  def letters(texts):
    return lambda question: np.array(
      [text.count(LETTERS[int(question[0])]) for text in texts]
    )

  retrieval = Retrieval(search or letters, 16, passages)
  return [System('found', '', ContextKind.PASSAGES, retrieval=retrieval)]


def test_passages_are_those_of_each_question(model, summaries, monkeypatch):
  """Asked together where they are the same, with the answers of one by one.

  Four questions a document: the first and the last are alike.
  """
  examples = [
    Example(f'{key}/{index}', f'{letter}{key}?', ('x',), (key,))
    for index, letter in enumerate('0120')
    for key in ('c', 'a')
  ]
  asked = []
  answer = runner.answer_all

  def counted(model, questions, *rest):
    asked.extend(len(each.prompts) for each in questions)
    return answer(model, questions, *rest)

  monkeypatch.setattr(runner, 'answer_all', counted)
  (result,) = evaluate(
    model, examples, DOCUMENTS, summaries, passage_systems(), PROMPT,
    max_new_tokens=NEW, progress=False,
  )  # fmt: skip
  assert sum(asked) == 8 and len(asked) < 8
  ids = [answer.example_id for answer in result.answers]
  assert ids == [f'{key}/{index}' for key in 'ac' for index in range(4)]
  contexts, lengths = [], []
  for answered in result.answers:
    text = DOCUMENTS[answered.document].text
    pieces = [text[start : start + 16] for start in range(0, len(text), 16)]
    letter = LETTERS[int(answered.question[0])]
    order = sorted(pieces, key=lambda piece: -piece.count(letter))
    found = '\n\n'.join(order[:2])
    lengths.append(len(found))
    tokens = model.tokenizer.encode(found)
    contexts.append(
      model.params['embed_tokens']['embedding'][np.asarray(tokens)]
    )
  assert result.tokens_read == sum(lengths) / 8
  questions = [answered.question for answered in result.answers]
  predictions = ask(model, contexts[:4], questions[:4])
  predictions += ask(model, contexts[4:], questions[4:])
  assert [answered.prediction for answered in result.answers] == predictions
  assert predictions[0] == predictions[3]
  # Not inert: other passages give other answers.
  (other,) = evaluate(
    model, examples, DOCUMENTS, summaries, passage_systems(passages=1), PROMPT,
    max_new_tokens=NEW, progress=False,
  )  # fmt: skip
  assert [a.prediction for a in other.answers] != predictions


def test_one_copy_of_passages_that_all_questions_find(
  model, summaries, monkeypatch
):
  asked = []
  answer = runner.answer_all

  def counted(model, questions, *rest):
    asked.extend((len(each.context), len(each.prompts)) for each in questions)
    return answer(model, questions, *rest)

  monkeypatch.setattr(runner, 'answer_all', counted)

  def first(texts):
    return lambda question: np.zeros(len(texts))

  evaluate(
    model, EXAMPLES, DOCUMENTS, summaries, passage_systems(9, first), PROMPT,
    max_new_tokens=NEW, progress=False,
  )  # fmt: skip
  # 40, 89 and 120 characters with the empty lines between their passages, in
  # the 89 that the questions leave.
  assert asked == [(89, 2), (89, 2), (44, 2)]


def test_sampled_answers_are_an_examples_own(model, summaries, tmp_path):
  systems = [System('LLoCO', '', ContextKind.SUMMARIES, tiny_adapter(1))]

  def answers(examples=EXAMPLES, **settings):
    (result,) = evaluate(
      model, examples, DOCUMENTS, summaries, systems, PROMPT,
      max_new_tokens=NEW, progress=False, cache=AnswerCache(tmp_path),
      sampling=Sampling(**settings),
    )  # fmt: skip
    return {answer.example_id: answer.prediction for answer in result.answers}

  drawn = answers(temperature=1.5)
  assert drawn == answers(temperature=1.5)
  greedy = answers()
  assert drawn != greedy == answers(seed=1) == answers(top_p=0.5)
  different = [
    answers(temperature=1.5, seed=1),
    answers(temperature=1.5, top_p=0.3),
    answers(temperature=0.7),
  ]
  assert all(found != drawn for found in different)
  for example in EXAMPLES:
    alone = answers([example], temperature=1.5)
    assert alone == {example.id: drawn[example.id]}
  # The same question under other ids has the same best answer, not the same
  # sampled ones.
  alike = [
    dataclasses.replace(EXAMPLES[0], id=f'alike {index}') for index in range(4)
  ]
  assert len(set(answers(alike).values())) == 1
  assert len(set(answers(alike, temperature=1.5).values())) > 1


def test_answers_may_count_whole(model, summaries):
  lines = iter(['\n one\ntwo \n', 'three\n', ' four'])

  class Lines(Characters):
    def decode(self, ids):
      return next(lines)

  told = dataclasses.replace(model, tokenizer=Lines())
  [result] = evaluate(
    told, EXAMPLES[:3], DOCUMENTS, summaries,
    [System('no context', '', ContextKind.NONE)], PROMPT,
    max_new_tokens=NEW, progress=False, first_line=False,
  )  # fmt: skip
  found = {answer.prediction for answer in result.answers}
  assert found == {'\n one\ntwo \n', 'three\n', ' four'}


def test_answers_of_the_base_count_without_space_around(model, summaries):
  (result,) = evaluate(
    dataclasses.replace(model, tokenizer=Spaced()), EXAMPLES[:1], DOCUMENTS,
    summaries, [System('no context', '', ContextKind.NONE, on_base=True)],
    PROMPT, max_new_tokens=NEW, progress=False, first_line=False,
  )  # fmt: skip
  assert result.answers[0].prediction == 'B. x'


class Spaced(Characters):
  def decode(self, ids):
    return '\n B. x\n'


def test_another_document_that_no_question_is_about(model, summaries):
  (result,) = evaluate(
    model, EXAMPLES[:1], DOCUMENTS, summaries,
    [System('other', '', ContextKind.OTHER_SUMMARIES)], PROMPT,
    max_new_tokens=NEW, progress=False,
  )  # fmt: skip
  expected = ask(model, [summaries['c']], [EXAMPLES[0].question])
  assert [result.answers[0].prediction] == expected


def test_a_single_document_has_no_other(model, summaries):
  """That is no reason not to evaluate the other systems."""
  own, other = evaluate(
    model,
    [each for each in EXAMPLES if each.document_ids == ('a',)],
    {'a': DOCUMENTS['a']},
    {'a': summaries['a']},
    [
      System('LLoCO', '', ContextKind.SUMMARIES),
      System('other', '', ContextKind.OTHER_SUMMARIES),
    ],
    PROMPT,
    max_new_tokens=NEW,
    progress=False,
  )
  assert own.answers and not other.answers


def test_other_summaries_that_do_not_fit_are_left_out(model, summaries):
  """Where the own ones do, the others are no reason to stop."""
  long = model.window - NEW - len(PROMPT.ask('0a?')) - 5
  others = {
    key: np.repeat(value, long, axis=0) for key, value in summaries.items()
  }
  own = {**others, 'a': summaries['a'][:1]}
  results = evaluate(
    model, [each for each in EXAMPLES if each.document_ids == ('a',)],
    DOCUMENTS, own,
    [
      System('LLoCO', '', ContextKind.SUMMARIES),
      System('other', '', ContextKind.OTHER_SUMMARIES),
    ],
    PROMPT, max_new_tokens=NEW, progress=False,
  )  # fmt: skip
  assert [bool(result.answers) for result in results] == [True, False]


def test_a_base_of_a_shorter_window_reads_what_it_can(model, summaries):
  """And is passed over where it cannot, as with the full context."""
  examples = [each for each in EXAMPLES if each.document_ids == ('c',)]
  network = dataclasses.replace(
    model.config, max_position_embeddings=len(PROMPT.ask('0c?')) + NEW + 1
  )
  systems = [
    System('LLoCO', '', ContextKind.SUMMARIES),
    System('none', '', ContextKind.NONE, on_base=True),
    System('budget', '', ContextKind.BUDGET, on_base=True),
  ]
  results = evaluate(
    model, examples, DOCUMENTS, summaries, systems, PROMPT,
    max_new_tokens=NEW, progress=False,
    base=dataclasses.replace(model, config=network),
  )  # fmt: skip
  assert [bool(result.answers) for result in results] == [True, True, False]


def test_examples_about_several_documents(model, summaries):
  examples = [Example('both', '0c?', ('0',), ('b', 'a'))]
  (result,) = evaluate(
    model, examples, DOCUMENTS, summaries,
    [System('LLoCO', '', ContextKind.SUMMARIES)], PROMPT,
    max_new_tokens=NEW, progress=False,
  )  # fmt: skip
  assert result.tokens_read == 17
  context = np.concatenate([summaries['b'], summaries['a']])
  assert [result.answers[0].prediction] == ask(model, [context], ['0c?'])
  assert result.answers[0].document_ids == ('b', 'a')


def test_the_tokenizers_eos_ends_answers(model, summaries):
  def ask():
    (result,) = evaluate(
      model, EXAMPLES, DOCUMENTS, summaries,
      [System('no context', '', ContextKind.NONE)], PROMPT,
      max_new_tokens=NEW, progress=False,
    )  # fmt: skip
    return result.answers

  free = ask()[0].prediction
  model.tokenizer.eos_id = ord(free[-1])
  try:
    assert ask()[0].prediction == answer_text(
      model.tokenizer, model.tokenizer.encode(free[: free.index(free[-1])])
    )
  finally:
    del model.tokenizer.eos_id


def test_nothing_fits(model, summaries):
  examples = [example for example in EXAMPLES if example.id == 'c/0']
  (result,) = evaluate(
    model, examples, DOCUMENTS, summaries,
    [System('full context', '', ContextKind.FULL)], PROMPT,
    max_new_tokens=NEW, progress=False,
  )  # fmt: skip
  assert result.answers == () and result.tokens_read is None


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(examples=()), 'no examples'),
    (dict(documents={'a': DOCUMENTS['a']}), "document 'b', which is not"),
    (dict(summaries={}), "Document 'a' has no summaries"),
    (
      dict(examples=[Example('x', '?' * 93, ('x',), ('a',))]),
      "example 'x' takes 97 tokens; with 4 .* 100 positions",
    ),
    (
      dict(summaries=dict.fromkeys('abc', np.zeros((90, WIDTH)))),
      "document 'a' .90 positions.*101 positions; the model has 100",
    ),
    (dict(metrics={'accuracy': accuracy}), 'does not open with the letter'),
  ],
)
def test_errors_come_before_any_system_runs(
  model, summaries, monkeypatch, change, message
):
  monkeypatch.setattr(runner, 'answer_all', None)
  arguments = (
    dict(examples=EXAMPLES, documents=DOCUMENTS, summaries=summaries) | change
  )
  systems = [
    System('no context', '', ContextKind.NONE),
    System('LLoCO', '', ContextKind.SUMMARIES),
  ]
  with pytest.raises(ValueError, match=message):
    evaluate(
      model, systems=systems, prompt=PROMPT, max_new_tokens=NEW, **arguments
    )


def test_no_tokenizer(model, summaries):
  bare = dataclasses.replace(model, tokenizer=None)
  with pytest.raises(ValueError, match='has no tokenizer'):
    evaluate(bare, EXAMPLES, DOCUMENTS, summaries, [])


def test_programs_are_bounded_by_the_buckets():
  model = tiny_model(window=150)
  random = np.random.default_rng(1)
  documents, examples, summaries = {}, [], {}
  for number in range(10):
    key = f'd{number}'
    documents[key] = Document(key, 'x' * int(random.integers(20, 97)))
    summaries[key] = np.ones((int(random.integers(1, 40)), WIDTH), np.float32)
    for index in range(int(random.integers(1, 5))):
      question = '?' * int(random.integers(1, 29))
      examples.append(Example(f'{key}/{index}', question, ('x',), (key,)))
  for program in (prefill, decode_in_place):
    program.clear_cache()
  evaluate(
    model, examples, documents, summaries, standard_systems({}), PROMPT,
    max_new_tokens=2, progress=False,
  )  # fmt: skip
  # 4 questions behind 0, 64 or 96 slots.
  assert prefill._cache_size() == decode_in_place._cache_size() == 3
