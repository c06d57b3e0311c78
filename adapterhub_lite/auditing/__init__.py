"""Faults of labelled data, looked for before anything is trained on it: a room a finding."""
