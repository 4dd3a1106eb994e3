/** What `xlu inspect HOST` says of an import: the host in figures, and all that was assigned or defaulted. */
import { FRAME, FRAME_OWNER_MASK, KIND, LIFE } from "../../format/enums.ts";
import type { DomainModel } from "../../machine/model.ts";
import { type ImportedHost, plural } from "./ledger.ts";

const kindNames: Readonly<Record<number, string>> = Object.fromEntries(
	Object.entries(KIND).map(([name, value]) => [value, name]),
);

function framesByOwner(owners: BigUint64Array): Map<number, number> {
	const counts = new Map<number, number>();
	for (const entry of owners) {
		const bits = Number(entry);
		if (bits & FRAME.owned && (bits & (FRAME.xenheap | FRAME.extra)) === 0) {
			const owner = bits & FRAME_OWNER_MASK;
			counts.set(owner, (counts.get(owner) ?? 0) + 1);
		}
	}
	return counts;
}

const used = (slots: readonly unknown[] | undefined): number =>
	(slots ?? []).reduce<number>((count, slot) => count + (slot === undefined ? 0 : 1), 0);

function describeDomain(model: DomainModel, frames: number): string {
	const { domid, kind, life } = model.domain;
	const figures = [
		plural(model.vcpuIds.length, "vCPU"),
		plural(frames, "frame"),
		plural(used(model.ports), "port"),
		plural(used(model.grantActive), "active grant"),
		plural(used(model.maptrack), "grant mapping"),
	];
	const dead = life === LIFE.dead ? ", dead" : "";
	return `domain ${domid} (${kindNames[kind] ?? "?"}${dead}): ${figures.join(", ")}`;
}

/** Lines of text, without a final line end. */
export function describeImport({ name, model, preserved, assumptions }: ImportedHost): string {
	const frames = framesByOwner(model.frameOwners);
	const lines = [
		`captured host ${name}: ${model.versionText}, ${plural(Number(model.host.cpuCount), "CPU")}, ` +
			`${plural(model.frameOwners.length, "frame")}, ${plural(preserved.size, "preserved page")}`,
		...model.domains.map((domain) => describeDomain(domain, frames.get(domain.domain.domid) ?? 0)),
		"",
		"not in the capture:",
	];
	const domids = [undefined, ...model.domains.map(({ domain }) => domain.domid)];
	for (const domid of domids) {
		for (const { what, how } of assumptions.filter((assumption) => assumption.domid === domid)) {
			lines.push(`  ${domid === undefined ? "host" : `domain ${domid}`}: ${what}: ${how}`);
		}
	}
	return lines.join("\n");
}
