"""A host of a pod is recognised by what surrounds it, and joins the others."""

import http.server
import threading

import jax
import pytest

from rest_jax.config import configuration
from rest_jax.distributed import coordination, failures, multihost, pods

GKE = {'TPU_WORKER_HOSTNAMES': 'a-0.svc,a-1.svc,a-2.svc', 'TPU_WORKER_ID': '1'}
SLICES = {
  'TPU_WORKER_HOSTNAMES': 'a-0.svc',
  'MEGASCALE_NUM_SLICES': '2',
  'MEGASCALE_SLICE_ID': '1',
  'MEGASCALE_COORDINATOR_ADDRESS': 'a-0.svc',
}


def nothing(attribute):
  return None


@pytest.mark.parametrize(
  ('environment', 'hosts', 'slices'),
  [
    (GKE, ('a-0.svc', 'a-1.svc', 'a-2.svc'), 1),
    ({'TPU_PROCESS_ADDRESSES': 'a:1,b:1'}, ('a:1', 'b:1'), 1),
    (SLICES, ('a-0.svc',), 2),
    ({'MEGASCALE_COORDINATOR_ADDRESS': 'a'}, (), 1),
    (GKE | {'JAX_PLATFORMS': 'tpu,cpu'}, ('a-0.svc', 'a-1.svc', 'a-2.svc'), 1),
  ],
)
def test_a_pod_is_recognised(environment, hosts, slices):
  pod = pods.find(environment, nothing)
  assert (pod.hosts, pod.slices) == (hosts, slices)
  assert (
    pod.source.partition('=')[0] in environment or 'MEGASCALE' in pod.source
  )


@pytest.mark.parametrize(
  'environment',
  [
    {},
    {'TPU_WORKER_HOSTNAMES': 'localhost', 'TPU_WORKER_ID': '0'},
    {'TPU_WORKER_HOSTNAMES': ''},
    {'TPU_WORKER_HOSTNAMES': 'a', 'MEGASCALE_NUM_SLICES': '1'},
    GKE | {'JAX_PLATFORMS': 'cpu'},
  ],
)
def test_a_host_that_works_alone_is_no_pod(environment):
  assert pods.find(environment, nothing) is None


def test_a_wrong_number_of_slices_is_refused():
  with pytest.raises(configuration.ConfigurationError, match='MEGASCALE_NUM_'):
    pods.find({'MEGASCALE_NUM_SLICES': 'two'}, nothing)


@pytest.mark.parametrize(
  ('endpoints', 'tpu_env', 'hosts', 'slices'),
  [
    ('unknown:a:10.0.0.1,unknown:b:10.0.0.2', '', ('10.0.0.1', '10.0.0.2'), 1),
    ('a,b', '', ('a', 'b'), 1),
    ('a', "TYPE: 'x'\nMEGASCALE_NUM_SLICES: '4'", ('a',), 4),
  ],
)
def test_a_cloud_tpu_vm_asks_the_metadata_server(
  endpoints, tpu_env, hosts, slices, monkeypatch
):
  told = {'worker-network-endpoints': endpoints, 'tpu-env': tpu_env}

  class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      name = self.path.rpartition('/')[2]
      found = self.headers['Metadata-Flavor'] == 'Google' and told[name]
      self.send_response(200 if found else 404)
      self.end_headers()
      self.wfile.write((found or '').encode())

    def log_message(self, *_):
      pass

  with http.server.HTTPServer(('127.0.0.1', 0), Server) as server:
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    address = f'127.0.0.1:{server.server_port}'
    monkeypatch.setenv('GCE_METADATA_IP', address)
    monkeypatch.setattr(pods, '_has_tpu', lambda: True)
    pod = pods.find({})
    server.shutdown()
  assert (pod.hosts, pod.slices) == (hosts, slices)


def test_a_machine_without_a_metadata_server_works_alone(monkeypatch):
  monkeypatch.setenv('GCE_METADATA_IP', '127.0.0.1:1')
  monkeypatch.setattr(pods, '_has_tpu', lambda: True)
  assert pods.find({}) is None
  assert pods.find({'TPU_SKIP_MDS_QUERY': '1'}) is None


@pytest.fixture
def joined(monkeypatch):
  """The arguments of jax.distributed.initialize, which is not really called."""
  calls = []
  monkeypatch.setattr(
    jax.distributed, 'initialize', lambda *a, **k: calls.append(a)
  )
  for name in (*GKE, *SLICES, 'JAX_PLATFORMS', 'REST_JAX_DISTRIBUTED'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(pods, '_has_tpu', lambda: False)
  monkeypatch.setattr(coordination, 'size', lambda: (0, 1))
  return calls


@pytest.mark.parametrize('environment', [GKE, SLICES])
def test_a_host_of_a_pod_joins_without_being_told(
  joined, monkeypatch, environment
):
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  multihost.initialize()
  assert joined == [()]
  monkeypatch.setenv('REST_JAX_DISTRIBUTED', '0')
  multihost.initialize()
  assert joined == [()]


def test_a_host_that_works_alone_joins_nobody_unless_told(joined, monkeypatch):
  multihost.initialize()
  assert joined == []
  monkeypatch.setenv('REST_JAX_DISTRIBUTED', '1')
  multihost.initialize()
  assert joined == [()]
  monkeypatch.setenv('REST_JAX_DISTRIBUTED', 'yes')
  with pytest.raises(configuration.ConfigurationError, match='allowed: 1'):
    multihost.initialize()


@pytest.mark.parametrize(
  ('raised', 'error'),
  [
    # jax's own words where it finds no TPU, and where a host has no address.
    (
      ValueError('coordinator_address should be defined.'),
      configuration.ConfigurationError,
    ),
    (RuntimeError('Failed to recognize coordinator'), failures.PeerError),
  ],
)
def test_a_pod_that_cannot_be_joined_says_so_in_one_line(
  joined, monkeypatch, raised, error
):
  def fail(**_):
    raise raised

  monkeypatch.setattr(jax.distributed, 'initialize', fail)
  monkeypatch.setenv('TPU_WORKER_HOSTNAMES', GKE['TPU_WORKER_HOSTNAMES'])
  with pytest.raises(error, match='TPU_WORKER_HOSTNAMES=a-0') as caught:
    multihost.initialize()
  assert 'every host' in str(caught.value) and '\n' not in str(caught.value)
