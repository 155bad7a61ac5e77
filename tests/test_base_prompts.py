"""How the untouched base is asked, against the reference's own strings.

Tokens are characters, so what the base reads can be read here.
"""

import pytest
from tiny_model import Characters, tiny_model

from configs import common
from lloco_jax.data.documents import Document
from lloco_jax.data.examples import Example
from lloco_jax.data.prompts import BASE_PROMPTS, PROMPTS
from lloco_jax.evaluation.plans import group_examples, make_plans
from lloco_jax.evaluation.systems import FINETUNED_ON, standard_systems
from lloco_jax.evaluation_settings import evaluation_settings

TEXT = 'Fox\nIt is red. It was red.\n\nMill\nIt is old.'
QUESTION = 'Which is red?'
# finetune_scrolls.py, finetune_quality.py and finetune_hotpot.py of the
# reference, commit 4f8a550, as they put their strings together.
SEPARATOR = '... [The rest of the story is omitted]\n\n'
HOTPOT = (
  'Answer the question based on the given passages. Only give me the answer '
  'and do not output any other words.\n\nThe following are given passages.\n'
  '{context}\n\nAnswer the question based on the given passages. Only give me '
  'the answer and do not output any other words.\n\nQuestion: {input}\nAnswer:'
)


def scrolls(name):
  question = PROMPTS[name].prefix + QUESTION + '\nAnswer:'
  # The input's lines but the first: an empty one stands before the text.
  context = '<<SYS>>\n' + f'\n{TEXT}' + SEPARATOR + '\n<</SYS>>\n\n'
  return context + question, question


def quality():
  question = PROMPTS['quality'].ask(QUESTION)
  return f'Article: {TEXT}' + SEPARATOR + question, question


def hotpot():
  asked = PROMPTS['hotpot_qa'].prefix + QUESTION + '\nAnswer:'
  whole = HOTPOT.format(context=TEXT, input=asked)
  alone = HOTPOT.split('{context}\n\n')[1].format(input=QUESTION)
  return f'[INST]{whole}[/INST]', f'[INST]{alone}[/INST]'


EXPECTED = {
  **{name: scrolls(name) for name in ('qasper', 'qmsum', 'narrative_qa')},
  'gov_report': scrolls('gov_report'),
  'quality': quality(),
  'hotpot_qa': hotpot(),
}


def text_of(name):
  """The document as its loader gives it."""
  return TEXT if name in ('quality', 'hotpot_qa') else f'\n{TEXT}'


def read(name, window):
  """What each standard system reads, context and prompt, where it is text."""
  model = tiny_model(window)
  systems = standard_systems(
    dict.fromkeys(FINETUNED_ON), None, BASE_PROMPTS.get(name)
  )
  usual = PROMPTS[name]
  examples = [Example('1', QUESTION, ('the fox',), ('a',))]
  documents = {
    id: Document(id, text_of(name) + id * (id != 'a')) for id in 'ab'
  }
  vectors = dict.fromkeys(documents, [[0.0]] * 5)
  groups = [
    group_examples(model, examples, system.prompt(usual), 4)
    for system in systems
  ]
  models = [model] * len(systems)
  plans = make_plans(models, groups, documents, vectors, systems, 4)
  found = {}
  for system, plan in zip(systems, plans):
    for group, context in plan:
      if context is not None and context.is_text:
        ids = [*context.values, *group.prompts[0]]
        found[system.name] = Characters().decode(ids)
  return found


@pytest.mark.parametrize('name', EXPECTED)
def test_the_base_reads_what_the_references_does(name):
  found = read(name, window=2000)
  whole, alone = EXPECTED[name]
  assert found['full context'] == whole
  assert found['context truncated to the window'] == whole
  assert found['no context'] == alone
  # All others are asked as they are finetuned.
  usual = PROMPTS[name].ask(QUESTION)
  assert found['finetuned on uncompressed context'] == text_of(name) + usual
  assert found['finetuned without context'] == usual
  budget = found["truncated to the summaries' token count"]
  assert budget == text_of(name)[:5] + usual


def test_a_text_is_cut_to_the_window_with_what_is_around_it():
  whole, question = EXPECTED['narrative_qa']
  window = len(question) + 4 + 30
  found = read('narrative_qa', window)
  assert 'full context' not in found
  truncated = found['context truncated to the window']
  assert truncated == whole[:30] + question
  assert truncated.startswith('<<SYS>>\n\nFox\nIt is red.')


def test_configs_ask_the_base_as_the_reference_does():
  config = common.paper('any', 'smollm2', 'scrolls', 'qasper')
  settings = evaluation_settings(config.evaluation)
  assert settings.base_prompt == BASE_PROMPTS['qasper']
  config.evaluation.base_prompt = ''
  assert evaluation_settings(config.evaluation).base_prompt is None
  config.evaluation.base_prompt = 'sung'
  with pytest.raises(
    ValueError, match="base_prompt is 'sung'; .* quality, qas"
  ):
    evaluation_settings(config.evaluation)
