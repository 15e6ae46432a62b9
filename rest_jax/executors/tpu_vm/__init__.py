"""Runs sampling and training on Cloud TPU VMs, by queued resources."""
