"""Voices for a live avatar: agents that hear the viewer and answer, and speech made from text.

Every one is an `AgentAdapter` and talks to an `AvatarSink`; none knows what a session is.
"""
