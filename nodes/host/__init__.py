"""Everything that speaks to ComfyUI's own machinery: its folders, its model manager, its progress and its videos."""
