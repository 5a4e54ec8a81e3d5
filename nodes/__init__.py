"""The ComfyUI side: one file per stage, each node a schema and one engine call. `extension` is its entry."""
