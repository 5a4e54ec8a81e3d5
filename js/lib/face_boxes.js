/**
 * Geometry of the face boxes that an execution reports. Numbers are pixels of the source frame, y grows downward.
 *
 * @typedef {object} FaceBox
 * @property {string} filename    a plain picture of the frame; `subfolder` and `type` as ComfyUI's /view takes them
 * @property {number} width       of the source frame, as is `height`; the picture may be smaller
 * @property {number} frame       index of the source frame
 * @property {number[]} box       x0, y0, x1, y1: the part that is redrawn, extra margin included
 * @property {number} margin      the extra margin below the chin
 * @property {number} middle      where the middle line is at bbox_shift 0
 * @property {number|null} up     how far the line can usefully go up, as does `down`; null when unknown
 */

const FACE_ROOM = 1.8;

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** The face boxes of an execution's output; entries that make no sense are left out. @returns {FaceBox[]} */
export function parseBoxes(output) {
  const entries = output?.musetalk_boxes;
  return Array.isArray(entries) ? entries.map(parseBox).filter(Boolean) : [];
}

function parseBox(entry) {
  const { filename, width, height, box } = entry ?? {};
  const isBox = Array.isArray(box) && box.length === 4 && box.every(isNumber) && box[2] > box[0] && box[3] > box[1];
  if (typeof filename !== "string" || !(width > 0) || !(height > 0) || !isBox) return null;
  const margin = isNumber(entry.margin) ? Math.max(0, entry.margin) : 0;
  return {
    filename,
    subfolder: entry.subfolder ?? "",
    type: entry.type ?? "temp",
    width,
    height,
    frame: isNumber(entry.frame) ? entry.frame : 0,
    box,
    margin,
    middle: isNumber(entry.middle) ? entry.middle : Math.round((box[1] + box[3] - margin) / 2),
    up: isNumber(entry.up) ? entry.up : null,
    down: isNumber(entry.down) ? entry.down : null,
  };
}

/** The box as the next run will make it with `shift`: the top mirrors the chin in the middle line. */
export function predictBox({ box, margin, middle }, shift) {
  const [x0, , x1, y1] = box;
  const line = middle + shift;
  const top = Math.min(Math.max(0, 2 * line - (y1 - margin)), y1);
  return { x: x0, y: top, width: x1 - x0, height: y1 - top, line };
}

/** The shifts that keep the line inside the frame and above the chin, so that a box remains. */
export function possibleShifts({ box, margin, middle }) {
  return { min: -middle, max: box[3] - margin - 1 - middle };
}

/** Whether `shift` is inside the useful range; an unknown range holds everything. */
export function isUseful({ up, down }, shift) {
  return (up === null || shift >= -up) && (down === null || shift <= down);
}

/** The part of the frame to look at: the whole of it, or the face with some room around it. */
export function viewport({ width, height, box }, isWhole) {
  if (isWhole) return { x: 0, y: 0, width, height };
  const side = FACE_ROOM * Math.max(box[2] - box[0], box[3] - box[1]);
  const [w, h] = [Math.min(side, width), Math.min(side, height)];
  const x = Math.min(Math.max((box[0] + box[2] - w) / 2, 0), width - w);
  const y = Math.min(Math.max((box[1] + box[3] - h) / 2, 0), height - h);
  return { x, y, width: w, height: h };
}
