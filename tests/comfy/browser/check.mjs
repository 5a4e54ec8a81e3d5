// Reads a request from stdin, does it in a browser, and writes what was seen to stdout; both are JSON.
//   { url, vue, workflows: {name: graph}, box, run }
// workflows: graphs to open. box: an entry of musetalk_boxes whose picture the server has. run: an API-format prompt
// with one Prepare Avatar node, to be run from the page.
import { text } from "node:stream/consumers";
import { loadWorkflow, roundTrip, runPrompt, withPage } from "./page.mjs";
import * as line from "./shift_line.mjs";

const request = JSON.parse(await text(process.stdin));
const seen = await withPage(request.url, { vue: request.vue }, async (page, errors) => {
  const workflows = {};
  for (const [name, graph] of Object.entries(request.workflows)) {
    workflows[name] = await loadWorkflow(page, graph, name);
    workflows[name].errors = errors.splice(0);
  }
  return {
    workflows,
    allNodes: { ...(await roundTrip(page, "MuseTalk")), errors: errors.splice(0) },
    shiftLine: { ...(await useShiftLine(page)), errors: errors.splice(0) },
    run: { ...(await runPrompt(page, request.run)), errors: errors.splice(0) },
  };
});
console.log(JSON.stringify(seen));

/** Everything a person can do with the shift line, and the shift after each step. */
async function useShiftLine(page) {
  const id = await line.addPrepareAvatar(page);
  const shifts = [];
  const note = async (what) => shifts.push({ what, ...(await line.shiftNow(page, id)) });

  const empty = await line.geometry(page, id);
  await line.report(page, id, [{ nonsense: true }, "nonsense", null]);
  await line.report(page, id, [request.box, { ...request.box, frame: 7 }]);
  const shown = await line.geometry(page, id);
  await note("shown");
  await line.drag(page, 20);
  await note("dragged down");
  const dragged = await line.geometry(page, id);
  for (const key of ["ArrowUp", "Shift+ArrowDown", "Home", "End"]) {
    await line.press(page, key);
    await note(key);
  }
  await line.typeShift(page, id, -5, request.vue);
  await note("typed");
  await line.zoom(page, 0.6);
  await line.drag(page, 12);
  await note("dragged at 60 %");
  await line.zoom(page, 1);
  for (const key of ["Home", "ArrowDown"]) await line.press(page, key);
  await note("before undo");
  await line.undo(page);
  await note("key undone");
  await line.press(page, "End");
  await line.drag(page, -20);
  await line.undo(page);
  await note("drag undone");
  return { empty, shown, dragged, shifts, leftAfterRemoval: await line.remove(page, id) };
}
