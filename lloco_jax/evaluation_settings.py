"""The settings of an evaluation, checked before any long work."""

import dataclasses

from ml_collections import ConfigDict

from lloco_jax.data.prompts import BASE_PROMPTS, BasePrompt
from lloco_jax.evaluation import scoring, systems
from lloco_jax.generation.sampling import Sampling
from lloco_jax.retrieval.passages import Retrieval
from lloco_jax.retrieval.search import SEARCHES


@dataclasses.dataclass(frozen=True)
class Settings:
  """How answers are decoded, and what the systems on the base are given.

  `retrievals` are the searches of passages by their names; `base_prompt` is
  None where the base is asked as finetuning asks.
  """

  sampling: Sampling
  retrievals: dict[str, Retrieval]
  base_prompt: BasePrompt | None = None


def evaluation_settings(config: ConfigDict) -> Settings:
  """Checks config.evaluation, see configs/common.py, and reads it.

  Raises:
    ValueError: a value is none that can be used.
    ImportError: a package that a search needs is not installed.
  """
  if config.metric not in scoring.METRICS:
    raise ValueError(
      f"config.evaluation.metric is '{config.metric}'; it must be one of "
      f'{", ".join(scoring.METRICS)}.'
    )
  for name in (
    'max_new_tokens',
    'questions_per_row',
    'rows',
    'bootstrap_samples',
  ):
    if config[name] < 1:
      raise ValueError(
        f'config.evaluation.{name} is {config[name]}; it must be >= 1.'
      )
  for name, chosen, known in (
    ('adapters', config.adapters, systems.FINETUNED_ON),
    ('retrieval', config.retrieval, SEARCHES),
  ):
    unknown = sorted(set(chosen) - set(known))
    if unknown:
      raise ValueError(
        f"config.evaluation.{name} names '{unknown[0]}'; choose from "
        f'{", ".join(known)}.'
      )
  if config.base_prompt and config.base_prompt not in BASE_PROMPTS:
    raise ValueError(
      f"config.evaluation.base_prompt is '{config.base_prompt}'; it must be '' "
      f'or one of {", ".join(BASE_PROMPTS)}.'
    )
  try:
    sampling = Sampling(config.temperature, config.top_p, config.seed)
    retrievals = {
      name: Retrieval(SEARCHES[name], config.passage_tokens, config.passages)
      for name in config.retrieval
    }
  except ValueError as error:
    raise ValueError(f'config.evaluation: {error}') from None
  for retrieval in retrievals.values():
    # A package that it lacks is told here.
    retrieval.search(['a text'])
  return Settings(sampling, retrievals, BASE_PROMPTS.get(config.base_prompt))
