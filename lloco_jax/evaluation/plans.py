"""What an evaluation asks: which questions behind which context.

Questions that are asked behind the same context stand together, so that it is
read once for all of them. Where a system reads documents as they are, these
are the questions about the same documents; where it reads passages, those that
the same passages were found for.
"""

import collections
from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from lloco_jax.data.contexts import Context, ContextKind, Contexts, Span
from lloco_jax.data.documents import Document, DocumentFile
from lloco_jax.data.examples import Example
from lloco_jax.data.prompts import Prompt, encode_question
from lloco_jax.evaluation.systems import System
from lloco_jax.generation.answering import check_room
from lloco_jax.model import Model
from lloco_jax.retrieval.passages import Finder


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
  """Examples about the same documents, and their prompts.

  `spans` are the passages that were found for all of them, if any are read.
  """

  document_ids: tuple[str, ...]
  examples: list[Example]
  prompts: list[list[int]]
  spans: tuple[Span, ...] = ()

  @property
  def name(self) -> str:
    """How answers and errors call its documents."""
    return ' + '.join(self.document_ids)

  @property
  def longest(self) -> int:
    """Tokens of its longest prompt."""
    return max(len(prompt) for prompt in self.prompts)

  def positions(self, context: Context) -> int:
    """What a system runs for it, to tell the time left by."""
    return len(context) + sum(len(prompt) for prompt in self.prompts)


# Of a system: each group, and its context if there is room for it.
Plan = list[tuple[Group, Context | None]]


def group_examples(
  model: Model, examples: Sequence[Example], prompt: Prompt, max_new_tokens: int
) -> list[Group]:
  """The examples by their documents, in the order of the sorted documents.

  Raises:
    ValueError: a question exceeds the window.
  """
  window = model.window
  found = collections.defaultdict(list)
  for example in examples:
    found[example.document_ids].append(example)
  groups = []
  for document_ids in sorted(found):
    prompts = [
      encode_question(model.tokenizer, prompt, example.question)
      for example in found[document_ids]
    ]
    for example, ids in zip(found[document_ids], prompts):
      if len(ids) + max_new_tokens > window:
        raise ValueError(
          f"The question of example '{example.id}' takes {len(ids)} tokens; "
          f'with {max_new_tokens} new tokens that is more than the '
          f"model's {window} positions. Shorten it."
        )
    groups.append(Group(document_ids, found[document_ids], prompts))
  return groups


def check_groups(
  groups: Sequence[Group],
  vectors: Mapping[str, int],
  window: int,
  max_new_tokens: int,
) -> None:
  """Raises ValueError where summaries and a question exceed the window.

  `vectors` counts the summary vectors of each document.
  """
  for group in groups:
    context = sum(vectors[name] for name in group.document_ids)
    name = f"document '{group.name}'"
    check_room(window, context, group.longest, max_new_tokens, name)


def make_plans(
  models: Sequence[Model],
  groups: Sequence[Sequence[Group]],
  documents: Mapping[str, Document],
  summaries: Mapping[str, np.ndarray],
  systems: Sequence[System],
  max_new_tokens: int,
) -> list[Plan]:
  """A plan for every system, of the groups that are its own.

  All questions about the same documents leave room for the longest of them,
  so that they read the same whichever of them are asked together.

  Raises:
    ValueError: a document is unknown, lacks summaries or, with its longest
      question, exceeds the window.
    ImportError: a package that a search needs is not installed.
  """
  read = sorted(
    {key for some in groups for group in some for key in group.document_ids}
  )
  # Where questions are about all of them, the others are those that no question
  # is about.
  most = max(len(set(group.document_ids)) for some in groups for group in some)
  among = read if most < len(read) else sorted(summaries)
  texts = DocumentFile(documents[key] for key in among)
  contexts_of = {
    id(model): Contexts(
      texts,
      model.tokenizer,
      summaries,
      model.config.max_position_embeddings,
    )
    for model in {id(model): model for model in models}.values()
  }
  plans = []
  for system, model, mine in zip(systems, models, groups):
    contexts, finder = contexts_of[id(model)], None
    if system.retrieval is not None:
      finder = Finder(system.retrieval, contexts, model.tokenizer)
    plan = []
    for whole in mine:
      reserve = whole.longest + max_new_tokens
      for group in _by_spans(whole, finder):
        others = system.kind is ContextKind.OTHER_SUMMARIES
        if others and set(among) <= set(group.document_ids):
          # There are none.
          plan.append((group, None))
          continue
        context = contexts.of(
          system.kind, group.document_ids, reserve, group.spans, system.around
        )
        long = context is not None and len(context) > model.window - reserve
        if long and (others or system.on_base):
          # Others may be longer than the own, which fit, and the window of
          # another base may be shorter.
          context = None
        if context is not None:
          check_room(
            model.window,
            len(context),
            group.longest,
            max_new_tokens,
            f"document '{group.name}'",
          )
        plan.append((group, context))
    plans.append(plan)
  return plans


def _by_spans(group: Group, finder: Finder | None) -> list[Group]:
  """The group, divided by the passages that are found for its questions."""
  if finder is None:
    return [group]
  found = collections.defaultdict(lambda: ([], []))
  for example, prompt in zip(group.examples, group.prompts):
    examples, prompts = found[finder.find(group.document_ids, example.question)]
    examples.append(example)
    prompts.append(prompt)
  return [
    Group(group.document_ids, examples, prompts, spans)
    for spans, (examples, prompts) in found.items()
  ]
