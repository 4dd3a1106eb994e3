/** Long results: written piece by piece to standard output, at the pace of whoever reads it. */
import { FileSink } from "../formats/common/sink.ts";

const encoder = new TextEncoder();

export interface LineOutput {
	text(piece: string): Promise<void>;
	line(text: string): Promise<void>;
	end(): Promise<void>;
}

export function lineOutput(): LineOutput {
	const sink = new FileSink("-");
	const text = (piece: string) => sink.write(encoder.encode(piece));
	return { text, line: (piece) => text(`${piece}\n`), end: () => sink.commit() };
}
