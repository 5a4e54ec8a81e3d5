"""Where the face is: detection, landmarks, tracking, the box rule and the label map."""
