"""Floating-point operations of the network, by formula.

The compiler counts a scanned body once, so it cannot be asked. A product of
[T, D] and [D, F] is 2 T D F operations. Only matrix products are counted, and
nothing that is computed twice to save memory.
"""

from lloco_jax.nn.config import LlamaConfig
from lloco_jax.nn.lora import LoraConfig, projection_shapes


def layer_parameters(config: LlamaConfig) -> int:
  """Parameters of all layers that stand in matrix products."""
  shapes = projection_shapes(config).values()
  return config.num_hidden_layers * sum(d * f for d, f in shapes)


def adapter_parameters(config: LlamaConfig, lora: LoraConfig) -> int:
  """Parameters of an adapter."""
  shapes = projection_shapes(config)
  sizes = sum(lora.rank * sum(shapes[name]) for name in lora.targets)
  return config.num_hidden_layers * sizes


def causal_pairs(queries: int, keys: int) -> int:
  """Pairs of a query and a key it sees, the queries being the last keys."""
  return queries * (keys - queries) + queries * (queries + 1) // 2


def forward_flops(
  config: LlamaConfig,
  tokens: int,
  pairs: int,
  head_rows: int,
  lora: LoraConfig | None = None,
) -> int:
  """Of reading tokens: 2N a token, attention, and the head.

  Args:
    config: the base's.
    tokens: positions that run.
    pairs: of a query and a key, see `causal_pairs`.
    head_rows: positions whose logits are computed.
    lora: of the adapter, if there is one.
  """
  parameters = layer_parameters(config)
  if lora:
    parameters += adapter_parameters(config, lora)
  return (
    2 * parameters * tokens
    + _attention(config, pairs)
    + 2 * config.hidden_size * config.vocab_size * head_rows
  )


def training_flops(
  config: LlamaConfig, tokens: int, pairs: int, head_rows: int, lora: LoraConfig
) -> int:
  """Of a gradient with respect to an adapter: 4N a token and attention.

  The backward pass goes through every product of the base once, to its input,
  and twice through those of attention and of the adapter, whose both sides
  need a gradient.
  """
  adapter = 2 * adapter_parameters(config, lora) * tokens
  forward = forward_flops(config, tokens, pairs, head_rows)
  return 2 * forward + _attention(config, pairs) + 3 * adapter


def _attention(config: LlamaConfig, pairs: int) -> int:
  """Scores and their sums of values: two products a pair, layer and head."""
  width = config.num_attention_heads * config.head_dim
  return 4 * config.num_hidden_layers * width * pairs
