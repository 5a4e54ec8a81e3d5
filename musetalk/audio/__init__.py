"""Sound in, audio features out: waveform, 16 kHz mono, log-mel, encoder states, per-frame windows."""
