"""The functions of `import lloco_jax as lloco`."""

import functools
import numbers

import jax
import jax.numpy as jnp
import numpy as np

from lloco_jax.compression.segments import (
  check_compressor,
  compress_ids,
  split_length,
)
from lloco_jax.data.batches import IGNORED
from lloco_jax.finetuning.loss import cross_entropy
from lloco_jax.generation.decoding import decode, prefill
from lloco_jax.generation.sampling import Sampling, stop_ids
from lloco_jax.model import Model
from lloco_jax.nn import autocompressor, llama
from lloco_jax.nn.lora import Adapter, projection_shapes
from lloco_jax.weights import peft


def load_adapter(folder, model: Model) -> Adapter:
  """Reads a PEFT adapter folder made for the model's base.

  Raises:
    FileNotFoundError: the folder or one of its files is missing.
    ValueError: it was made for another base, or is not a plain LoRA.
  """
  return peft.load_adapter(folder, model.config, model.fingerprint, model.name)


def save_adapter(folder, adapter: Adapter, model: Model) -> None:
  """Writes a PEFT adapter folder, which the peft library loads too."""
  peft.save_adapter(
    folder, adapter, model.name, base_fingerprint=model.fingerprint
  )


def compress(
  model: Model,
  ids,
  segment_length: int | None = None,
  segment_lengths=None,
  adapter: Adapter | None = None,
  earlier=None,
) -> jax.Array:
  """Summary vectors of token ids.

  Args:
    model: an AutoCompressor.
    ids: [T] or [B, T] token ids.
    segment_length: tokens a segment, of which the last may have fewer; None
      takes as many as the compressor was trained on, 1,536 for a checkpoint
      that is one itself.
    segment_lengths: the length of every segment instead.
    adapter: compress through an adapter.
    earlier: vectors [n, D] or [B, n, D] of the text before the ids.

  Returns:
    [n, D] or [B, n, D]: the vectors of all segments, or of the last one
    when the checkpoint does not accumulate them.

  Raises:
    ValueError: the checkpoint is no compressor, or the ids are unusable.
  """
  check_compressor(model.config)
  ids = check_ids(model, ids)
  single = ids.ndim == 1
  if single:
    ids = ids[None]
  if earlier is not None:
    earlier = jnp.asarray(earlier)
    earlier = earlier[None] if single else earlier
  if segment_length is None:
    segment_length = model.segment_length
  lengths = split_length(ids.shape[1], segment_length, segment_lengths)
  check_compressor(model.config, max(lengths))
  _check_single('A compressor', model, adapter)
  if earlier is not None:
    _check_earlier(model, earlier, ids.shape[0])
  summaries = compress_ids(
    model.params, model.config, ids, lengths, adapter, earlier
  )
  return summaries[0] if single else summaries


@functools.partial(jax.jit, static_argnames=('config',))
def _forward(params, config, ids, context, adapter, adapter_ids):
  hidden, _, _ = autocompressor.read(
    params, config, ids, context, adapter=adapter, adapter_ids=adapter_ids
  )
  return llama.logits(params, config, hidden[:, context.shape[1] :])


def forward(
  model: Model, ids, context=None, adapter=None, adapter_ids=None
) -> jax.Array:
  """Logits [B, T, V] of token ids [B, T] behind a context [B, n, D].

  A [T] row with an [n, D] context gives [T, V]. `adapter` may be a bank,
  with `adapter_ids` [B] (-1: the base alone).

  Raises:
    ValueError: context and ids exceed the model's window, or an argument is
      none that can be used.
  """
  ids, context, single = _rows(model, ids, context)
  _check_window(model, context.shape[1] + ids.shape[1])
  adapter_ids = check_adapter(model, adapter, adapter_ids, ids.shape[0])
  logits = _forward(
    model.params, model.config, ids, context, adapter, adapter_ids
  )
  return logits[0] if single else logits


@functools.partial(jax.jit, static_argnames=('config',))
def _loss(params, config, ids, labels, context, adapter):
  hidden, _, _ = autocompressor.read(
    params, config, ids, context, adapter=adapter
  )
  # The last vector of the context predicts the first token.
  size = context.shape[1]
  predicting = hidden[:, max(size, 1) - 1 : -1]
  targets = labels[:, 0 if size else 1 :]
  total, count = cross_entropy(
    params,
    config,
    predicting.reshape(-1, hidden.shape[-1]),
    targets.reshape(-1),
  )
  return total / jnp.maximum(count, 1)


def loss(model: Model, ids, labels, context=None, adapter=None) -> jax.Array:
  """Mean next-token loss in nats over the labels that count.

  Args:
    model: the base.
    ids: [B, T] token ids.
    labels: [B, T]; each is predicted from what stands before it; -100 is
      not counted.
    context: [B, n, D] summary vectors.
    adapter: what `jax.grad` differentiates.

  Raises:
    ValueError: context and ids exceed the model's window, or an argument is
      none that can be used.
  """
  ids, context, single = _rows(model, ids, context)
  _check_window(model, context.shape[1] + ids.shape[1])
  _check_single('The loss', model, adapter)
  labels = np.asarray(labels)
  if not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(f'labels are {labels.dtype}; give integers.')
  labels = labels.astype(np.int32)
  labels = labels[None] if single and labels.ndim == 1 else labels
  if labels.shape != ids.shape:
    raise ValueError(
      f'labels are {labels.shape} and ids {ids.shape}; they must match.'
    )
  known = (labels >= 0) & (labels < model.config.vocab_size)
  strange = labels[~known & (labels != IGNORED)]
  if strange.size:
    raise ValueError(
      f"The label {strange[0]} is outside the model's vocabulary of "
      f'{model.config.vocab_size}; {IGNORED} is what is not counted.'
    )
  if (labels[:, 0 if context.shape[1] else 1 :] == IGNORED).all():
    raise ValueError('No label counts: there is nothing to predict.')
  return _loss(model.params, model.config, ids, labels, context, adapter)


def generate(
  model: Model,
  ids,
  context=None,
  adapter: Adapter | None = None,
  max_new_tokens: int = 16,
  *,
  lengths=None,
  context_lengths=None,
  adapter_ids=None,
  temperature: float = 0.0,
  top_p: float = 1.0,
  seed: int = 0,
  stop_tokens=None,
) -> jax.Array:
  """New token ids [B, max_new_tokens] behind prompts [B, T].

  Args:
    model: the base.
    ids: [B, T] prompts, padded on the right where `lengths` [B] says so.
    context: [B, n, D] summary vectors, of which `context_lengths` [B] count.
    adapter: of all rows, or a bank with `adapter_ids` [B] (-1: none).
    max_new_tokens: tokens a row; after a stop token a row repeats it.
    temperature: 0 is greedy.
    top_p: see generation/sampling.py.
    seed: of the random choices.
    stop_tokens: ids that end a row; the model's by default.

  Raises:
    ValueError: context, prompt and new tokens exceed the model's window, or
      an argument is none that can be used.
  """
  ids, context, single = _rows(model, ids, context)
  config = model.config
  if not isinstance(max_new_tokens, numbers.Integral) or max_new_tokens < 1:
    raise ValueError(
      f'max_new_tokens is {max_new_tokens!r}; it must be a whole number, 1 or '
      'more.'
    )
  sampling = Sampling(temperature, top_p, seed)
  stop = stop_ids(model.stop_tokens if stop_tokens is None else stop_tokens)
  batch, width = ids.shape
  size = context.shape[1]
  adapter_ids = check_adapter(model, adapter, adapter_ids, batch)
  lengths = _per_row('lengths', lengths, batch, 1, width)
  context_lengths = _per_row('context_lengths', context_lengths, batch, 0, size)
  longest = int(jnp.max(context_lengths + lengths))
  _check_window(model, longest, max_new_tokens)
  lengths = lengths[:, None]
  first, cache = prefill(
    model.params,
    config,
    context,
    context_lengths,
    ids[:, None],
    lengths,
    adapter,
    adapter_ids,
    max_new_tokens - 1,
    model.decodes_stacked,
  )
  params, adapter = model.for_decoding(adapter)
  tokens = decode(
    params,
    config,
    first,
    cache,
    context_lengths[:, None] + lengths,
    adapter,
    adapter_ids,
    sampling.key,
    max_new_tokens,
    temperature,
    top_p,
    stop,
  )[:, 0]
  return tokens[0] if single else tokens


def _check_window(model: Model, read: int, new: int = 0) -> None:
  """Raises ValueError when a row is longer than the model's window."""
  window = model.window
  if read + new > window:
    more = f' and {new} new tokens' if new else ''
    raise ValueError(
      f'Context and ids of {read} positions{more} exceed the {window} of the '
      'model; compress the context or ask for less.'
    )


def _check_single(what: str, model: Model, adapter: Adapter | None) -> None:
  """Raises ValueError for a bank, and for an adapter of another base."""
  if adapter is not None and adapter.bank_size is not None:
    raise ValueError(f'{what} takes one adapter, not a bank of them.')
  check_adapter(model, adapter)


def check_adapter(model: Model, adapter, adapter_ids=None, rows: int = 1):
  """`adapter_ids` as int32 [B], or None.

  Raises:
    ValueError: the adapter is of another base, or the ids do not fit it.
  """
  if not isinstance(adapter, Adapter | None):
    raise ValueError(
      f'The adapter is a {type(adapter).__name__}; read it with load_adapter.'
    )
  bank = None if adapter is None else adapter.bank_size
  if adapter is not None:
    shapes = projection_shapes(model.config)
    layers = model.config.num_hidden_layers
    for projections in adapter.weights['layers'].values():
      for name, pair in projections.items():
        a, b = pair['a'].shape, pair['b'].shape
        if (a[0], a[1], b[-1]) != (layers, *shapes[name]):
          raise ValueError(
            f'The adapter changes {name} in {a[0]} layers, from {a[1]} to '
            f'{b[-1]}; the model has {layers} layers, from {shapes[name][0]} '
            f'to {shapes[name][1]}: it was made for another base.'
          )
  if adapter_ids is None:
    if bank is not None:
      raise ValueError('A bank of adapters needs adapter_ids, one a row.')
    return None
  if bank is None:
    raise ValueError(
      'adapter_ids choose from a bank; stack the adapters with stack_adapters.'
    )
  return _per_row('adapter_ids', adapter_ids, rows, -1, bank - 1)


def check_ids(model: Model, ids) -> np.ndarray:
  """Token ids as int32; raises ValueError where they cannot be looked up."""
  try:
    ids = np.asarray(ids)
  except ValueError:
    raise ValueError(
      'The rows of ids have different lengths; pad them at their ends, and '
      'give `lengths` where the function takes them.'
    ) from None
  if ids.size == 0:
    raise ValueError('There are no token ids: the text is empty.')
  if ids.ndim not in (1, 2) or not np.issubdtype(ids.dtype, np.integer):
    raise ValueError(
      f'ids are {ids.dtype}{list(ids.shape)}; give integers [T] or [B, T].'
    )
  model.config.check_ids(ids, 'The input')
  return ids.astype(np.int32)


def _per_row(name: str, values, rows: int, least: int, most: int):
  """int32 [B]; None stands for the most in every row."""
  values = np.asarray(np.full(rows, most) if values is None else values)
  if (
    values.shape != (rows,)
    or not np.issubdtype(values.dtype, np.integer)
    or values.min() < least
    or values.max() > most
  ):
    raise ValueError(
      f'{name} are {values.tolist()}; for these rows they must be {rows} '
      f'integers from {least} to {most}.'
    )
  return jnp.asarray(values, jnp.int32)


def _check_earlier(model: Model, earlier, rows: int) -> None:
  width, count = model.config.hidden_size, model.config.summary_length
  shape = np.shape(earlier)
  if len(shape) != 3 or shape[::2] != (rows, width) or shape[1] % count:
    raise ValueError(
      f'earlier is {list(shape)}; for {rows} rows of this model it must be '
      f'[{rows}, n, {width}], with n a multiple of {count}.'
    )
  _check_finite('earlier', earlier)


def _check_finite(name: str, vectors) -> None:
  """Raises ValueError where vectors hold NaN; not while JAX traces them."""
  if isinstance(vectors, jax.core.Tracer):
    return
  # Also where they are constants of what is traced.
  with jax.ensure_compile_time_eval():
    if jnp.isfinite(vectors).all():
      return
  raise ValueError(
    f'{name} holds numbers that are not finite in {vectors.dtype}; compress '
    'the documents again.'
  )


def _rows(model, ids, context):
  ids = check_ids(model, ids)
  single = ids.ndim == 1
  ids = ids[None] if single else ids
  dtype = model.params['norm']['scale'].dtype
  width = model.config.hidden_size
  if context is None:
    context = jnp.zeros((ids.shape[0], 0, width), dtype)
  context = jnp.asarray(context, dtype)
  context = context[None] if single and context.ndim == 2 else context
  if context.ndim != 3 or context.shape[::2] != (ids.shape[0], width):
    raise ValueError(
      f'The context is {list(context.shape)}; for {ids.shape[0]} rows of this '
      f'model it must be [{ids.shape[0]}, n, {width}].'
    )
  _check_finite('The context', context)
  return ids, context, single


__all__ = [
  'compress',
  'forward',
  'generate',
  'load_adapter',
  'loss',
  'save_adapter',
]
