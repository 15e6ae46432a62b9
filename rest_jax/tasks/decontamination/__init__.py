"""What training texts share with the evaluated problems."""
