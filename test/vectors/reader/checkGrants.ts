/** Stage 8, grants: FORMAT.md, "Grant tables", "Active grants" and "Maptrack". */
import { checkValues } from "./checkHost.ts";
import { type Domain, type Host, must } from "./host.ts";
import type { Fields } from "./octets.ts";
import { DOMID_IO } from "./stream.ts";

const PINS = ["hostWrite", "hostRead", "deviceWrite", "deviceRead"];
const MOST_PINS = 128;
const HANDLES_PER_FRAME = 256;
const DEVICE = 1;
const HOST = 2;
const READ_ONLY = 4;

export function checkTable(domain: Domain): void {
	const table = domain.one("LU_GRANT_TABLE");
	if (!table) return;
	const { version, grantFrameCount, statusFrameCount, maptrackFrameCount } = table.head;
	const { maxGrantFrames, maxMaptrackFrames } = domain.record.head;
	must(version === 1 || version === 2, 70, table, "version");
	must(grantFrameCount <= maxGrantFrames, 70, table, "grantFrameCount");
	must(maptrackFrameCount <= maxMaptrackFrames, 70, table, "maptrackFrameCount");
	const expected = version === 1 ? 0 : Math.ceil(grantFrameCount / 8);
	must(statusFrameCount === expected, 70, table, "statusFrameCount");
}

export function checkActive(host: Host, domain: Domain): void {
	const active = domain.one("LU_GRANT_ACTIVE");
	if (!active || active.head.slotCount === 0) return;
	const table = domain.one("LU_GRANT_TABLE");
	must(table !== undefined, 71, active, "slotCount");
	const frames = domain.isAlive ? table.head.grantFrameCount : domain.record.head.maxGrantFrames;
	must(active.head.slotCount <= frames * (table.head.version === 1 ? 512 : 256), 71, active, "slotCount");
	for (const [i, row] of active.parts.GrantActive.entries()) {
		const field = `GrantActive[${i}]`;
		must(
			PINS.some((p) => row[p] > 0),
			...([71, active, `${field}.hostWrite`] as const),
		);
		for (const pin of PINS) must(row[pin] <= MOST_PINS, 71, active, `${field}.${pin}`);
		must(host.domains.has(row.grantee), 43, active, `${field}.grantee`);
		const onlyHost = row.deviceWrite === 0 && row.deviceRead === 0;
		const isHeld = !(onlyHost && host.isWalked(row.grantee));
		const isOwn = host.isOwnedBy(row.mfn, domain.domid) || host.isOwnedBy(row.mfn, DOMID_IO);
		must(!isHeld || isOwn, 71, active, `${field}.mfn`);
	}
}

/** What the handles of all domains add up to, by granting domain and reference. */
type Sums = Map<string, Record<string, number>>;

export function checkMaptrack(host: Host, domain: Domain, sums: Sums): void {
	const maps = domain.one("LU_GRANT_MAPS");
	if (!maps) return;
	const { maxMaptrackFrames, maxVcpus } = domain.record.head;
	must(maps.head.slotCount <= HANDLES_PER_FRAME * maxMaptrackFrames, 72, maps, "slotCount");
	checkValues(maps, 72, "Maptrack");
	for (const [i, row] of maps.parts.Maptrack.entries()) {
		const field = `Maptrack[${i}]`;
		must((row.flags & (HOST | DEVICE)) !== 0, 72, maps, `${field}.flags`);
		must(row.vcpuId < maxVcpus, 72, maps, `${field}.vcpuId`);
		const granter = host.domains.get(row.domid);
		const rows: Fields[] = granter?.one("LU_GRANT_ACTIVE")?.parts.GrantActive ?? [];
		const grant = rows.find((r) => r.slot === row.reference);
		if (!grant || grant.grantee !== domain.domid) {
			const mayBeGone = host.isWalked(domain.domid) && (row.flags & DEVICE) === 0;
			must(mayBeGone, 73, maps, `${field}.reference`);
			continue;
		}
		const key = `${row.domid} ${row.reference}`;
		const sum = sums.get(key) ?? { hostWrite: 0, hostRead: 0, deviceWrite: 0, deviceRead: 0 };
		const kind = row.flags & READ_ONLY ? "Read" : "Write";
		if (row.flags & HOST) sum[`host${kind}`]!++;
		if (row.flags & DEVICE) sum[`device${kind}`]!++;
		sums.set(key, sum);
	}
}

export function checkPins(host: Host, domain: Domain, sums: Sums): void {
	const active = domain.one("LU_GRANT_ACTIVE");
	for (const [i, row] of (active?.parts.GrantActive ?? []).entries())
		for (const pin of PINS) {
			const sum = sums.get(`${domain.domid} ${row.slot}`)?.[pin] ?? 0;
			const atMost = pin.startsWith("host") && host.isWalked(row.grantee);
			must(row[pin] === sum || (atMost && row[pin] < sum), 74, active!, `GrantActive[${i}].${pin}`);
		}
}
