// Pages that have nothing but the header and the footer.

import { startShell } from "./shell.js";

startShell();
