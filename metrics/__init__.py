"""How a release is judged against held-out real rows: fidelity, and what attacks find."""
