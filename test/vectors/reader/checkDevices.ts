/** Interrupts, devices and IOMMUs: FORMAT.md, the paragraphs of these names; RULES.md, 16. */
import { type Host, must } from "./host.ts";
import { ALL_ONES, type Fields } from "./octets.ts";
import { DOMID_IO, DOMID_XEN, type StreamRecord } from "./stream.ts";

const IRQS = 32768;
const FIRST_VECTOR = 16;
const MSIX_ENTRIES = 2048;
const MEMORY_FRAMES = 1n << 40n;
const NO_IRQ = 0xffffffff;

const pci = ({ segment, bus, devfn }: Fields): number => segment * 65536 + bus * 256 + devfn;

function mustBeFlags(rule: number, record: StreamRecord, part: string, i: number, fields: string[]): void {
	for (const field of fields) must(record.parts[part][i][field] <= 1, rule, record, `${part}[${i}].${field}`);
}

/** What is known of each host interrupt: its vector, and whether it comes by an MSI. */
type Vectors = Map<number, { vector: number; isMsi: boolean }>;

function takeVector(vectors: Vectors, record: StreamRecord, part: string, i: number, isMsi: boolean): void {
	const { irq, vector, masked } = record.parts[part][i];
	must(irq < IRQS, 125, record, `${part}[${i}].irq`);
	must(vector >= FIRST_VECTOR || (vector === 0 && masked === 1), 125, record, `${part}[${i}].vector`);
	const known = vectors.get(irq);
	must(!known || !(isMsi || known.isMsi), 125, record, `${part}[${i}].irq`, "another's interrupt");
	must(!known || known.vector === vector, 125, record, `${part}[${i}].vector`, "another vector");
	vectors.set(irq, { vector, isMsi });
}

export function checkIrqs(host: Host): void {
	const record = host.one("LU_IRQS");
	if (!record) return;
	const vectors: Vectors = new Map();
	const pins: Fields[] = record.parts.IoapicPins;
	for (const [i, pin] of pins.entries()) {
		const before = pins[i - 1];
		const follows = !before || pin.ioapic > before.ioapic || (pin.ioapic === before.ioapic && pin.pin > before.pin);
		must(follows, 125, record, `IoapicPins[${i}].ioapic`);
		mustBeFlags(125, record, "IoapicPins", i, ["trigger", "polarity", "masked"]);
		takeVector(vectors, record, "IoapicPins", i, false);
	}
	const devices: Fields[] | undefined = host.one("LU_DEVICES")?.parts.DeviceList;
	const listed = devices && new Set(devices.map(pci));
	const msis: Fields[] = record.parts.Msis;
	for (const [i, msi] of msis.entries()) {
		mustBeFlags(125, record, "Msis", i, ["msix", "masked"]);
		must(msi.entry < (msi.msix ? MSIX_ENTRIES : 1), 125, record, `Msis[${i}].entry`);
		const before = msis[i - 1];
		if (before) {
			must(pci(msi) >= pci(before), 125, record, `Msis[${i}].segment`);
			if (pci(msi) === pci(before)) {
				must(msi.msix === before.msix, 125, record, `Msis[${i}].msix`);
				must(!msi.msix || msi.entry > before.entry, 125, record, `Msis[${i}].entry`);
				must(msi.msix || msi.irq > before.irq, 125, record, `Msis[${i}].irq`);
			}
		}
		takeVector(vectors, record, "Msis", i, true);
		must(!listed || hasDevice(devices, listed, pci(msi)), 127, record, `Msis[${i}].segment`);
	}
	const owners: Fields[] = record.parts.IrqOwners;
	for (const [i, { irq, domid, shared }] of owners.entries()) {
		must(host.domains.has(domid), 43, record, `IrqOwners[${i}].domid`);
		mustBeFlags(126, record, "IrqOwners", i, ["shared"]);
		must(vectors.has(irq), 126, record, `IrqOwners[${i}].irq`);
		const before = owners[i - 1];
		must(!before || irq >= before.irq, 126, record, `IrqOwners[${i}].irq`);
		if (before?.irq !== irq) continue;
		must(domid > before.domid, 126, record, `IrqOwners[${i}].domid`);
		must(shared === 1 && before.shared === 1, 126, record, `IrqOwners[${i}].shared`);
	}
	for (const domain of host.inOrder) {
		const pirqs = domain.one("LU_PIRQS");
		for (const [i, { irq }] of (pirqs?.parts.PirqList ?? []).entries()) {
			const isBound = owners.some((owner) => owner.irq === irq && owner.domid === domain.domid);
			must(irq === NO_IRQ || isBound, 126, pirqs, `PirqList[${i}].irq`);
		}
	}
}

/** In a list that does not ascend, which is refused later, a device counts as listed only where halving finds it. */
function hasDevice(devices: Fields[], listed: Set<number>, key: number): boolean {
	if (!listed.has(key)) return false;
	let [low, high] = [0, devices.length];
	while (low < high) {
		const middle = (low + high) >>> 1;
		const found = pci(devices[middle]!);
		if (found === key) return true;
		if (found < key) low = middle + 1;
		else high = middle;
	}
	return false;
}

export function checkDevices(host: Host): void {
	const record = host.one("LU_DEVICES");
	if (!record) return;
	const mustExist = (part: string, i: number) => {
		const { domid } = record.parts[part][i];
		must(host.domains.has(domid) || domid === DOMID_IO || domid === DOMID_XEN, 43, record, `${part}[${i}].domid`);
	};
	const mustStay = (part: string, i: number, field: string) => {
		const mfn: bigint = record.parts[part][i][field];
		const stays = mfn < host.frameCount && host.firstReserved(mfn, mfn + 1n) !== undefined;
		must(stays, 128, record, `${part}[${i}].${field}`);
	};
	const devices: Fields[] = record.parts.DeviceList;
	for (const [i, device] of devices.entries()) {
		must(i === 0 || pci(device) > pci(devices[i - 1]!), 127, record, `DeviceList[${i}].segment`);
		mustExist("DeviceList", i);
		must([0, 1, 2, 4].includes(device.phantomStride), 127, record, `DeviceList[${i}].phantomStride`);
	}
	const units: Fields[] = record.parts.IommuUnits;
	for (const [i, { unit, format, remapMfn }] of units.entries()) {
		must(i === 0 || unit > units[i - 1]!.unit, 128, record, `IommuUnits[${i}].unit`);
		must(format === 3 || format === 4, 128, record, `IommuUnits[${i}].format`);
		mustStay("IommuUnits", i, "rootMfn");
		if (remapMfn !== ALL_ONES) mustStay("IommuUnits", i, "remapMfn");
	}
	const contexts: Fields[] = record.parts.IommuDomains;
	for (const [i, { unit, hardwareId, levels }] of contexts.entries()) {
		const before = contexts[i - 1];
		const follows = !before || unit > before.unit || (unit === before.unit && hardwareId > before.hardwareId);
		must(follows && units.some((one) => one.unit === unit), 128, record, `IommuDomains[${i}].unit`);
		must(hardwareId < 65536, 128, record, `IommuDomains[${i}].hardwareId`);
		mustExist("IommuDomains", i);
		must(levels >= 2 && levels <= 6, 128, record, `IommuDomains[${i}].levels`);
		mustStay("IommuDomains", i, "rootMfn");
	}
	const maps: Fields[] = record.parts.IdentityMaps;
	for (const [i, { domid, writable, firstMfn, frameCount }] of maps.entries()) {
		mustExist("IdentityMaps", i);
		must(writable <= 1, 128, record, `IdentityMaps[${i}].writable`);
		must(firstMfn < MEMORY_FRAMES, 128, record, `IdentityMaps[${i}].firstMfn`);
		const fits = frameCount > 0n && frameCount <= MEMORY_FRAMES - firstMfn;
		must(fits, 128, record, `IdentityMaps[${i}].frameCount`);
		const before = maps[i - 1];
		if (!before) continue;
		must(domid >= before.domid, 128, record, `IdentityMaps[${i}].domid`);
		const isApart = domid > before.domid || firstMfn >= before.firstMfn + before.frameCount;
		must(isApart, 128, record, `IdentityMaps[${i}].firstMfn`);
	}
	for (const [i, map] of maps.entries()) mustAgree(host, record, map, i);
	const remaps: Fields[] = record.parts.RemapEntries;
	for (const [i, { unit, index }] of remaps.entries()) {
		const before = remaps[i - 1];
		const follows = !before || unit > before.unit || (unit === before.unit && index > before.index);
		const hasTable = units.some((one) => one.unit === unit && one.remapMfn !== ALL_ONES);
		must(follows && hasTable, 128, record, `RemapEntries[${i}].unit`);
		must(index < 65536, 128, record, `RemapEntries[${i}].index`);
	}
}

/** Where the domain's P2M has a frame in an identity map, it is the frame of that number. */
function mustAgree(host: Host, record: StreamRecord, { domid, firstMfn, frameCount }: Fields, i: number): void {
	for (const slice of host.domains.get(domid)?.all("LU_P2M") ?? []) {
		for (const { first, count, entry } of slice.parts.P2m) {
			if (!(entry >> 63n) || first + count <= firstMfn || first >= firstMfn + frameCount) continue;
			must((entry & (MEMORY_FRAMES - 1n)) === first, 128, record, `IdentityMaps[${i}].firstMfn`);
		}
	}
}
