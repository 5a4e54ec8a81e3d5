"""musetalk-mini: a complete small model, trained on synthetic talking faces (``configs/mini.yaml``)."""
