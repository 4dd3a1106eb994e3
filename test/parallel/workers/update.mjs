/** A live update in a process of its own: prints how it ended. The process must end by itself. */
import { liveUpdate, loadHost } from "../../../dist/index.js";

const [host, script, timeoutMs] = process.argv.slice(2);
const pool = { script: new URL(script), timeoutMs: Number(timeoutMs) };
try {
	const { identical, workers } = await liveUpdate(loadHost(host), { workers: 2, pool, prepare: false });
	console.log(JSON.stringify({ identical, workers }));
} catch ({ code, message, exitStatus }) {
	console.log(JSON.stringify({ code, message, exitStatus }));
}
