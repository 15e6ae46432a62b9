"""Packaging of rest_jax: what it needs, and how the gin files travel.

Every bound was chosen so: the lower one is the oldest release whose interface
the code uses and that supports Python 3.11; the upper one is the next release
that may break it. third_party/constraints-*.txt hold the exact sets that are
tested.
"""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(
  r"^__version__ = '([^']+)'",
  (HERE / 'rest_jax' / '__init__.py').read_text(),
  re.MULTILINE,
)[1]
README = HERE / 'README.md'

CORE = [
  # arrays and training
  # jax 0.11 and newer need Python 3.12; on 3.11 pip takes 0.10
  'jax>=0.10.0,<0.13',
  'flax>=0.12.0,<0.13',
  'optax>=0.2.5,<0.3',
  'orbax-checkpoint>=0.11.30,<0.13',
  'numpy>=2.0,<3',
  # tasks; only the prepare stage imports them
  'seqio>=0.0.20,<0.1',
  'tensorflow>=2.20,<2.22',
  'tensorflow-text>=2.20,<2.22',
  'tensorflow-datasets>=4.9.9,<4.10',
  'sentencepiece>=0.2.0,<0.3',
  'protobuf>=6.31.1,<8',
  # configuration, records, storage
  'gin-config>=0.5.0,<0.6',
  'pyarrow>=18.0,<27',
  'etils[epath]>=1.12.0,<2',
  'fsspec>=2024.6.0',
  'gcsfs>=2024.6.0',
  'google-cloud-storage>=2.18,<4',  # leases by generations of an object
  'jinja2>=3.1.6,<4',  # the report's page, and chat templates
  'markupsafe>=2.1,<4',
  'rich>=13.9,<16',  # progress in the terminal
  'tensorboard>=2.20,<2.22',
  # writes the scalars; tensorboard's own writer would import TensorFlow
  'tensorboardX>=2.6.2,<3',
]

EXTRAS = {
  'tpu': ['jax[tpu]>=0.10.0,<0.13'],
  'gpu': ['jax[cuda13]>=0.10.0,<0.13'],
  # models and tokenizers of other people
  'hf': [
    'gguf>=0.17,<0.20',
    'safetensors>=0.4,<0.9',
    'tokenizers>=0.21,<0.24',
    'transformers>=4.56,<6',
  ],
  # What our networks are compared with, for the tests only. On Linux the index
  # may give a build of torch for GPUs; docs/models.md says how to get the one
  # for CPUs.
  'parity': ['torch>=2.6,<3', 'transformers>=4.56,<6', 'peft>=0.15,<0.22'],
  # Launching through XManager, in an environment of its own: it refuses
  # protobuf 7, and sentencepiece 0.2.3 carries code for protobuf >= 7.36, so
  # that together they would install and then fail at `import seqio`.
  'xm': [
    'xmanager>=0.8.0,<0.9',
    'protobuf>=6.31,<7',
    'sentencepiece>=0.2,<0.2.3',
  ],
  # jobs on Google Kubernetes Engine: --executor=gke
  'gke': ['kubernetes>=31,<38'],
  # losses and rewards on Weights & Biases: --gin.TRACKERS=[wandb]
  'wandb': ['wandb>=0.19.10,<0.32'],
  # a second opinion on math answers, for the tests and the benchmark only
  'oracle': ['math-verify[antlr4_13_2]>=0.9,<0.10'],
  'dev': [
    'scipy>=1.13,<2',
    'kubernetes>=31,<38',
    'kubernetes-validate>=1.31,<2',
    'jsonschema>=4.20,<5',
    'pytest>=8.0,<10',
    'pytest-xdist>=3.6,<4',
    'ruff>=0.9,<0.18',
    'setuptools>=77',
    'wheel',
  ],
}

setup(
  name='rest_jax',
  version=VERSION,
  description='ReST^EM self-training of language models, in JAX on TPUs',
  long_description=README.read_text() if README.exists() else '',
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  python_requires='>=3.11,<3.14',
  # Restricted: an open search would take gin/ for a package over gin-config.
  packages=[
    *find_packages(include=['rest_jax', 'rest_jax.*']),
    'rest_jax.gin_files',
  ],
  package_dir={'rest_jax.gin_files': 'gin'},
  package_data={
    'rest_jax.gin_files': ['*.gin', '*/*.gin'],
    'rest_jax.reporting': ['templates/*'],
  },
  entry_points={'console_scripts': ['rest-jax = rest_jax.main:main']},
  install_requires=CORE,
  extras_require=EXTRAS,
)
