/** digest in steps: of an image whose bulk tables are detached, their rows as a step asks for them (steps.ts). */
import { hashEnd, hashMore, hashStart, xxh3_64 } from "./checksum";
import { chainDomain, chainTable } from "./compare";
import { begin, context, OK, REFUSED } from "./context";
import {
	checkImage,
	domainDirectory,
	domainEntry,
	domainRowBytes,
	entryDomid,
	hostDirectory,
	hostRowBytes,
	isBulk,
	isDetached,
	rootOf,
	tableAt,
	tableRows,
} from "./image";
import * as L from "./layout.gen";
import {
	chainOf,
	hashOf,
	isTurn,
	isWindow,
	rowsBrought,
	STEPS_DIGEST,
	STEPS_NONE,
	Steps,
	startSteps,
	steps,
	wantNothing,
	wantRows,
} from "./steps";

/**
 * Begins the canonical digest of `image`, which may be detached: the same value as `digest` has of one that is not. Ends with
 * what the next step is to bring; once nothing is wanted the context has the digest.
 */
export function digestStart(ctx: usize, image: usize, bytes: u32): u32 {
	memory.fill(ctx, 0, L.CONTEXT_BYTES);
	begin(ctx);
	if (!isWindow(ctx, image, bytes) || !checkImage(ctx, image, bytes, true)) return REFUSED;
	return digestOn(ctx, startSteps(ctx, STEPS_DIGEST, image, bytes));
}

/** The next step: rows that were asked for, or as many of them as the host brings. REFUSED and nothing changed otherwise. */
export function digestStep(ctx: usize, rows: usize, bytes: u32): u32 {
	begin(ctx);
	if (!isTurn(ctx, STEPS_DIGEST, rows, bytes)) return REFUSED;
	const st = steps(ctx);
	const count = rowsBrought(ctx, rows, bytes, rowBytesOf(st), 1);
	if (count == 0) return REFUSED;
	hashMore(hashOf(ctx), rows, bytes);
	st.sliceRows += count;
	return digestOn(ctx, st);
}

function rowBytesOf(st: Steps): u32 {
	return st.domain == 0 ? hostRowBytes(st.def) : domainRowBytes(st.def);
}

/** Tables of the host, then of the domains, until one is not there. */
function digestOn(ctx: usize, st: Steps): u32 {
	const image = <usize>st.image;
	const chain = chainOf(ctx);
	const domains = rootOf(image).domainCount;
	while (st.domain <= domains) {
		const isHost = st.domain == 0;
		const entry: usize = isHost ? 0 : domainEntry(image, st.domain - 1);
		const directory = isHost ? hostDirectory(image) : domainDirectory(entry);
		const tables: u32 = isHost ? L.HOST_TABLES : L.DOMAIN_TABLES;
		for (; st.def < tables; st.def++) {
			const rows = tableRows(directory, st.def);
			let hash: u64 = 0;
			if (rows != 0 && isDetached(image) && isBulk(isHost, st.def)) {
				if (st.sliceRows == 0) hashStart(hashOf(ctx));
				if (st.sliceRows < rows) {
					const domid = isHost ? L.DOMID_XEN : entryDomid(entry);
					wantRows(ctx, domid, st.def, st.sliceRows, rows - st.sliceRows);
					return OK;
				}
				hash = hashEnd(hashOf(ctx));
				st.sliceRows = 0;
			} else {
				hash = xxh3_64(tableAt(image, directory, st.def), rows * rowBytesOf(st));
			}
			chainTable(chain, st.def, rows, hash);
		}
		st.def = 0;
		st.domain++;
		if (st.domain <= domains) chainDomain(chain, domainEntry(image, st.domain - 1));
	}
	context(ctx).digest = load<u64>(chain);
	st.kind = STEPS_NONE;
	wantNothing(ctx);
	return OK;
}
