/** Grants: FORMAT.md, "Grant tables", "Active grants", "Maptrack", "References that restore rebuilds"; RULES.md, 14. */
import { mustKnow } from "./checkHost.ts";
import { type Domain, type Host, must } from "./host.ts";
import { DOMID_FIRST_RESERVED, DOMID_IO } from "./stream.ts";

const PINS = ["hostWrite", "hostRead", "deviceWrite", "deviceRead"] as const;
const MOST_PINS = 128;
const MOST_HANDLES = 255;
const HANDLES_PER_FRAME = 256;
const DEVICE = 1;
const HOST = 2;
const READ_ONLY = 4;

function checkTable(host: Host, domain: Domain): void {
	const table = domain.one("LU_GRANT_TABLE");
	if (!table) return;
	const { version, grantFrameCount, statusFrameCount, maptrackFrameCount } = table.head;
	const { grantVersionLimit, maxGrantFrames, maxMaptrackFrames } = domain.record.head;
	must((version === 1 || version === 2) && version <= grantVersionLimit, 70, table, "version");
	must(grantFrameCount <= maxGrantFrames, 70, table, "grantFrameCount");
	must(maptrackFrameCount <= maxMaptrackFrames, 70, table, "maptrackFrameCount");
	const expected = version === 1 ? 0 : Math.ceil(grantFrameCount / 8);
	must(statusFrameCount === expected, 70, table, "statusFrameCount");
	must(domain.isAlive || grantFrameCount === 0, 45, table, "grantFrameCount");
	for (const part of ["GrantFrames", "StatusFrames"])
		for (const [i, { mfn }] of table.parts[part].entries())
			host.takeXenheap(domain.domid, mfn, table, `${part}[${i}].mfn`);
}

/** How many references the domain's table holds. */
function capacity(domain: Domain): number {
	const table = domain.one("LU_GRANT_TABLE");
	if (!table) return 0;
	const frames = domain.isAlive ? table.head.grantFrameCount : domain.record.head.maxGrantFrames;
	return frames * (table.head.version === 1 ? 512 : 256);
}

function checkActive(host: Host, domain: Domain): void {
	const active = domain.one("LU_GRANT_ACTIVE");
	if (!active) return;
	must(active.head.slotCount <= capacity(domain), 71, active, "slotCount");
	for (const [i, row] of active.parts.GrantActive.entries()) {
		const field = `GrantActive[${i}]`;
		must(
			PINS.some((pin) => row[pin] > 0),
			71,
			active,
			`${field}.hostWrite`,
		);
		for (const pin of PINS) must(row[pin] <= MOST_PINS, 71, active, `${field}.${pin}`);
		must(host.domains.has(row.grantee), 43, active, `${field}.grantee`);
		const isHeldByL1 = host.isWalked(row.grantee) && row.deviceWrite === 0 && row.deviceRead === 0;
		if (isHeldByL1) must(row.mfn < host.frameCount, 55, active, `${field}.mfn`);
		else if (!host.isOwnedBy(row.mfn, DOMID_IO)) {
			const isWritten = row.deviceWrite > 0 || (row.hostWrite > 0 && !host.isWalked(row.grantee));
			if (isWritten) host.mustBeWritten(domain.domid, row.mfn, active, `${field}.mfn`);
			else host.mustOwn(domain.domid, row.mfn, active, `${field}.mfn`);
		}
	}
}

export function checkGrantTable(host: Host, domain: Domain): void {
	checkTable(host, domain);
	checkActive(host, domain);
}

/** What the handles of all domains add up to, by granting domain and reference. */
export type Sums = Map<string, Record<(typeof PINS)[number], number>>;

export function checkMaptrack(host: Host, domain: Domain, sums: Sums): void {
	const maps = domain.one("LU_GRANT_MAPS");
	if (!maps) return;
	const { maxMaptrackFrames, maxVcpus } = domain.record.head;
	must(maps.head.slotCount <= HANDLES_PER_FRAME * maxMaptrackFrames, 72, maps, "slotCount");
	for (const [i, row] of maps.parts.Maptrack.entries()) {
		const field = `Maptrack[${i}]`;
		mustKnow(72, maps, "flags", "Maptrack", i);
		must((row.flags & (HOST | DEVICE)) !== 0, 72, maps, `${field}.flags`);
		must(row.vcpuId < maxVcpus, 72, maps, `${field}.vcpuId`);
		const mayBeStale = host.isWalked(domain.domid) && (row.flags & DEVICE) === 0;
		const grant = grantOf(host.domains.get(row.domid), row.reference);
		if (!grant || grant.grantee !== domain.domid) {
			must(mayBeStale && row.domid < DOMID_FIRST_RESERVED, 73, maps, `${field}.reference`);
			continue;
		}
		const key = `${row.domid} ${row.reference}`;
		const sum = sums.get(key) ?? { hostWrite: 0, hostRead: 0, deviceWrite: 0, deviceRead: 0 };
		sums.set(key, sum);
		const how = row.flags & READ_ONLY ? "Read" : "Write";
		if (row.flags & HOST) must(++sum[`host${how}`] <= MOST_HANDLES || mayBeStale, 74, maps, `${field}.reference`);
		if (row.flags & DEVICE) must(++sum[`device${how}`] <= MOST_HANDLES, 74, maps, `${field}.reference`);
	}
}

function grantOf(granter: Domain | undefined, reference: number) {
	// biome-ignore lint/suspicious/noExplicitAny: a row of the stream.
	return granter?.one("LU_GRANT_ACTIVE")?.parts.GrantActive.find((row: any) => row.slot === reference);
}

export function checkPins(host: Host, domain: Domain, sums: Sums): void {
	const active = domain.one("LU_GRANT_ACTIVE");
	for (const [i, row] of (active?.parts.GrantActive ?? []).entries())
		for (const pin of PINS) {
			const sum = sums.get(`${domain.domid} ${row.slot}`)?.[pin] ?? 0;
			const mayBeLess = pin.startsWith("host") && host.isWalked(row.grantee);
			must(row[pin] === sum || (mayBeLess && row[pin] < sum), 74, active, `GrantActive[${i}].${pin}`);
		}
}

/** An upper bound of all references stays below 2^31. */
export function checkSums(host: Host): void {
	const most = 2n ** 31n;
	let sum = 0n;
	for (const domain of host.inOrder) {
		const vcpus = BigInt(domain.vcpuEnd);
		const tables = host.tables.get(domain.domid)?.all ?? 0n;
		sum += 2048n + BigInt(domain.foreignEntries) + 4n * vcpus;
		if (tables > 0n) sum += 513n * tables + 18n * vcpus;
		must(sum <= most, 110, domain.record);
		const active = domain.one("LU_GRANT_ACTIVE");
		for (const row of active?.parts.GrantActive ?? []) for (const pin of PINS) sum += BigInt(row[pin]);
		must(sum <= most, 110, active);
	}
}
