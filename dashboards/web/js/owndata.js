// The series of one board of a customer over a range: least and greatest of each step, as the collector puts them together
// from readings of the time in which the board was the customer's.

import { BoardData } from "./boarddata.js";
import { readHistory } from "./boardhistory.js";

const points = 900;
const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
const rolledFrom = 900; // from this step on a history is asked, in which a step without readings is a gap

export class OwnData extends BoardData {
  ask(start, end) {
    const step = steps.find((s) => (end - start) / s <= points) || Math.ceil((end - start) / points / 86400) * 86400;
    return readHistory("/api/own/boards/" + this.board, start, end, step, undefined, step >= rolledFrom);
  }
}
