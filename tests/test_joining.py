"""Joined projections against the same ones apart."""

import dataclasses

import jax.numpy as jnp
import pytest
import tiny
from tiny import CONFIG, relative_error

from lloco_jax.nn import llama
from lloco_jax.nn.joining import (
  decoding_adapter,
  decoding_params,
  unstack_layers,
)
from lloco_jax.nn.lora import stack_adapters

BIASED = dataclasses.replace(CONFIG, attention_bias=True, mlp_bias=True)
X = tiny.normal(0, 2, 5, CONFIG.hidden_size)
PLACES = jnp.broadcast_to(jnp.arange(5), (2, 5))


def hidden(params, adapter=None, ids=None):
  positions = llama.Positions(PLACES, PLACES)
  states, _ = llama.hidden_states(params, BIASED, X, positions, adapter, ids)
  return states


def unstacked(adapter):
  return adapter.replace(weights=unstack_layers(adapter.weights))


@pytest.mark.parametrize(
  'targets',
  [('q_proj', 'k_proj', 'v_proj', 'o_proj'), ('v_proj', 'up_proj'),
   ('k_proj', 'gate_proj', 'down_proj'), ('o_proj',)],
)  # fmt: skip
def test_whatever_an_adapter_changes(targets):
  params, adapter = tiny.model(BIASED).params, tiny.adapter(1, targets=targets)
  joined = decoding_params(params)
  assert 'q_proj' not in joined['layers_0']['self_attn']
  expected = hidden(params, adapter)
  assert relative_error(expected, hidden(params)) > 1e-3
  assert relative_error(hidden(joined, unstacked(adapter)), expected) < 1e-5
  once = decoding_adapter(unstacked(adapter), joined, BIASED)
  assert relative_error(hidden(joined, once), expected) < 1e-5


def test_a_bank_of_different_targets_and_ranks():
  params = tiny.model(BIASED).params
  adapters = [
    tiny.adapter(1, rank=1, targets=('q_proj', 'down_proj')),
    tiny.adapter(2, rank=3, targets=('v_proj', 'gate_proj')),
  ]
  bank = unstacked(stack_adapters(adapters))
  actual = hidden(decoding_params(params), bank, jnp.asarray([1, 0]))
  for row, adapter in enumerate(reversed(adapters)):
    expected = hidden(params, adapter)[row]
    assert relative_error(actual[row], expected) < 1e-5
