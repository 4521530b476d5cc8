"""How a release is judged against held-out real rows: fidelity, membership inference."""
