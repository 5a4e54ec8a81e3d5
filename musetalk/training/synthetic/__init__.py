"""Synthetic talking faces: speech, still portraits and the motion between them, with exact ground truth."""
