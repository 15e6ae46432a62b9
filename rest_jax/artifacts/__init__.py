"""What a run keeps on disk: records, manifests, files and leases."""
