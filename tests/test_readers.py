"""Who answers for a system: the model, its base or another checkpoint."""

# ruff: noqa: F811  (fixtures of another file)

import dataclasses

import numpy as np
from test_runner import (  # noqa: F401
  DOCUMENTS,
  EXAMPLES,
  NEW,
  PROMPT,
  by_name,
  model,
  summaries,
)
from tiny_model import WIDTH, Characters, tiny_adapter, tiny_model

from lloco_jax.data.contexts import ContextKind
from lloco_jax.evaluation.runner import evaluate
from lloco_jax.evaluation.systems import System, standard_systems
from lloco_jax.nn.lora import merge_adapter


def test_systems_on_the_base_are_answered_by_it(model, summaries):
  """And the others by the model, though they read the same."""
  base = dataclasses.replace(
    model,
    params=merge_adapter(model.params, tiny_adapter(1)),
    fingerprint='base',
  )
  systems = [
    System('base', '', ContextKind.FULL, on_base=True),
    System('model', '', ContextKind.FULL),
  ]
  arguments = (EXAMPLES[:2], DOCUMENTS, summaries)
  options = dict(max_new_tokens=NEW, progress=False)
  found = evaluate(model, *arguments, systems, PROMPT, base=base, **options)
  assert found[0].answers != found[1].answers
  (alone,) = evaluate(base, *arguments, systems[1:], PROMPT, **options)
  assert found[0].answers == alone.answers


def test_a_base_may_be_another_checkpoint(model, summaries):
  class Halves(Characters):
    """As many tokens for half of the text."""

    def encode(self, text):
      return super().encode(text.lower())[::2]

  base = dataclasses.replace(
    tiny_model(window=60), tokenizer=Halves(), fingerprint='another'
  )
  systems = standard_systems({'lloco': tiny_adapter()})
  options = dict(max_new_tokens=NEW, progress=False)
  arguments = (EXAMPLES, DOCUMENTS, summaries, systems, PROMPT)
  found = by_name(evaluate(model, *arguments, base=base, **options))
  alone = by_name(evaluate(base, *arguments, **options))
  own = by_name(evaluate(model, *arguments, **options))
  for system in systems:
    theirs = alone if system.on_base else own
    assert found[system.name].answers == theirs[system.name].answers
    assert found[system.name].tokens_read == theirs[system.name].tokens_read
  assert found['full context'].answers != own['full context'].answers


def test_questions_may_run_past_the_window(model):
  """As they would in a wider one; text is cut to the window all the same."""
  long = dict.fromkeys('abc', np.full((95, WIDTH), 0.1, np.float32))
  systems = standard_systems({'lloco': tiny_adapter(), 'full': tiny_adapter(1)})
  beyond = dataclasses.replace(model, beyond=40)
  options = dict(max_new_tokens=NEW, progress=False)
  found = by_name(
    evaluate(beyond, EXAMPLES, DOCUMENTS, long, systems, PROMPT, **options)
  )
  truncated = 'context truncated to the window'
  for name in (truncated, 'finetuned on uncompressed context'):
    assert found[name].tokens_read == (40 + 89 + 89) / 3
  config = dataclasses.replace(model.config, max_position_embeddings=140)
  wide = dataclasses.replace(model, config=config)
  expected = by_name(
    evaluate(wide, EXAMPLES, DOCUMENTS, long, systems, PROMPT, **options)
  )
  assert expected[truncated].tokens_read > found[truncated].tokens_read
  for name in ('LLoCO', 'compressed without finetuning'):
    assert found[name].tokens_read == 95
    assert found[name].answers == expected[name].answers
