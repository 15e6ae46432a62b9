"""What the interpreter itself needs: its files, and names that programs use.

Programs written for online judges lean on names that a judge imports for
them; the prelude has these. None of them replaces a built-in: math.pow, for
one, is left out, since pow(a, b, m) would break.
"""

import builtins
import importlib
import os
import sys

from rest_jax.rewards.code.sandbox import landlock

_SYSTEM = ('/lib', '/lib64', '/usr/lib', '/usr/lib64', '/usr/local/lib')
_FILES = ('/etc/ld.so.cache', '/etc/localtime', '/usr/share/zoneinfo')
_DEVICES = ('/dev/null', '/dev/zero', '/dev/urandom', '/dev/random')

_MODULES = (
  'sys os re math time cmath copy string random bisect heapq operator '
  'itertools functools collections fractions decimal datetime typing '
  'statistics io array'
).split()
_NAMES = {
  'math': (
    'acos asin atan atan2 ceil comb cos degrees exp fabs factorial floor gcd '
    'hypot inf isqrt lcm log log10 log2 nan perm pi prod radians sin sqrt tan'
  ),
  'collections': 'ChainMap Counter OrderedDict defaultdict deque namedtuple',
  'itertools': (
    'accumulate chain combinations combinations_with_replacement count cycle '
    'groupby islice permutations product repeat starmap zip_longest'
  ),
  'functools': 'cache cmp_to_key lru_cache partial reduce',
  'heapq': (
    'heapify heappop heappush heappushpop heapreplace merge nlargest nsmallest'
  ),
  'bisect': 'bisect_left bisect_right insort insort_left insort_right',
  'typing': (
    'Any Callable Deque Dict FrozenSet Generator Iterable Iterator List '
    'Optional Sequence Set Tuple Union'
  ),
  'random': 'randint randrange shuffle',
  'string': 'ascii_letters ascii_lowercase ascii_uppercase digits',
  'operator': 'itemgetter attrgetter mul',
  'copy': 'deepcopy',
  'fractions': 'Fraction',
  'decimal': 'Decimal',
  'datetime': 'timedelta',
  'io': 'StringIO BytesIO',
}
# Imported once, so that no program pays for them; not named in the prelude.
_PRELOADED = ['threading', 'queue', 'struct', 'json', 'traceback', 'textwrap']


def paths(packages: list[str]) -> dict[str, int]:
  """The files that a program may open, with the access it has.

  Args:
    packages: folders of further packages, numpy's for one.
  """
  library = os.path.dirname(os.path.abspath(os.__file__))
  result = dict.fromkeys(_SYSTEM, landlock.READ)
  for folder in (library, *packages):
    result[folder] = landlock.READ
  # A shared libpython, and libraries that a distribution keeps beside it.
  above = os.path.dirname(library)
  if above not in result:
    for name in sorted(os.listdir(above)):
      if '.so' in name:
        result[os.path.join(above, name)] = landlock.READ_FILE
  # A virtual environment's interpreter points at another one's library.
  real = os.path.realpath(library)
  result[real] = landlock.READ
  for name in _FILES:
    folder = os.path.isdir(name)
    result[name] = landlock.READ if folder else landlock.READ_FILE
  for name in _DEVICES:
    result[name] = landlock.READ_WRITE
  return result


def prelude() -> dict[str, object]:
  """Imports what programs lean on; name to object."""
  result = {name: importlib.import_module(name) for name in _MODULES}
  for module, names in _NAMES.items():
    for name in names.split():
      result[name] = getattr(result[module], name)
  for name in _PRELOADED:
    importlib.import_module(name)
  # The interpreter's own, which it makes only with the site module.
  quitter = importlib.import_module('_sitebuiltins').Quitter
  builtins.exit, builtins.quit = quitter('exit', 'D'), quitter('quit', 'D')
  return result


def import_numpy(folder: str) -> object:
  """Imports numpy from a folder of packages that is not on the path else."""
  sys.path.append(folder)
  try:
    return importlib.import_module('numpy')
  finally:
    sys.path.remove(folder)
