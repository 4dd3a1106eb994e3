/** Libxc parts of bundles of every kind of guest, for Xen's own reader (peers/verify-stream.sh). */
import { extractDomain } from "../../src/bundle/extract.ts";
import { machineWithNarrow, NARROW } from "../support/living.ts";
import { NARROW as SECOND, secondHost } from "../support/secondHost.ts";
import { type CaptureName, capturedBundle, captures, core, read, withoutMappings } from "./helpers.ts";

async function libxcPart(bundle: Uint8Array): Promise<Uint8Array> {
	const { bundle: parts } = await read(bundle);
	return parts?.libxc?.octets as Uint8Array;
}

/** Name, and the image's octets. */
export async function libxcParts(): Promise<[name: string, octets: Uint8Array][]> {
	const bundles: [string, Uint8Array][] = [
		...(Object.keys(captures) as CaptureName[]).map((name): [string, Uint8Array] => [name, capturedBundle(name)]),
		["living 32-bit PV", extractDomain(core, machineWithNarrow().toHost(), NARROW).bundle],
		["32-bit PV with all records", extractDomain(core, withoutMappings(secondHost(), SECOND), SECOND).bundle],
	];
	return Promise.all(bundles.map(async ([name, bundle]) => [`bundle of ${name}`, await libxcPart(bundle)]));
}
