"""The settings of an evaluation, checked before any long work."""

import dataclasses

from ml_collections import ConfigDict

from lloco_jax.evaluation import scoring, systems
from lloco_jax.generation.sampling import Sampling
from lloco_jax.retrieval.passages import Retrieval
from lloco_jax.retrieval.search import SEARCHES


@dataclasses.dataclass(frozen=True)
class Settings:
  """How answers are decoded, and the searches of passages by their names."""

  sampling: Sampling
  retrievals: dict[str, Retrieval]


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
  for name in ('max_new_tokens', 'bootstrap_samples'):
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
  return Settings(sampling, retrievals)
