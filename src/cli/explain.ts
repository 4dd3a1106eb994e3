/** xlu explain [CODE]: what a rule or an error code means, where it comes from, what can be done. */
import { EXIT } from "../errors.ts";
import { explain as explanation, explanations } from "../inspect/explain.ts";
import { colors, print, printJson, table } from "./output.ts";

export async function explain(code: string | undefined, options: { json: boolean }): Promise<number> {
	if (code === undefined) {
		const all = explanations();
		if (options.json) printJson(all);
		else
			print(
				table(
					["code", "what must hold, or what happened"],
					all.map((entry) => [entry.code, entry.doc]),
				),
			);
		return EXIT.done;
	}
	const found = explanation(code);
	if (options.json) {
		printJson(found);
		return EXIT.done;
	}
	print(colors.bold(found.name === undefined ? found.code : `${found.code}, ${found.name}`));
	print(found.doc);
	if (found.from !== undefined) print(`from: ${found.from}`);
	if (found.why !== undefined) print(found.why);
	print(`if it does not hold: ${found.outcome}`.replace(/^if it does not hold: exit/, "exit"));
	for (const [reader, does] of Object.entries(found.readers ?? {})) print(`${reader}: ${does}`);
	if (found.advice !== undefined) print(found.advice);
	return EXIT.done;
}
