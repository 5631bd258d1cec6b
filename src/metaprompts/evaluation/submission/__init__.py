"""Write predictions in the formats of benchmark servers."""
