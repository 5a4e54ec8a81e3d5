"""Live avatars: a voice streamed in, a talking person streamed out."""
