"""The API of a cluster: what is asked of it, and what it says of a run's jobs.

Needs the package kubernetes (extra 'gke').
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from rest_jax.config import configuration
from rest_jax.executors.gke import objects
from rest_jax.executors.gke.seen import Seen, place, restarts_of, state_of
from rest_jax.executors.gke.settings import GkeConfig

_GROUP, _VERSION = objects.JOBSET_API.split('/')
_TIMEOUT_SECONDS = 20
_JOBSET_LABEL = 'jobset.sigs.k8s.io/jobset-name'
_JOB_LABEL = 'batch.kubernetes.io/job-name'


class Unreachable(Exception):
  """The API server does not answer, or not now."""


class Cluster:
  """A cluster, as one run uses it."""

  def __init__(self, config: GkeConfig, run_dir: str):
    """Connects to nothing yet.

    Args:
      config: of the cluster.
      run_dir: of the run, whose objects alone are seen.

    Raises:
      ConfigurationError: the package kubernetes is missing, or nothing says
        where the cluster is.
    """
    try:
      import kubernetes
    except ImportError as error:
      raise configuration.ConfigurationError(
        '--executor=gke needs the package kubernetes: pip install '
        "'rest_jax[gke]'."
      ) from error
    try:
      client = kubernetes.config.new_client_from_config(
        # Its default is what was there when the package was imported.
        config_file=os.environ.get('KUBECONFIG') or None,
        context=config.context,
      )
    except kubernetes.config.ConfigException as error:
      try:
        kubernetes.config.load_incluster_config()
        client = kubernetes.client.ApiClient()
      except kubernetes.config.ConfigException:
        raise configuration.ConfigurationError(
          f'--executor=gke: no cluster is known here ({error}). Run: gcloud '
          'container clusters get-credentials CLUSTER --location=LOCATION'
        ) from error
    self._custom = kubernetes.client.CustomObjectsApi(client)
    self._batch = kubernetes.client.BatchV1Api(client)
    self._core = kubernetes.client.CoreV1Api(client)
    self._errors = kubernetes.client.ApiException
    self._namespace = config.namespace
    self._selector = f'{objects.RUN}={objects.run_label(run_dir)}'

  def create(self, body: dict[str, Any]) -> None:
    """Creates a JobSet or Job; one of the same name stands.

    Raises:
      ConfigurationError: the cluster refuses it, and says why.
      Unreachable: see the class.
    """
    try:
      if body['kind'] == 'JobSet':
        self._ask(
          self._custom.create_namespaced_custom_object,
          *(_GROUP, _VERSION, self._namespace, 'jobsets', body),
        )
      else:
        self._ask(self._batch.create_namespaced_job, self._namespace, body)
    except self._errors as error:
      if error.status == 409:  # created by a request whose answer was lost
        return
      raise configuration.ConfigurationError(
        f'the cluster refuses the {body["kind"]} {body["metadata"]["name"]} '
        f'({error.status} {error.reason}): {str(error.body)[:1000]}'
      ) from error

  def delete(self, seen: Seen | str, *, grace_seconds: int | None) -> None:
    """Deletes a JobSet or Job with all of its pods; none may be there.

    Args:
      seen: it, or its name.
      grace_seconds: for its pods; None: as they say.
    """
    name = seen if isinstance(seen, str) else seen.name
    if grace_seconds is not None:  # the pods themselves: Jobs pass none on
      for pod in self._pods():
        if name in (_owner(pod, _JOBSET_LABEL), _owner(pod, _JOB_LABEL)):
          self._forget(
            self._core.delete_namespaced_pod,
            *(pod['metadata']['name'], self._namespace),
            grace_period_seconds=grace_seconds,
          )
    how = {'propagation_policy': 'Foreground'}
    self._forget(
      self._custom.delete_namespaced_custom_object,
      *(_GROUP, _VERSION, self._namespace, 'jobsets', name),
      **how,
    )
    self._forget(
      self._batch.delete_namespaced_job, name, self._namespace, **how
    )

  def look(self) -> dict[str, Seen]:
    """The run's JobSets and Jobs, by name.

    Raises:
      Unreachable: see the class.
    """
    jobsets = self._listed(
      self._custom.list_namespaced_custom_object,
      *(_GROUP, _VERSION, self._namespace, 'jobsets'),
    )
    jobs = self._listed(self._batch.list_namespaced_job, self._namespace)
    pods = self._pods()
    found = {}
    for body in [*jobsets, *jobs]:
      meta = body['metadata']
      if objects.DIGEST not in meta.get('annotations', {}):
        continue  # a Job of a JobSet
      label = _JOBSET_LABEL if 'replicatedJobs' in body['spec'] else _JOB_LABEL
      own = [pod for pod in pods if _owner(pod, label) == meta['name']]
      found[meta['name']] = Seen(
        name=meta['name'],
        job=meta['labels'][objects.JOB],
        digest=meta['annotations'][objects.DIGEST],
        state=state_of(body),
        restarts=restarts_of(body),
        pods=tuple(sorted(own, key=place)),
      )
    return found

  def log(self, pod: str, stop: threading.Event) -> Iterator[tuple[str, str]]:
    """(time, line) of a pod's output from its start until it ends, or `stop`.

    Raises:
      Unreachable: the connection was lost, or there is no output yet.
    """
    answer = self._ask(
      self._core.read_namespaced_pod_log,
      *(pod, self._namespace),
      container=objects.CONTAINER,
      follow=True,
      timestamps=True,
      seconds=None,
    )
    rest = b''
    try:
      for data in answer.stream():
        *lines, rest = (rest + data).split(b'\n')
        for line in lines:
          when, _, text = line.decode(errors='replace').partition(' ')
          yield when, text
        if stop.is_set():
          return
    except Exception as error:  # of urllib3, by many names
      raise Unreachable(str(error)) from error
    finally:
      answer.close()

  def _pods(self) -> list[dict]:
    return self._listed(self._core.list_namespaced_pod, self._namespace)

  def _listed(self, function: Callable[..., Any], *args: str) -> list[dict]:
    """The run's objects of a kind, as the API writes them."""
    answer = self._ask(function, *args, label_selector=self._selector)
    return json.loads(answer.data)['items']

  def _forget(self, function: Callable[..., Any], *args: Any, **how: Any):
    """Deletes something that may not be there."""
    try:
      self._ask(function, *args, **how)
    except self._errors as error:
      if error.status != 404:
        raise configuration.ConfigurationError(
          f'the cluster does not delete {args}: {error.reason}'
        ) from error

  def _ask(
    self,
    function: Callable[..., Any],
    *args: Any,
    seconds: float | None = _TIMEOUT_SECONDS,
    **how: Any,
  ) -> Any:
    try:
      # As it comes: the client's classes refuse what a newer cluster adds.
      return function(
        *args, _request_timeout=seconds, _preload_content=False, **how
      )
    except self._errors as error:
      if error.status in (0, 408, 429) or error.status >= 500:
        raise Unreachable(f'{error.status} {error.reason}') from error
      raise
    except (OSError, _urllib3_error()) as error:
      raise Unreachable(str(error)) from error


def _urllib3_error() -> type[Exception]:
  import urllib3

  return urllib3.exceptions.HTTPError


def _owner(pod: dict, label: str) -> str | None:
  return pod['metadata'].get('labels', {}).get(label)
