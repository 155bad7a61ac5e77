"""Answers that are kept, and what they depend on."""

import dataclasses

import pytest
from test_runner import DOCUMENTS, EXAMPLES, NEW, PROMPT, model, summaries
from tiny_model import tiny_adapter

from lloco_jax import processes
from lloco_jax.data.contexts import ContextKind
from lloco_jax.evaluation import runner
from lloco_jax.evaluation.answer_cache import AnswerCache
from lloco_jax.evaluation.runner import evaluate
from lloco_jax.evaluation.systems import System

# Fixtures, which pytest finds by these names.
__all__ = ['model', 'summaries']


def test_seconds_of_answers_that_were_given_otherwise_are_unknown(
  model, summaries, tmp_path
):
  def seconds(how):
    (result,) = evaluate(
      model, EXAMPLES[:1], DOCUMENTS, summaries,
      [System('LLoCO', '', ContextKind.SUMMARIES)], PROMPT,
      max_new_tokens=NEW, progress=False, cache=AnswerCache(tmp_path, how),
    )  # fmt: skip
    return result.seconds_to_first_token, result.seconds_per_answer

  first = seconds('on a CPU')
  assert None not in first
  assert seconds('on a GPU') == (None, None)
  assert seconds('on a CPU') == first


def test_answers_are_kept_on_disk(
  model, summaries, tmp_path, monkeypatch, capsys
):
  """And asked again where anything that they depend on is another."""
  systems = [System('LLoCO', '', ContextKind.SUMMARIES, tiny_adapter(1))]

  def answers(systems=systems, new=NEW, summaries=summaries, progress=False):
    (result,) = evaluate(
      model, EXAMPLES[:2], DOCUMENTS, summaries, systems, PROMPT,
      max_new_tokens=new, progress=progress, cache=AnswerCache(tmp_path),
    )  # fmt: skip
    return result

  first = answers()
  asked = []
  answer = runner.answer_all
  monkeypatch.setattr(
    runner, 'answer_all', lambda *rest: asked.append(1) or answer(*rest)
  )
  assert answers(progress=True) == first and not asked
  assert capsys.readouterr().out.endswith(
    ', 2 of them to prompts answered before\n'
  )
  answers(new=NEW + 1)
  assert len(asked) == 2
  answers([dataclasses.replace(systems[0], adapter=tiny_adapter(2))])
  assert len(asked) == 4
  answers(summaries={key: 2 * value for key, value in summaries.items()})
  assert len(asked) == 6
  for path in tmp_path.iterdir():
    path.write_text(path.read_text()[:9])
  assert answers().answers == first.answers and len(asked) == 8


def test_answers_that_another_process_alone_can_read_are_told(
  tmp_path, monkeypatch
):
  """Or it would not run the programs that the others run."""
  cache = AnswerCache(tmp_path)
  monkeypatch.setattr(processes, 'agreed', lambda numbers: [True])
  with pytest.raises(OSError, match='first process reads .*key.json'):
    cache.find('key')
