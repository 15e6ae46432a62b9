"""A cluster of Kubernetes in this process, which runs pods as processes here.

An API server that the real client talks to, the controllers of JobSets and
Jobs with their failure policies, and a kubelet that gives pods the environment
that GKE gives them. Its TPUs are simulated devices of the CPU. Faults are asked
for by `kill`, `evict`, `refuse_images` and `silence`.
"""

import contextlib
import copy
import http.server
import itertools
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

TICK_SECONDS = 0.05
GRACE_SECONDS = 20  # at most: a test does not wait for five minutes
_JOBSET = 'jobset.sigs.k8s.io/'
_BATCH = 'batch.kubernetes.io/'
_TPU = 'google.com/tpu'
_PATHS = {
  'jobsets': r'/apis/jobset.x-k8s.io/v1alpha2/namespaces/([\w-]+)/jobsets',
  'jobs': r'/apis/batch/v1/namespaces/([\w-]+)/jobs',
  'pods': r'/api/v1/namespaces/([\w-]+)/pods',
}


class FakeCluster:
  """Starts with the block it is used in, and ends all pods with it.

  Attributes:
    pods, jobs, jobsets: by name, as the API gives them.
    requests: (method, path) of all that were asked for.
  """

  def __init__(self, folder: pathlib.Path, environment=None):
    self.folder, self.environment = folder, environment or {}
    self.pods, self.jobs, self.jobsets = {}, {}, {}
    self.requests = []
    self._processes: dict[str, subprocess.Popen] = {}
    self._kill_at: dict[str, float] = {}
    self._lock = threading.RLock()
    self._stop = threading.Event()
    self._silent, self._no_images = False, False
    self._uids = itertools.count()
    self._ports: dict[str, int] = {}

  def __enter__(self):
    cluster = self

    class Handler(_Handler):
      fake = cluster

    self._server = _Server(('127.0.0.1', 0), Handler)
    self._threads = [
      threading.Thread(target=self._server.serve_forever, daemon=True),
      threading.Thread(target=self._control, daemon=True),
    ]
    for thread in self._threads:
      thread.start()
    self.kubeconfig = self.folder / 'kubeconfig'
    url = f'http://127.0.0.1:{self._server.server_address[1]}'
    self.kubeconfig.write_text(
      json.dumps(
        {
          'apiVersion': 'v1',
          'kind': 'Config',
          'current-context': 'fake',
          'clusters': [{'name': 'fake', 'cluster': {'server': url}}],
          'users': [{'name': 'fake', 'user': {}}],
          'contexts': [
            {'name': 'fake', 'context': {'cluster': 'fake', 'user': 'fake'}}
          ],
        }
      )
    )
    return self

  def __exit__(self, *_):
    self._stop.set()
    self._threads[1].join()
    self._server.shutdown()
    for process in self._processes.values():
      with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
      process.wait()

  # ---- faults ---------------------------------------------------------------

  def running(self, job: str = '') -> list[str]:
    """The pods that run, of a job by its name in the plan."""
    with self._lock:
      return [
        name
        for name, pod in self.pods.items()
        if pod['status']['phase'] == 'Running'
        and job in self._command(pod)
        and name in self._processes
      ]

  def jobs_running(self) -> set[str]:
    """The jobs whose pods run, by their names in the plan."""
    with self._lock:
      return {self._command(self.pods[name]) for name in self.running()}

  def kill(self, pod: str, number: int = signal.SIGKILL) -> None:
    """As when a process crashes."""
    os.killpg(self._processes[pod].pid, number)

  def evict(self, pod: str) -> None:
    """As when its node is taken away: SIGTERM, and the end of the grace."""
    with self._lock:
      self.pods[pod]['status']['conditions'].append(
        {'type': 'DisruptionTarget', 'status': 'True'}
      )
      self._terminate(pod)

  def refuse_images(self, refuse: bool = True) -> None:
    """As when a registry has no such image; of pods that start from now on."""
    self._no_images = refuse

  def silence(self, silent: bool = True) -> None:
    """As when the API server is away."""
    self._silent = silent

  # ---- the API --------------------------------------------------------------

  def answer(self, method, path, query, body):
    """(status, JSON) of a request; the third way, a log, is the handler's."""
    for kind, pattern in _PATHS.items():
      found = re.fullmatch(f'{pattern}(?:/([\\w.-]+))?', path)
      if not found:
        continue
      store = getattr(self, kind)
      with self._lock:
        if method == 'POST':
          return self._create(store, body)
        if method == 'GET' and found[2] is None:
          wanted = dict(
            pair.split('=')
            for pair in query.get('labelSelector', [''])[0].split(',')
            if pair
          )
          items = [
            one
            for one in store.values()
            if wanted.items() <= one['metadata'].get('labels', {}).items()
          ]
          return 200, {'kind': 'List', 'metadata': {}, 'items': items}
        if found[2] not in store:
          return 404, {'kind': 'Status', 'reason': 'NotFound', 'code': 404}
        if method == 'GET':
          return 200, store[found[2]]
        if method == 'DELETE':
          grace = query.get('gracePeriodSeconds', [None])[0]
          grace = (body or {}).get('gracePeriodSeconds', grace)
          self._delete(kind, found[2], None if grace is None else int(grace))
          return 200, {'kind': 'Status', 'status': 'Success'}
    return 404, {'kind': 'Status', 'reason': 'NotFound', 'code': 404}

  def _create(self, store, body):
    name = body['metadata']['name']
    if name in store:
      return 409, {'kind': 'Status', 'reason': 'AlreadyExists', 'code': 409}
    store[name] = self._made(copy.deepcopy(body))
    return 201, store[name]

  def _made(self, body):
    body['metadata'] |= {
      'uid': str(next(self._uids)),
      'creationTimestamp': _now(),
    }
    body.setdefault('status', {})
    return body

  def _delete(self, kind, name, grace=None):
    """Foreground: what belongs to it goes first."""
    body = getattr(self, kind).get(name)
    if body is None:
      return
    body['metadata'].setdefault('deletionTimestamp', _now())
    if kind == 'pods':
      self._terminate(name, grace)

  # ---- controllers ----------------------------------------------------------

  def _control(self):
    while not self._stop.wait(TICK_SECONDS):
      with self._lock:
        for name in list(self.jobsets):
          self._jobset(name)
        for name in list(self.jobs):
          self._job(name)
        for name in list(self.pods):
          self._pod(name)

  def _jobset(self, name):
    body = self.jobsets[name]
    children = [
      job
      for job in self.jobs.values()
      if job['metadata']['labels'].get(f'{_JOBSET}jobset-name') == name
    ]
    if body['metadata'].get('deletionTimestamp'):
      for child in children:
        self._delete('jobs', child['metadata']['name'])
      if not children:
        del self.jobsets[name]
      return
    if _is_over(body):
      return
    status = body['status']
    attempt = str(status.setdefault('restarts', 0))
    old = [
      c
      for c in children
      if c['metadata']['labels'][f'{_JOBSET}restart-attempt'] != attempt
    ]
    if old:
      for child in old:
        self._delete('jobs', child['metadata']['name'])
      return
    if not children:
      self._begin_jobset(body, attempt)
      return
    failed = [c for c in children if _condition(c, 'Failed')]
    if failed:
      reason = _condition(failed[0], 'Failed')['reason']
      policy = body['spec'].get('failurePolicy', {})
      fails = any(
        rule['action'] == 'FailJobSet'
        and reason in rule.get('onJobFailureReasons', [reason])
        for rule in policy.get('rules', [])
      )
      if fails or status['restarts'] >= policy.get('maxRestarts', 0):
        _set(body, 'Failed', reason)
      else:
        status['restarts'] += 1
    elif all(_condition(c, 'Complete') for c in children):
      _set(body, 'Completed', 'AllJobsCompleted')

  def _begin_jobset(self, body, attempt):
    name = body['metadata']['name']
    for row in body['spec']['replicatedJobs']:
      for index in range(row['replicas']):
        labels = {
          f'{_JOBSET}jobset-name': name,
          f'{_JOBSET}job-index': str(index),
          f'{_JOBSET}restart-attempt': attempt,
        }
        spec = copy.deepcopy(row['template']['spec'])
        labels |= spec['template']['metadata'].get('labels', {})
        spec['template']['metadata']['labels'] = labels
        self._create(
          self.jobs,
          {
            'kind': 'Job',
            'metadata': {
              'name': f'{name}-{row["name"]}-{index}',
              'labels': labels,
            },
            'spec': spec,
          },
        )

  def _job(self, name):
    body = self.jobs[name]
    spec, status = body['spec'], body['status']
    pods = [
      pod
      for pod in self.pods.values()
      if pod['metadata']['labels'].get(f'{_BATCH}job-name') == name
    ]
    if body['metadata'].get('deletionTimestamp'):
      for pod in pods:
        self._delete('pods', pod['metadata']['name'])
      if not pods:
        del self.jobs[name]
      return
    if _is_over(body):
      return
    failed = [p for p in pods if p['status']['phase'] == 'Failed']
    for pod in failed:
      if self._fails_job(spec, pod):
        return self._end_job(body, pods, 'PodFailurePolicy')
    status['failed'] = len(failed)
    if len(failed) > spec.get('backoffLimit', 6):
      return self._end_job(body, pods, 'BackoffLimitExceeded')
    wanted = spec.get('completions', 1)
    done = set()
    for index in range(wanted):
      own = [
        p
        for p in pods
        if p['metadata']['labels'][f'{_BATCH}job-completion-index']
        == str(index)
      ]
      if any(p['status']['phase'] == 'Succeeded' for p in own):
        done.add(index)
      elif all(p['status']['phase'] == 'Failed' for p in own):
        self._begin_pod(body, index, len(own))
    if len(done) == wanted:
      _set(body, 'Complete', '')

  def _fails_job(self, spec, pod):
    if pod['status']['conditions']:  # disrupted: no rule of ours ignores it
      return False
    code = pod['status']['containerStatuses'][0]['state']['terminated']
    for rule in spec.get('podFailurePolicy', {}).get('rules', []):
      values = rule['onExitCodes']['values']
      inside = code['exitCode'] in values
      if rule['action'] == 'FailJob' and inside == (
        rule['onExitCodes']['operator'] == 'In'
      ):
        return True
    return False

  def _end_job(self, body, pods, reason):
    _set(body, 'Failed', reason)
    for pod in pods:
      if pod['status']['phase'] in ('Running', 'Pending'):
        self._delete('pods', pod['metadata']['name'])

  # ---- the kubelet ----------------------------------------------------------

  def _begin_pod(self, job, index, number):
    name = f'{job["metadata"]["name"]}-{index}-{number}x{next(self._uids)}'
    template = copy.deepcopy(job['spec']['template'])
    labels = template['metadata'].setdefault('labels', {})
    labels |= {
      f'{_BATCH}job-name': job['metadata']['name'],
      f'{_BATCH}job-completion-index': str(index),
    }
    pod = {'kind': 'Pod', **template}
    pod['metadata']['name'] = name
    pod['status'] = {'phase': 'Pending', 'conditions': []}
    self.pods[name] = self._made(pod)
    if self._no_images:
      self._set_state(
        name,
        'Pending',
        {'waiting': {'reason': 'ImagePullBackOff', 'message': 'no such image'}},
      )
      return
    container = pod['spec']['containers'][0]
    environment = {e['name']: e['value'] for e in container['env']}
    environment |= self._of_tpus(job, pod, index)
    command = [*container['command'], *container['args']]
    if command[0] == 'python3':
      command[0] = sys.executable
    with open(self.folder / f'{name}.log', 'wb') as log:
      self._processes[name] = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={
          name: value
          for name, value in os.environ.items()
          if not name.startswith(('REST_JAX', 'JAX', 'XLA'))
        }
        | self.environment
        | environment,
        start_new_session=True,
      )
    self._set_state(name, 'Running', {'running': {'startedAt': _now()}})

  def _of_tpus(self, job, pod, index):
    """What GKE tells the pods of a slice; and, since these are CPUs, jax."""
    chips = pod['spec']['containers'][0]['resources']['limits'].get(_TPU)
    if chips is None:
      return {}
    hosts = job['spec']['completions']
    found = {
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': f'{self.environment.get("XLA_FLAGS", "")} '
      f'--xla_force_host_platform_device_count={chips}',
      'TPU_WORKER_ID': str(index),
      'TPU_WORKER_HOSTNAMES': ','.join(['localhost'] * hosts),
    }
    labels = job['metadata']['labels']
    name = labels[f'{_JOBSET}jobset-name']
    replicas = self.jobsets[name]['spec']['replicatedJobs'][0]['replicas']
    if hosts * replicas > 1:
      attempt = f'{name} {labels[f"{_JOBSET}restart-attempt"]}'
      if attempt not in self._ports:
        with socket.socket() as probe:
          probe.bind(('localhost', 0))
          self._ports[attempt] = probe.getsockname()[1]
      place = int(labels[f'{_JOBSET}job-index']) * hosts + index
      found |= {
        'JAX_COORDINATOR_ADDRESS': f'localhost:{self._ports[attempt]}',
        'JAX_NUM_PROCESSES': str(hosts * replicas),
        'JAX_PROCESS_ID': str(place),
      }
    return found

  def _pod(self, name):
    pod, process = self.pods[name], self._processes.get(name)
    code = process.poll() if process else None
    if process and code is None:
      if time.monotonic() > self._kill_at.get(name, float('inf')):
        with contextlib.suppress(ProcessLookupError):
          os.killpg(process.pid, signal.SIGKILL)
      return
    if process and pod['status']['phase'] == 'Running':
      code = 128 - code if code < 0 else code
      self._set_state(
        name,
        'Failed' if code else 'Succeeded',
        {
          'terminated': {
            'exitCode': code,
            'reason': 'Error' if code else 'Completed',
          }
        },
      )
    if pod['metadata'].get('deletionTimestamp'):
      del self.pods[name]

  def _terminate(self, name, grace=None):
    process = self._processes.get(name)
    if process is None or process.poll() is not None:
      return
    if grace is None:
      asked = self.pods[name]['spec']['terminationGracePeriodSeconds']
      grace = min(GRACE_SECONDS, asked)
    self._kill_at.setdefault(name, time.monotonic() + grace)
    self._kill_at[name] = min(self._kill_at[name], time.monotonic() + grace)
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, signal.SIGTERM)

  def _set_state(self, name, phase, state):
    self.pods[name]['status'] |= {
      'phase': phase,
      'containerStatuses': [
        {
          'name': self.pods[name]['spec']['containers'][0]['name'],
          'state': state,
          'ready': phase == 'Running',
          'restartCount': 0,
          'image': '',
          'imageID': '',
        }
      ],
    }

  def _command(self, pod):
    return ' '.join(
      e['value']
      for e in pod['spec']['containers'][0]['env']
      if e['name'] == 'REST_JAX_JOB'
    )


class _Server(http.server.ThreadingHTTPServer):
  daemon_threads = True

  def handle_error(self, *_):
    pass  # a client that was killed


class _Handler(http.server.BaseHTTPRequestHandler):
  fake: FakeCluster
  protocol_version = 'HTTP/1.1'

  def log_message(self, *_):
    pass

  def _serve(self):
    url = urllib.parse.urlsplit(self.path)
    query = urllib.parse.parse_qs(url.query)
    length = int(self.headers.get('Content-Length') or 0)
    body = json.loads(self.rfile.read(length)) if length else None
    self.fake.requests.append((self.command, url.path))
    if self.fake._silent:
      self.close_connection = True
      return
    log = re.fullmatch(rf'{_PATHS["pods"]}/([\w.-]+)/log', url.path)
    if log:
      self._log(log[2])
      return
    status, value = self.fake.answer(self.command, url.path, query, body)
    data = json.dumps(value).encode()
    self.send_response(status)
    self.send_header('Content-Type', 'application/json')
    self.send_header('Content-Length', str(len(data)))
    self.end_headers()
    self.wfile.write(data)

  do_GET = do_POST = do_DELETE = _serve

  def _log(self, name):
    """Follows a pod's output, each line behind its time."""
    file = self.fake.folder / f'{name}.log'
    process = self.fake._processes.get(name)
    if process is None:
      self.send_error(400, 'waiting to start')
      return
    self.send_response(200)
    self.send_header('Transfer-Encoding', 'chunked')
    self.end_headers()
    number, rest = 0, b''
    with open(file, 'rb') as stream, contextlib.suppress(OSError):
      while not self.fake._silent:
        ended = process.poll() is not None
        *lines, rest = (rest + stream.read()).split(b'\n')
        for line in lines:
          number += 1
          data = b'%09d %s\n' % (number, line)
          self.wfile.write(b'%x\r\n%s\r\n' % (len(data), data))
        if ended:
          self.wfile.write(b'0\r\n\r\n')
          return
        time.sleep(TICK_SECONDS)
    self.close_connection = True


def _now():
  return time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())


def _condition(body, kind):
  for condition in body['status'].get('conditions', []):
    if condition['type'] == kind:
      return condition
  return None


def _set(body, kind, reason):
  body['status'].setdefault('conditions', []).append(
    {'type': kind, 'status': 'True', 'reason': reason}
  )


def _is_over(body):
  return any(_condition(body, k) for k in ('Complete', 'Completed', 'Failed'))
