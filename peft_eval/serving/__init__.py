"""vLLM: the loader that merges while loading, and the routes to an engine."""
