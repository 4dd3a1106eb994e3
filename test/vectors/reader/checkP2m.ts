/** Stage 7, P2Ms: FORMAT.md, "Slices", "P2M entry" and "Foreign mappings". */
import { addSlices } from "./checkFrames.ts";
import { type Domain, type Host, must } from "./host.ts";
import { ALL_ONES, type Fields } from "./octets.ts";
import { DOMID_IO, DOMID_XEN } from "./stream.ts";

const MFN = (1n << 40n) - 1n;
const RESERVED = 0x1ffn << 54n;
const TYPE = { ramRw: 0, ramLogdirty: 2, ramRo: 3, mmioDm: 4, populateOnDemand: 6, foreign: 14, ioreqServer: 15 };
const RAM = [TYPE.ramRw, TYPE.ramLogdirty, TYPE.ramRo, TYPE.ioreqServer];
const INVALID = 1;
const REFUSED = [9, 10, 11, 12];

export function checkP2m(host: Host, domain: Domain): void {
	const records = domain.all("LU_P2M");
	const first = records[0];
	if (!first) return;
	const { highestGfn, defaultAccess } = first.head;
	for (const record of records) {
		must(record.head.highestGfn === highestGfn, 64, record, "highestGfn");
		must(record.head.defaultAccess <= 10, 60, record, "defaultAccess");
		must(record.head.defaultAccess === defaultAccess, 64, record, "defaultAccess");
	}
	must(highestGfn !== ALL_ONES, 64, first, "highestGfn");
	addSlices(domain.p2m, records, "P2m", highestGfn + 1n);

	let highest = -1n;
	const foreign: bigint[] = [];
	for (const { first: gfn, count, entry, record } of domain.p2m.runs) {
		if (entry === 0n) continue;
		highest = gfn + count - 1n;
		const field = `P2m[${gfn}]`;
		const isPresent = entry >> 63n === 1n;
		const mfn = entry & MFN;
		const type = Number((entry >> 40n) & 15n);
		const order = (entry >> 48n) & 63n;
		must((entry & RESERVED) === 0n, 60, record, field);
		must(order === 0n || order === 9n || order === 18n, 60, record, field);
		must(((entry >> 44n) & 15n) <= 10n, 60, record, field);
		must(!REFUSED.includes(type), 44, record, field);
		must(isPresent || mfn === 0n, 60, record, field);
		const isAbsentType = type === TYPE.populateOnDemand || type === TYPE.mmioDm;
		must(isPresent ? !isAbsentType && type !== INVALID : isAbsentType, 60, record, field);
		if (type === TYPE.foreign || type === TYPE.ioreqServer) must(order === 0n, 63, record, field);

		const pages = 1n << order;
		must(gfn % pages === 0n && count % pages === 0n && mfn % pages === 0n, 61, record, field);
		if (RAM.includes(type) && isPresent)
			for (let i = 0n, left = count; left > 0n; ) {
				const [owner] = host.owners.between(mfn + i, left);
				must(host.isOwnedBy(mfn + i, domain.domid), 62, record, field);
				i += owner!.count;
				left -= owner!.count;
			}
		if (type === TYPE.foreign) for (let i = 0n; i < count; i++) foreign.push(gfn + i);
	}
	must(highest === highestGfn, 64, first, "highestGfn");
	checkForeign(host, domain, foreign);
}

function checkForeign(host: Host, domain: Domain, foreign: bigint[]): void {
	const list = domain.one("LU_FOREIGN_MAPS");
	const rows: Fields[] = list?.parts.ForeignMapList ?? [];
	if (list)
		for (const [i, { gfn, mfn, owner }] of rows.entries()) {
			const field = `ForeignMapList[${i}]`;
			must(gfn === foreign[i], 63, list, `${field}.gfn`);
			must(mfn === (domain.p2m.at(gfn) & MFN), 63, list, `${field}.mfn`);
			must(host.domains.has(owner) || owner === DOMID_XEN || owner === DOMID_IO, 63, list, `${field}.owner`);
			must(host.isOwnedBy(mfn, owner), 63, list, `${field}.owner`);
		}
	must(rows.length === foreign.length, 63, list ?? domain.rest.record, "mapCount");
}
