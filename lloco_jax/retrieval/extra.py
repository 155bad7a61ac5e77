"""The packages that retrieval needs and nothing else does."""

import importlib.util


def need(package: str) -> None:
  """Raises ImportError where a package of the extra is not installed."""
  if importlib.util.find_spec(package) is None:
    raise ImportError(
      f"Retrieval needs the package {package}, of the extra 'retrieval'; "
      "install it with: pip install -e '.[retrieval]'"
    )
