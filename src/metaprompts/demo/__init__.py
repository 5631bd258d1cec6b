"""A demonstration of the whole package on the embedded models, with a report."""
