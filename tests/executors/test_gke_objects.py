"""The objects that a cluster is given: valid, and as GKE wants them."""

import itertools
import json
import pathlib

import pytest

from rest_jax.executors import topologies
from rest_jax.executors.gke import objects
from rest_jax.executors.gke.settings import GkeConfig
from rest_jax.executors.jobs import Job
from rest_jax.executors.orders import Order
from rest_jax.executors.retry_policy import RetryPolicy

SCHEMA = (
  pathlib.Path(__file__).parents[3]
  / 'shared/data/k8s/jobset.x-k8s.io_jobsets.yaml'
)
NAMES = [
  f'{generation.name}:{shape}'
  for generation in topologies.GENERATIONS.values()
  for shape in generation.shapes
]
CONFIGS = [
  GkeConfig(image='a/b:c'),
  GkeConfig(
    image='a/b:c',
    service_account='me',
    queue='queue',
    priority='high',
    spot=True,
    node_selector={'pool': 'mine'},
    fuse_bucket='bucket',
    host_paths=('/mnt/nfs', '/data'),
    host_network=False,
  ),
  GkeConfig(image='a/b:c', reservation='mine', grace_seconds=20),
]


def order(name='iteration_01/sample', topology=None, **fields):
  job = Job(
    name=name,
    stage='sample',
    accelerator='tpu' if topology else 'cpu',
    topology=topology,
    retry=RetryPolicy(preemptions=7),
    **fields,
  )
  return Order(
    job=job,
    worker=0,
    attempt=0,
    arguments=('--run_mode=sample', "--gin.X=['a b']"),
    environment={'REST_JAX_RUN_TOKEN': 'token'},
    defaults={'JAX_PLATFORMS': 'cpu'},
  )


def made(config=CONFIGS[0], run_dir='gs://bucket/run', **fields):
  return objects.of_order(order(**fields), run_dir, ('python3',), config)


@pytest.mark.parametrize('name', NAMES)
def test_a_slice_gets_its_hosts_chips_and_labels(name):
  topology = topologies.parse(name, 'x')
  body = made(topology=name, slices=3)
  spec = body['spec']['replicatedJobs'][0]
  assert spec['replicas'] == 3
  job = spec['template']['spec']
  hosts = job['completions']
  assert hosts == job['parallelism']
  pod = job['template']['spec']
  chips = int(pod['containers'][0]['resources']['limits']['google.com/tpu'])
  assert hosts * chips == topology.chips and chips in (1, 4, 8)
  assert (
    pod['nodeSelector']['cloud.google.com/gke-tpu-topology']
    == (name.split(':')[1])
  )
  label = pod['nodeSelector']['cloud.google.com/gke-tpu-accelerator']
  assert (
    label
    == {
      'v4': 'tpu-v4-podslice',
      'v5e': 'tpu-v5-lite-podslice',
      'v5p': 'tpu-v5p-slice',
      'v6e': 'tpu-v6e-slice',
    }[name.split(':')[0]]
  )


def test_names_are_short_and_differ_between_jobs_workers_and_attempts():
  """Hosts are called NAME-slice-0-0.NAME: of 63 characters at most."""
  names = set()
  for name in ('a', 'iteration_01/sample', 'x' * 100, 'A_b/É!', 'base/train'):
    for run_dir in ('gs://b/one', 'gs://b/two'):
      names.add(made(name=name, run_dir=run_dir)['metadata']['name'])
  assert len(names) == 10
  for name in names:
    assert len(name) <= 40 and name.strip('-') == name
    assert set(name) <= set('abcdefghijklmnopqrstuvwxyz0123456789-')


def test_a_digest_follows_what_is_run_and_not_the_attempt():
  def digest(body):
    return body['metadata']['annotations'][objects.DIGEST]

  assert digest(made()) == digest(made())
  assert digest(made()) != digest(made(CONFIGS[1]))


def test_exit_codes_that_are_started_again_match_no_rule():
  for body in (made(), made(topology='v5e:4x4')):
    spec = body['spec']
    if 'replicatedJobs' in spec:
      assert spec['failurePolicy']['maxRestarts'] == 7
      spec = spec['replicatedJobs'][0]['template']['spec']
      assert spec['backoffLimit'] == 0
    else:
      assert spec['backoffLimit'] == 7
    (rule,) = spec['podFailurePolicy']['rules']
    assert rule['onExitCodes']['operator'] == 'NotIn'
    values = rule['onExitCodes']['values']
    assert set(values) == {42, *range(128, 256)}
    assert len(values) <= 255 and values == sorted(values)


CASES = list(itertools.product([None, *NAMES], CONFIGS))


def test_every_object_is_valid_for_kubernetes():
  validate = pytest.importorskip('kubernetes_validate')
  for topology, config in CASES:
    body = made(config, topology=topology)
    if body['kind'] == 'Job':
      validate.validate(body, '1.30', strict=True)
      continue
    job = body['spec']['replicatedJobs'][0]['template']['spec']
    plain = {
      'apiVersion': 'batch/v1',
      'kind': 'Job',
      'metadata': {'name': 'x'},
      'spec': job,
    }
    validate.validate(plain, '1.30', strict=True)


@pytest.mark.skipif(not SCHEMA.exists(), reason='JobSet schema is not here')
def test_every_jobset_is_valid_by_the_schema_of_jobsets():
  jsonschema = pytest.importorskip('jsonschema')
  yaml = pytest.importorskip('yaml')
  loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
  crd = yaml.load(SCHEMA.read_text(), loader)
  (version,) = [v for v in crd['spec']['versions'] if v['name'] == 'v1alpha2']
  schema = version['schema']['openAPIV3Schema']
  _forbid_unknown(schema)
  check = jsonschema.Draft202012Validator(schema)
  for topology, config in CASES:
    if topology:
      body = json.loads(json.dumps(made(config, topology=topology, slices=2)))
      check.validate(body)
      body['spec']['replicatedJobs'][0]['replica'] = 1
      assert not check.is_valid(body)


def _forbid_unknown(schema):
  """As a cluster does that prunes nothing in silence."""
  if 'properties' in schema and not schema.get(
    'x-kubernetes-preserve-unknown-fields'
  ):
    if set(schema['properties']) != {'metadata'}:
      schema.setdefault('additionalProperties', False)
  for part in schema.get('properties', {}).values():
    _forbid_unknown(part)
  for name in ('items', 'additionalProperties'):
    if isinstance(schema.get(name), dict):
      _forbid_unknown(schema[name])
