"""The systems that an evaluation compares."""

from made_up_systems import CONTROLS as MADE_UP_CONTROLS
from made_up_systems import ROWS
import pytest

from lloco_jax.data.contexts import ContextKind
from lloco_jax.evaluation.systems import (
  CONTROLS,
  FINETUNED_ON,
  MAIN_SYSTEM,
  standard_systems,
)

ADAPTERS = {key: f'adapter {key}' for key in FINETUNED_ON}


def test_names_are_those_of_the_report():
  names = [system.name for system in standard_systems(ADAPTERS)]
  assert names == [row[0] for row in ROWS]
  assert CONTROLS == MADE_UP_CONTROLS
  assert MAIN_SYSTEM in names


def test_adapters_read_what_they_are_finetuned_on():
  systems = {system.name: system for system in standard_systems(ADAPTERS)}
  for name, key in {
    'LLoCO': 'lloco',
    'finetuned without context': 'no_context',
    'finetuned on equal-budget truncation': 'truncated',
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
  with pytest.raises(ValueError, match="'full'.*lloco, no_context, truncated"):
    standard_systems({'full': 'it'})
