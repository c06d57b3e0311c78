"""What a set of predictions says of a model: by class, by label, by range, and where to abstain. numpy alone."""
