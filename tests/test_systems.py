"""The systems that an evaluation compares."""

from made_up_systems import CONTROLS as MADE_UP_CONTROLS
from made_up_systems import ROWS
import pytest

from lloco_jax.data.contexts import ContextKind
from lloco_jax.evaluation.systems import (
  CONTROLS,
  FINETUNED_ON,
  MAIN_SYSTEM,
  System,
  standard_systems,
  systems_of,
)
from lloco_jax.retrieval.passages import Retrieval
from lloco_jax.retrieval.search import SEARCHES

ADAPTERS = {key: f'adapter {key}' for key in FINETUNED_ON}
DEFAULT = {key: ADAPTERS[key] for key in ('lloco', 'no_context', 'truncated')}


def test_names_are_those_of_the_report():
  names = [system.name for system in standard_systems(DEFAULT)]
  assert names == [row[0] for row in ROWS]
  assert CONTROLS == MADE_UP_CONTROLS
  assert MAIN_SYSTEM in names


def test_adapters_read_what_they_are_finetuned_on():
  systems = {system.name: system for system in standard_systems(ADAPTERS)}
  for name, key in {
    'LLoCO': 'lloco',
    'finetuned without context': 'no_context',
    'finetuned on equal-budget truncation': 'truncated',
    'finetuned on uncompressed context': 'full',
  }.items():
    assert systems[name].adapter == ADAPTERS[key]
    assert systems[name].kind == FINETUNED_ON[key]
  other = systems["LLoCO with another document's summaries"]
  assert other.adapter == ADAPTERS['lloco']
  assert other.kind == ContextKind.OTHER_SUMMARIES
  for name, system in systems.items():
    plain = system.adapter is None and name != 'compressed without finetuning'
    assert system.on_base == plain


def test_missing_adapters_leave_their_systems_out():
  names = [system.name for system in standard_systems({})]
  assert names == [row[0] for row in ROWS[:5]]
  names = [system.name for system in standard_systems({'lloco': 'it'})]
  assert names == [row[0] for row in (*ROWS[:6], ROWS[8])]


def test_unknown_adapter():
  with pytest.raises(ValueError, match="'sung'.*lloco, no_context, truncated"):
    standard_systems({'sung': 'it'})
  with pytest.raises(ValueError, match="'sung'.*bm25, embedding, hybrid"):
    standard_systems({}, {'sung': Retrieval()})


def test_uncompressed_context_is_no_control():
  names = [system.name for system in standard_systems(ADAPTERS)]
  uncompressed = 'finetuned on uncompressed context'
  assert names[names.index(MAIN_SYSTEM) + 1] == uncompressed
  assert uncompressed not in CONTROLS


def test_retrieval_is_on_the_base_after_its_other_systems():
  retrievals = {
    'bm25': Retrieval(passage_tokens=64, passages=3),
    'embedding': Retrieval(),
  }
  systems = standard_systems(DEFAULT, retrievals)
  plain = standard_systems(DEFAULT)
  assert systems[:4] == plain[:4] and systems[6:] == plain[4:]
  for system, name, retrieval in zip(
    systems[4:6], ('BM25', 'embedding'), retrievals.values(), strict=True
  ):
    assert system.name == f'retrieval ({name})'
    assert system.on_base and system.adapter is None
    assert system.kind == ContextKind.PASSAGES
    assert system.retrieval is retrieval
  assert 'the 3 passages of 64 tokens' in systems[4].description


def test_every_search_has_a_system():
  names = [
    system.name
    for system in standard_systems({}, dict.fromkeys(SEARCHES, Retrieval()))
  ]
  assert sum(name.startswith('retrieval (') for name in names) == len(SEARCHES)


def test_systems_of_adapters():
  assert systems_of(['truncated', 'lloco']) == [
    'LLoCO',
    'finetuned on equal-budget truncation',
    "LLoCO with another document's summaries",
  ]
  assert systems_of([]) == []


@pytest.mark.parametrize(
  ('kind', 'retrieval'),
  [(ContextKind.PASSAGES, None), (ContextKind.WINDOW, Retrieval())],
)
def test_passages_need_a_retrieval_and_nothing_else_does(kind, retrieval):
  with pytest.raises(ValueError, match="'mine' reads .*; a retrieval belongs"):
    System('mine', '', kind, retrieval=retrieval)
