"""Training MuseTalk: its data, its losses, its loop. The engine imports nothing from here."""
