"""The systems that an evaluation compares, and the names they go by."""

from collections.abc import Mapping, Sequence
import dataclasses

from lloco_jax.data.contexts import ContextKind
from lloco_jax.data.prompts import BasePrompt, Prompt
from lloco_jax.nn.lora import Adapter
from lloco_jax.retrieval.passages import Retrieval
from lloco_jax.retrieval.search import SEARCHES

MAIN_SYSTEM = 'LLoCO'
CONTROLS = (
  'finetuned without context',
  'finetuned on equal-budget truncation',
  "LLoCO with another document's summaries",
)
UNTUNED = 'compressed without finetuning'
# What a report compares the main system with, pair by pair.
COMPARED = (UNTUNED, *CONTROLS)
# What each adapter of the standard systems is finetuned on.
FINETUNED_ON = {
  'lloco': ContextKind.SUMMARIES,
  'no_context': ContextKind.NONE,
  'truncated': ContextKind.BUDGET,
  'full': ContextKind.WINDOW,
}
# Kinds of context that the reference has a baseline of, on the base.
_REFERENCED = (ContextKind.NONE, ContextKind.WINDOW, ContextKind.FULL)
# How a report calls the searches of retrieval/search.py.
_SEARCH_NAMES = {
  'bm25': 'BM25',
  'embedding': 'embedding',
  'hybrid': 'hybrid',
}


@dataclasses.dataclass(frozen=True)
class System:
  """What is read before a question, and the adapter that answers.

  `on_base` says that it answers with the base as it was, without what made a
  compressor of it; `base_prompt`, if any, is how it is asked, in place of the
  run's prompt. `retrieval` finds what a system that reads passages reads.
  """

  name: str
  description: str
  kind: ContextKind
  adapter: Adapter | None = None
  on_base: bool = False
  retrieval: Retrieval | None = None
  base_prompt: BasePrompt | None = None

  def __post_init__(self):
    reads_passages = self.kind == ContextKind.PASSAGES
    if reads_passages != (self.retrieval is not None):
      raise ValueError(
        f"System '{self.name}' reads {self.kind.value}; a retrieval belongs to "
        'a system that reads passages, and to no other.'
      )

  def prompt(self, usual: Prompt) -> Prompt:
    """How it is asked in a run whose prompt is `usual`."""
    if self.base_prompt is None:
      return usual
    if self.kind == ContextKind.NONE:
      return self.base_prompt.alone
    return self.base_prompt.behind_text

  @property
  def around(self) -> tuple[str, str]:
    """What stands before and behind its text."""
    found = self.base_prompt
    return (found.before, found.after) if found else ('', '')


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
    UNTUNED,
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
    'finetuned on uncompressed context',
    'full',
    ContextKind.WINDOW,
    'The compressor, finetuned on the text, given as much of its beginning as '
    'fits the window.',
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
    "The adapter of LLoCO, given another document's summaries, where they fit "
    'the window.',
  ),
)


def standard_systems(
  adapters: Mapping[str, Adapter],
  retrievals: Mapping[str, Retrieval] | None = None,
  base_prompt: BasePrompt | None = None,
) -> list[System]:
  """The systems of the paper and the controls, in the order of the report.

  Args:
    adapters: by the keys of FINETUNED_ON; a system whose adapter is not
      given is left out.
    retrievals: by the names of SEARCHES; a system each.
    base_prompt: how the untouched base is asked without context, with as much
      as fits its window, and with all of it.

  Raises:
    ValueError: an adapter or a retrieval has another key.
  """
  for given, known in ((adapters, FINETUNED_ON), (retrievals, SEARCHES)):
    unknown = sorted(set(given or ()) - set(known))
    if unknown:
      raise ValueError(
        f'There is no standard system for {unknown[0]!r}; the keys are '
        f'{", ".join(known)}.'
      )
  systems = [
    System(
      name,
      description,
      kind,
      adapters.get(key),
      key is None and kind != ContextKind.SUMMARIES,
      base_prompt=base_prompt if key is None and kind in _REFERENCED else None,
    )
    for name, key, kind, description in _STANDARD
    if key is None or key in adapters
  ]
  # After the other systems on the untouched base.
  place = sum(system.on_base for system in systems)
  systems[place:place] = [
    _retrieval_system(name, retrieval)
    for name, retrieval in (retrievals or {}).items()
  ]
  return systems


def systems_of(adapters: Sequence[str]) -> list[str]:
  """Names of the standard systems that answer with these adapters."""
  return [name for name, key, _, _ in _STANDARD if key in adapters]


def _retrieval_system(name: str, retrieval: Retrieval) -> System:
  count, size = retrieval.passages, retrieval.passage_tokens
  return System(
    f'retrieval ({_SEARCH_NAMES[name]})',
    f'The base, given the {count} passages of {size} tokens of its text that '
    'are found for the question, best first, as far as they fit the window. '
    'The seconds are without the search.',
    ContextKind.PASSAGES,
    on_base=True,
    retrieval=retrieval,
  )
