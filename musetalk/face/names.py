"""Names that options take, free of anything heavy."""

LANDMARK_SOURCES = ("facemesh", "dwpose")
