/** An `xl save` image taken apart by its framing alone: a dozen lines that share nothing with src/formats. */

export interface LibxcRecord {
	type: number;
	/** Octets from the start of the file to the body, and the body's length without padding. */
	offset: number;
	length: number;
}

/** Where libxc's own headers stand in the file: after xl's header and the LIBXC_CONTEXT record. */
export function libxcStart(image: Buffer): number {
	const libxl = image.indexOf("LibxlFmt");
	if (libxl < 0 || image.readUInt32LE(libxl + 16) !== 1) throw new Error("no libxl stream that begins with libxc's");
	return libxl + 24;
}

/** Records of the libxc stream, END included. */
export function libxcRecords(image: Buffer): LibxcRecord[] {
	const records: LibxcRecord[] = [];
	for (let at = libxcStart(image) + 40; ; ) {
		const type = image.readUInt32LE(at);
		const length = image.readUInt32LE(at + 4);
		records.push({ type, offset: at + 8, length });
		if (type === 0) return records;
		at += 8 + Math.ceil(length / 8) * 8;
	}
}

/** The first body of a type, as a view into the image. */
export function libxcBody(image: Buffer, type: number): Buffer {
	const found = libxcRecords(image).find((entry) => entry.type === type);
	if (!found) throw new Error(`no record of type ${type}`);
	return image.subarray(found.offset, found.offset + found.length);
}

/** The image with a record's body exchanged for another, of any length. */
export function withBody(image: Buffer, type: number, body: Uint8Array): Buffer {
	const found = libxcRecords(image).find((entry) => entry.type === type);
	if (!found) throw new Error(`no record of type ${type}`);
	const header = Buffer.alloc(8);
	header.writeUInt32LE(type, 0);
	header.writeUInt32LE(body.length, 4);
	const after = found.offset + Math.ceil(found.length / 8) * 8;
	const padding = Buffer.alloc((8 - (body.length % 8)) % 8);
	return Buffer.concat([image.subarray(0, found.offset - 8), header, body, padding, image.subarray(after)]);
}

export interface ContextEntry {
	type: number;
	instance: number;
	body: Uint8Array;
}

/** The entries of an HVM context, END left out. */
export function contextEntries(context: Uint8Array): ContextEntry[] {
	const view = new DataView(context.buffer, context.byteOffset, context.byteLength);
	const entries: ContextEntry[] = [];
	for (let at = 0; view.getUint16(at, true) !== 0; ) {
		const length = view.getUint32(at + 4, true);
		const body = context.subarray(at + 8, at + 8 + length);
		entries.push({ type: view.getUint16(at, true), instance: view.getUint16(at + 2, true), body });
		at += 8 + length;
	}
	return entries;
}

/** The other way round, END added. */
export function contextOf(entries: readonly ContextEntry[]): Buffer {
	const parts = entries.map(({ type, instance, body }) => {
		const header = Buffer.alloc(8);
		header.writeUInt16LE(type, 0);
		header.writeUInt16LE(instance, 2);
		header.writeUInt32LE(body.length, 4);
		return Buffer.concat([header, body]);
	});
	return Buffer.concat([...parts, Buffer.alloc(8)]);
}
