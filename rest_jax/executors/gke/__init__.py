"""Runs the jobs of a plan on a cluster of Google Kubernetes Engine."""
