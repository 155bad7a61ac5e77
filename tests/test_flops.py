"""FLOPs by formula against what the compiler counts without a scan."""

import dataclasses

import jax
from jax.extend.core import jaxprs_in_params
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from lloco_jax.data.batches import pack
from lloco_jax.finetuning.loss import packed_loss
from lloco_jax.nn import llama
from lloco_jax.nn.joining import unstack_layers
from lloco_jax.nn.lora import LoraConfig, init_adapter
from lloco_jax.planning import flops
from lloco_jax.weights.published import read_config

# Wide enough that nearly all operations are those of matrix products.
CONFIG = dataclasses.replace(
  tiny.CONFIG,
  hidden_size=256,
  intermediate_size=512,
  num_attention_heads=4,
  num_key_value_heads=2,
  head_dim=64,
)
LORA = LoraConfig()
T = 128


def counted(function, *arguments):
  compiled = jax.jit(function).lower(*arguments).compile()
  return compiled.cost_analysis()['flops']


def unstacked():
  def make():
    key = jax.random.key(0)
    adapter = init_adapter(CONFIG, LORA, key)
    return (
      unstack_layers(llama.init_params(CONFIG, key)),
      adapter.replace(weights=unstack_layers(adapter.weights)),
    )

  return jax.eval_shape(make)


def batch():
  question = (tiny.ids(0, T - 15).tolist(), tiny.ids(1, 16).tolist())
  packed = pack([[question]])
  assert packed['tokens'].shape == (1, T)
  return packed


def loss(adapter, params):
  context = jnp.zeros((1, 0, CONFIG.hidden_size))
  lengths = np.zeros(1, np.int32)
  return packed_loss(params, CONFIG, batch(), context, lengths, adapter)[0]


def test_forward():
  params, adapter = unstacked()
  # Few keys: xla computes the pairs that the mask hides as well.
  expected = flops.forward_flops(CONFIG, T, T * T, 16, LORA)
  assert 1 <= counted(loss, adapter, params) / expected < 1.05


def test_a_gradient_is_twice_a_forward_pass():
  """Above what a gradient of the base would make of it: three times."""
  params, adapter = unstacked()
  expected = flops.training_flops(CONFIG, T, T * T, 16, LORA)
  # The input of the first layer needs no gradient.
  shapes = flops.projection_shapes(CONFIG)
  spared = sum(
    2 * T * (d * f + LORA.rank * d)
    for d, f in (shapes[name] for name in ('q_proj', 'k_proj', 'v_proj'))
  )
  found = counted(jax.grad(loss), adapter, params)
  assert 1 <= found / (expected - spared) < 1.05


def products(function, *arguments):
  """The shapes that a program's matrix products give, sorted sizes."""
  found = set()

  def walk(jaxpr):
    for equation in jaxpr.eqns:
      if equation.primitive.name == 'dot_general':
        found.add(tuple(sorted(equation.outvars[0].aval.shape)))
      for inner in jaxprs_in_params(equation.params):
        walk(inner)

  walk(jax.make_jaxpr(function)(*arguments).jaxpr)
  return found


def test_no_gradient_of_the_base_is_computed():
  """No product has the shape of a weight, as every gradient of one has."""
  params, adapter = unstacked()
  weights = {tuple(sorted(x)) for x in flops.projection_shapes(CONFIG).values()}
  weights.add((CONFIG.vocab_size, CONFIG.hidden_size))
  assert not weights & products(jax.grad(loss), adapter, params)
  assert weights <= products(jax.grad(loss, argnums=1), adapter, params)


def test_pairs_are_those_of_the_mask():
  mask = np.tril(np.ones((5, 9)), k=4)
  assert flops.causal_pairs(5, 9) == mask.sum()


def test_llama2_7b():
  """The model's published size, and 4N a token of finetuning."""
  config = read_config('princeton-nlp/AutoCompressor-Llama-2-7b-6k')
  layers = flops.layer_parameters(config)
  ends = 2 * config.vocab_size * config.hidden_size
  norms = (2 * config.num_hidden_layers + 1) * config.hidden_size
  assert layers + ends + norms == 6_738_415_616
  a_token = flops.training_flops(config, 1, 0, 0, LORA)
  assert a_token == pytest.approx(4 * layers, rel=0.01)
  assert flops.adapter_parameters(config, LORA) == 8_388_608
