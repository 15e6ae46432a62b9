"""Meshes, several hosts, and preemption."""
