"""Packages that only some of the program needs."""

import importlib.util


def need(package: str, extra: str = 'retrieval', name: str = '') -> None:
  """Raises ImportError where a package of an extra is not installed.

  `name` is what it is imported as, where that is not its own name.
  """
  if importlib.util.find_spec(name or package) is None:
    raise ImportError(
      f'{extra.capitalize()} needs the package {package}, of the extra '
      f"'{extra}'; install it with: pip install -e '.[{extra}]'"
    )
