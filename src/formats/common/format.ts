/** What a format offers to the commands: recognise, read with checks, write from fields. */

import type { Daemon, Dialect } from "../xenstore/daemons.ts";
import type { Findings, FormatRule } from "./findings.ts";
import type { StreamReader } from "./reader.ts";
import type { EncodableItem, Layer, PageContents, StreamItem } from "./record.ts";

export interface ReadOptions {
	/** Where findings go. What ends the reading is thrown as well. */
	readonly findings: Findings;
	readonly pages: PageContents;
	/** Legacy images: width of the toolstack and kind of the guest, where the content does not tell. */
	readonly width?: 32 | 64;
	readonly guestType?: "pv" | "hvm";
	/** xenstore streams: the draft that the records follow, which nothing in a stream tells from the final form. */
	readonly dialect?: Dialect;
	/** xenstore streams: the daemon that is to read it. */
	readonly daemon?: Daemon;
	/** xenstore streams: the descriptors that the daemon will find open; by default those that a daemon can have. */
	readonly descriptors?: ReadonlySet<number>;
	/** Called now and then with the octets read so far. */
	readonly onProgress?: (offset: number) => void;
}

export interface Format {
	readonly name: Layer;
	/** Layers whose items it reads and encodes. */
	readonly layers: readonly Layer[];
	/** All rules that `read` can report, in the order of their codes. */
	readonly rules: readonly FormatRule[];
	/** Octets that `detect` wants to see. */
	readonly headBytes: number;
	/** Whether a stream that begins like this is one of these. */
	detect(head: Uint8Array): boolean;
	/**
	 * Reads a stream to its end, checks it on the way. Bounded memory: a record at a time.
	 * @throws XLU_E_IMAGE, XLU_E_VERSION where the framing ends; every other fault is a finding
	 */
	read(reader: StreamReader, options: ReadOptions): AsyncGenerator<StreamItem>;
	/**
	 * The octets of an item, headers and padding included.
	 * @throws XLU_E_USAGE with `field` where the fields do not make an item
	 */
	encode(item: EncodableItem): Uint8Array;
}
