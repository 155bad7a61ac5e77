"""The systems that an evaluation compares, and the names they go by."""

from collections.abc import Mapping
import dataclasses

from lloco_jax.data.contexts import ContextKind
from lloco_jax.nn.lora import Adapter

MAIN_SYSTEM = 'LLoCO'
CONTROLS = (
  'finetuned without context',
  'finetuned on equal-budget truncation',
  "LLoCO with another document's summaries",
)
# What each adapter of the standard systems is finetuned on.
FINETUNED_ON = {
  'lloco': ContextKind.SUMMARIES,
  'no_context': ContextKind.NONE,
  'truncated': ContextKind.BUDGET,
}


@dataclasses.dataclass(frozen=True)
class System:
  """What is read before a question, and the adapter that answers.

  `on_base` says that it answers with the base as it was, without what made a
  compressor of it.
  """

  name: str
  description: str
  kind: ContextKind
  adapter: Adapter | None = None
  on_base: bool = False


# Name, key of the adapter, kind of context, description.
_STANDARD = (
  (
    'no context',
    None,
    ContextKind.NONE,
    'The base, given the question alone.',
  ),
  (
    'context truncated to the window',
    None,
    ContextKind.WINDOW,
    'The base, given as much of the beginning of the text as fits its window.',
  ),
  (
    "truncated to the summaries' token count",
    None,
    ContextKind.BUDGET,
    'The base, given as many tokens from the beginning of the text as the '
    'summaries take.',
  ),
  (
    'full context',
    None,
    ContextKind.FULL,
    'The base, given the whole text, where it fits the window.',
  ),
  (
    'compressed without finetuning',
    None,
    ContextKind.SUMMARIES,
    'The compressor, given the summaries.',
  ),
  (
    MAIN_SYSTEM,
    'lloco',
    ContextKind.SUMMARIES,
    'The compressor, finetuned on summaries, given the summaries.',
  ),
  (
    CONTROLS[0],
    'no_context',
    ContextKind.NONE,
    'The compressor, finetuned on questions alone, given the question alone.',
  ),
  (
    CONTROLS[1],
    'truncated',
    ContextKind.BUDGET,
    'The compressor, finetuned on as many tokens of text as the summaries '
    'take, given as many.',
  ),
  (
    CONTROLS[2],
    'lloco',
    ContextKind.OTHER_SUMMARIES,
    "The adapter of LLoCO, given another document's summaries.",
  ),
)


def standard_systems(adapters: Mapping[str, Adapter]) -> list[System]:
  """The systems of the paper and the controls, in the order of the report.

  Args:
    adapters: by the keys of FINETUNED_ON; a system whose adapter is not
      given is left out.

  Raises:
    ValueError: an adapter has another key.
  """
  unknown = sorted(set(adapters) - set(FINETUNED_ON))
  if unknown:
    raise ValueError(
      f'There is no standard system for adapter {unknown[0]!r}; the keys are '
      f'{", ".join(FINETUNED_ON)}.'
    )
  return [
    System(
      name,
      description,
      kind,
      adapters.get(key),
      key is None and kind != ContextKind.SUMMARIES,
    )
    for name, key, kind, description in _STANDARD
    if key is None or key in adapters
  ]
