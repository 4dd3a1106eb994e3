/**
 * LU_IRQS and LU_DEVICES: who has an interrupt, a device, an IOMMU's context. Rows ascend by what names them, so that one
 * that stands twice is next to itself and everything is found by one walk, or by halving.
 */
import { at, context, cursorOf, fail } from "../context";
import { RunCursor, runsNext, runsOpen } from "../extent/decode";
import * as L from "../layout.gen";
import { bodyBytes, bodyOf, partFrom, recordBytes } from "../record";
import {
	DOMID_SLOTS,
	defOf,
	domidCountsAt,
	findRecord,
	MARK_RESERVED,
	ownerEntry,
	planAt,
	planOf,
	sectionEnd,
	sectionFirst,
} from "../sections";
import { exists } from "./sections";

/** Host interrupts are below this, as a page of bits (the PIRQ EOI map) has it. */
const IRQS: u32 = DOMID_SLOTS;
/** Vectors below are the processor's exceptions, or not deliverable (Intel SDM volume 3, 11.5.2). */
const FIRST_VECTOR: u32 = 16;
/** Entries of an MSI-X table (PCI 3.0, 6.8.2.3). */
const MSIX_ENTRIES: u32 = 2048;
const REMAP_ENTRIES: u32 = 65536;
const HARDWARE_IDS: u32 = 65536;
const LEAST_LEVELS: u32 = 2;
const MOST_LEVELS: u32 = 6;
const MFN_MASK: u64 = 0xff_ffff_ffff;
/** Of a host interrupt, while the record is walked: by what it comes, and its vector. */
const BY_PIN: u32 = 0x100;
const BY_MSI: u32 = 0x200;

/** A flag of one octet. */
function isFlag(value: u32): bool {
	return value <= 1;
}

/** Notes an interrupt's vector, or holds it against what was noted. A masked one may have none. */
function takeVector(
	ctx: usize,
	irqField: usize,
	irq: u32,
	vectorField: usize,
	vector: u32,
	masked: u32,
	by: u32,
): bool {
	if (irq >= IRQS) return fail(ctx, L.RULE_IRQ, irqField, IRQS - 1, irq);
	if (vector < FIRST_VECTOR && (vector != 0 || masked == 0))
		return fail(ctx, L.RULE_IRQ, vectorField, FIRST_VECTOR, vector);
	const known = domidCountsAt(ctx) + irq * 4;
	const before = load<u32>(known);
	// Several pins may be wired to one interrupt; an MSI has its own.
	if (before != 0 && (by == BY_MSI || (before & BY_MSI) != 0)) return fail(ctx, L.RULE_IRQ, irqField, 0, irq);
	if (before != 0 && (before & 0xff) != vector) return fail(ctx, L.RULE_IRQ, vectorField, before & 0xff, vector);
	store<u32>(known, by | vector);
	return true;
}

function checkPins(ctx: usize, record: usize, count: u32): bool {
	const rows = partFrom(L.RECORD_LU_IRQS, record, 0);
	let next: u64 = 0;
	for (let i: u32 = 0; i < count; i++) {
		const row = rows + i * L.IOAPIC_PIN_BYTES;
		const pin = changetype<L.IoapicPin>(row);
		const key = ((<u64>pin.ioapic) << 32) | pin.pin;
		if (key < next) return fail(ctx, L.RULE_IRQ, row, next, key);
		next = key + 1;
		if (!isFlag(pin.trigger)) return fail(ctx, L.RULE_IRQ, row + L.IOAPIC_PIN__TRIGGER, 1, pin.trigger);
		if (!isFlag(pin.polarity)) return fail(ctx, L.RULE_IRQ, row + L.IOAPIC_PIN__POLARITY, 1, pin.polarity);
		if (!isFlag(pin.masked)) return fail(ctx, L.RULE_IRQ, row + L.IOAPIC_PIN__MASKED, 1, pin.masked);
		const field = row + L.IOAPIC_PIN__IRQ;
		if (!takeVector(ctx, field, pin.irq, row + L.IOAPIC_PIN__VECTOR, pin.vector, pin.masked, BY_PIN)) return false;
	}
	return true;
}

/** A PCI function as one number. Device and Msi begin with the same fields. */
function pciKey(row: usize): u32 {
	const device = changetype<L.Device>(row);
	return ((<u32>device.segment) << 16) | ((<u32>device.bus) << 8) | device.devfn;
}

/** Whether a device is in LU_DEVICES, by halving. Its rows ascend or will be refused. */
function hasDevice(devices: usize, key: u32): bool {
	const rows = partFrom(L.RECORD_LU_DEVICES, devices, 0);
	let low: u32 = 0;
	let high = load<u32>(bodyOf(devices), L.DEVICES__DEVICE_COUNT);
	while (low < high) {
		const middle = (low + high) >>> 1;
		const found = pciKey(rows + middle * L.DEVICE_BYTES);
		if (found == key) return true;
		if (found < key) low = middle + 1;
		else high = middle;
	}
	return false;
}

function checkMsis(ctx: usize, record: usize, count: u32, devices: usize): bool {
	const rows = partFrom(L.RECORD_LU_IRQS, record, 1);
	for (let i: u32 = 0; i < count; i++) {
		const row = rows + i * L.MSI_BYTES;
		const msi = changetype<L.Msi>(row);
		if (!isFlag(msi.msix)) return fail(ctx, L.RULE_IRQ, row + L.MSI__MSIX, 1, msi.msix);
		if (!isFlag(msi.masked)) return fail(ctx, L.RULE_IRQ, row + L.MSI__MASKED, 1, msi.masked);
		const entries: u32 = msi.msix != 0 ? MSIX_ENTRIES : 1;
		if (<u32>msi.entry >= entries) return fail(ctx, L.RULE_IRQ, row + L.MSI__ENTRY, entries - 1, msi.entry);
		if (i != 0) {
			const before = changetype<L.Msi>(row - L.MSI_BYTES);
			const key = pciKey(row);
			const last = pciKey(row - L.MSI_BYTES);
			if (key < last) return fail(ctx, L.RULE_IRQ, row, last, key);
			if (key == last) {
				if (msi.msix != before.msix) return fail(ctx, L.RULE_IRQ, row + L.MSI__MSIX, before.msix, msi.msix);
				if (msi.msix != 0 && msi.entry <= before.entry)
					return fail(ctx, L.RULE_IRQ, row + L.MSI__ENTRY, <u32>before.entry + 1, msi.entry);
				if (msi.msix == 0 && msi.irq <= before.irq)
					return fail(ctx, L.RULE_IRQ, row + L.MSI__IRQ, before.irq + 1, msi.irq);
			}
		}
		if (!takeVector(ctx, row + L.MSI__IRQ, msi.irq, row + L.MSI__VECTOR, msi.vector, msi.masked, BY_MSI)) return false;
		if (devices && !hasDevice(devices, pciKey(row))) return fail(ctx, L.RULE_DEVICE, row, 0, pciKey(row));
	}
	return true;
}

function checkOwners(ctx: usize, record: usize, count: u32): bool {
	const rows = partFrom(L.RECORD_LU_IRQS, record, 2);
	for (let i: u32 = 0; i < count; i++) {
		const row = rows + i * L.IRQ_OWNER_BYTES;
		const owner = changetype<L.IrqOwner>(row);
		if (!exists(ctx, owner.domid)) return fail(ctx, L.RULE_DOMAIN_REFERENCE, row + L.IRQ_OWNER__DOMID, 0, owner.domid);
		if (!isFlag(owner.shared)) return fail(ctx, L.RULE_IRQ_OWNER, row + L.IRQ_OWNER__SHARED, 1, owner.shared);
		if (owner.irq >= IRQS || load<u32>(domidCountsAt(ctx) + owner.irq * 4) == 0)
			return fail(ctx, L.RULE_IRQ_OWNER, row, 0, owner.irq);
		if (i == 0) continue;
		const before = changetype<L.IrqOwner>(row - L.IRQ_OWNER_BYTES);
		if (owner.irq < before.irq) return fail(ctx, L.RULE_IRQ_OWNER, row, before.irq, owner.irq);
		if (owner.irq != before.irq) continue;
		if (owner.domid <= before.domid)
			return fail(ctx, L.RULE_IRQ_OWNER, row + L.IRQ_OWNER__DOMID, <u32>before.domid + 1, owner.domid);
		if ((owner.shared & before.shared) == 0) return fail(ctx, L.RULE_IRQ_OWNER, row + L.IRQ_OWNER__SHARED, 1, 0);
	}
	return true;
}

/** Whether an interrupt is bound to a domain, by halving: owners ascend by interrupt, then domain. */
function isBound(owners: usize, count: u32, irq: u32, domid: u32): bool {
	const key = ((<u64>irq) << 16) | domid;
	let low: u32 = 0;
	let high = count;
	while (low < high) {
		const middle = (low + high) >>> 1;
		const owner = changetype<L.IrqOwner>(owners + middle * L.IRQ_OWNER_BYTES);
		const found = ((<u64>owner.irq) << 16) | owner.domid;
		if (found == key) return true;
		if (found < key) low = middle + 1;
		else high = middle;
	}
	return false;
}

/** A domain's PIRQs that stand for host interrupts. */
function checkPirqOwners(ctx: usize, plan: L.DomainPlan, owners: usize, count: u32): bool {
	const record = findRecord(ctx, plan.section2, L.RECORD_LU_PIRQS);
	if (!record) return true;
	at(ctx, L.PASS_2, plan.domid, record);
	const rows = partFrom(L.RECORD_LU_PIRQS, record, 0);
	for (let i: u32 = 0; i < load<u32>(bodyOf(record), L.PIRQS__PIRQ_COUNT); i++) {
		const irq = changetype<L.Pirq>(rows + i * L.PIRQ_BYTES).irq;
		if (irq != L.NONE32 && !isBound(owners, count, irq, plan.domid))
			return fail(ctx, L.RULE_IRQ_OWNER, rows + i * L.PIRQ_BYTES + L.PIRQ__IRQ, plan.domid, irq);
	}
	return true;
}

/** LU_IRQS, and the PIRQs of all domains against it. */
export function checkIrqs(ctx: usize): bool {
	const record = findRecord(ctx, 0, L.RECORD_LU_IRQS);
	if (!record) return true;
	at(ctx, L.PASS_H, L.DOMID_XEN, record);
	const irqs = changetype<L.Irqs>(bodyOf(record));
	memory.fill(domidCountsAt(ctx), 0, IRQS * 4);
	const devices = findRecord(ctx, 0, L.RECORD_LU_DEVICES);
	if (!checkPins(ctx, record, irqs.pinCount) || !checkMsis(ctx, record, irqs.msiCount, devices)) return false;
	if (!checkOwners(ctx, record, irqs.ownerCount)) return false;
	const owners = partFrom(L.RECORD_LU_IRQS, record, 2);
	for (let i: u32 = 0; i < context(ctx).domainCount; i++)
		if (!checkPirqOwners(ctx, planAt(ctx, i), owners, irqs.ownerCount)) return false;
	return true;
}

function mayOwnDevices(ctx: usize, domid: u32): bool {
	return domid == L.DOMID_IO || domid == L.DOMID_XEN || exists(ctx, domid);
}

function checkDeviceList(ctx: usize, record: usize, count: u32): bool {
	const rows = partFrom(L.RECORD_LU_DEVICES, record, 0);
	let next: u64 = 0;
	for (let i: u32 = 0; i < count; i++) {
		const row = rows + i * L.DEVICE_BYTES;
		const device = changetype<L.Device>(row);
		if (<u64>pciKey(row) < next) return fail(ctx, L.RULE_DEVICE, row, next, pciKey(row));
		next = <u64>pciKey(row) + 1;
		if (!mayOwnDevices(ctx, device.domid))
			return fail(ctx, L.RULE_DOMAIN_REFERENCE, row + L.DEVICE__DOMID, L.DOMID_IO, device.domid);
		// Of a device's 8 functions.
		const stride = <u32>device.phantomStride;
		if (stride > 4 || (stride & (stride - 1)) != 0)
			return fail(ctx, L.RULE_DEVICE, row + L.DEVICE__PHANTOM_STRIDE, 4, stride);
	}
	return true;
}

/** A table that stays in place: its frame is one of those that nobody may use. */
function checkKeptTable(ctx: usize, field: usize, mfn: u64): bool {
	if (mfn >= context(ctx).frameCount) return fail(ctx, L.RULE_IOMMU, field, context(ctx).frameCount, mfn);
	return (ownerEntry(ctx, mfn) & MARK_RESERVED) != 0 || fail(ctx, L.RULE_IOMMU, field, 1, mfn);
}

function checkUnits(ctx: usize, record: usize, count: u32): bool {
	const rows = partFrom(L.RECORD_LU_DEVICES, record, 1);
	let next: u64 = 0;
	for (let i: u32 = 0; i < count; i++) {
		const row = rows + i * L.IOMMU_UNIT_BYTES;
		const unit = changetype<L.IommuUnit>(row);
		if (<u64>unit.unit < next) return fail(ctx, L.RULE_IOMMU, row + L.IOMMU_UNIT__UNIT, next, unit.unit);
		next = <u64>unit.unit + 1;
		if (unit.format != L.KEPT_FORMAT_VTD && unit.format != L.KEPT_FORMAT_AMD_IOMMU)
			return fail(ctx, L.RULE_IOMMU, row + L.IOMMU_UNIT__FORMAT, L.KEPT_FORMAT_AMD_IOMMU, unit.format);
		if (!checkKeptTable(ctx, row + L.IOMMU_UNIT__ROOT_MFN, unit.rootMfn)) return false;
		if (unit.remapMfn != L.NONE64 && !checkKeptTable(ctx, row + L.IOMMU_UNIT__REMAP_MFN, unit.remapMfn)) return false;
	}
	return true;
}

/** The unit of that index at `from` or behind it, `end` if there is none. Units ascend. */
function unitFrom(from: usize, end: usize, index: u32): usize {
	while (from < end && changetype<L.IommuUnit>(from).unit < index) from += L.IOMMU_UNIT_BYTES;
	return from < end && changetype<L.IommuUnit>(from).unit == index ? from : end;
}

function checkContexts(ctx: usize, record: usize, count: u32, units: usize, unitsEnd: usize): bool {
	const rows = partFrom(L.RECORD_LU_DEVICES, record, 2);
	let next: u64 = 0;
	let unit = units;
	for (let i: u32 = 0; i < count; i++) {
		const row = rows + i * L.IOMMU_DOMAIN_BYTES;
		const entry = changetype<L.IommuDomain>(row);
		const key = ((<u64>entry.unit) << 32) | entry.hardwareId;
		if (key < next) return fail(ctx, L.RULE_IOMMU, row + L.IOMMU_DOMAIN__UNIT, next, key);
		next = key + 1;
		unit = unitFrom(unit, unitsEnd, entry.unit);
		if (unit == unitsEnd) return fail(ctx, L.RULE_IOMMU, row + L.IOMMU_DOMAIN__UNIT, 0, entry.unit);
		if (entry.hardwareId >= HARDWARE_IDS)
			return fail(ctx, L.RULE_IOMMU, row + L.IOMMU_DOMAIN__HARDWARE_ID, HARDWARE_IDS - 1, entry.hardwareId);
		if (!mayOwnDevices(ctx, entry.domid))
			return fail(ctx, L.RULE_DOMAIN_REFERENCE, row + L.IOMMU_DOMAIN__DOMID, L.DOMID_IO, entry.domid);
		if (<u32>entry.levels < LEAST_LEVELS || <u32>entry.levels > MOST_LEVELS)
			return fail(ctx, L.RULE_IOMMU, row + L.IOMMU_DOMAIN__LEVELS, MOST_LEVELS, entry.levels);
		if (!checkKeptTable(ctx, row + L.IOMMU_DOMAIN__ROOT_MFN, entry.rootMfn)) return false;
	}
	return true;
}

function checkIdentityMaps(ctx: usize, record: usize, count: u32): bool {
	const rows = partFrom(L.RECORD_LU_DEVICES, record, 3);
	for (let i: u32 = 0; i < count; i++) {
		const row = rows + i * L.IDENTITY_MAP_BYTES;
		const map = changetype<L.IdentityMap>(row);
		if (!mayOwnDevices(ctx, map.domid))
			return fail(ctx, L.RULE_DOMAIN_REFERENCE, row + L.IDENTITY_MAP__DOMID, L.DOMID_IO, map.domid);
		if (map.writable > 1) return fail(ctx, L.RULE_IOMMU, row + L.IDENTITY_MAP__WRITABLE, 1, map.writable);
		// Machine memory need not be the host's RAM, but it has an address.
		if (map.firstMfn > MFN_MASK) return fail(ctx, L.RULE_IOMMU, row, MFN_MASK, map.firstMfn);
		const most = MFN_MASK + 1 - map.firstMfn;
		if (map.frameCount == 0 || map.frameCount > most)
			return fail(ctx, L.RULE_IOMMU, row + L.IDENTITY_MAP__FRAME_COUNT, most, map.frameCount);
		if (i == 0) continue;
		const before = changetype<L.IdentityMap>(row - L.IDENTITY_MAP_BYTES);
		if (map.domid < before.domid) return fail(ctx, L.RULE_IOMMU, row + L.IDENTITY_MAP__DOMID, before.domid, map.domid);
		if (map.domid == before.domid && map.firstMfn < before.firstMfn + before.frameCount)
			return fail(ctx, L.RULE_IOMMU, row, before.firstMfn + before.frameCount, map.firstMfn);
	}
	return checkIdentities(ctx, rows, rows + count * L.IDENTITY_MAP_BYTES);
}

/** The domains that have identity maps, one after the other: those of a domain ascend, as does its P2M. */
function checkIdentities(ctx: usize, from: usize, end: usize): bool {
	while (from < end) {
		const domid = changetype<L.IdentityMap>(from).domid;
		let next = from;
		while (next < end && changetype<L.IdentityMap>(next).domid == domid) next += L.IDENTITY_MAP_BYTES;
		const plan = planOf(ctx, domid);
		if (plan && !checkIdentity(ctx, plan, from, next)) return false;
		from = next;
	}
	return true;
}

/** Where a P2M has an entry in an identity map, it is that frame: the device and the guest see the same. */
function checkIdentity(ctx: usize, plan: L.DomainPlan, map: usize, mapsEnd: usize): bool {
	const cursor = changetype<RunCursor>(cursorOf(ctx));
	const end = sectionEnd(ctx, plan.section0);
	for (let record = sectionFirst(ctx, plan.section0); record < end; record += recordBytes(record)) {
		if (defOf(record) != L.RECORD_LU_P2M) continue;
		const body = bodyOf(record);
		const chunks = partFrom(L.RECORD_LU_P2M, record, 0);
		const slice = load<u64>(body, L.P2M_SLICE__FIRST_GFN);
		runsOpen(cursor, 8, chunks, <u32>(body + bodyBytes(record) - chunks), load<u32>(body, L.P2M_SLICE__ENTRY_COUNT));
		while (runsNext(cursor)) {
			const value = cursor.value;
			if (value >> 63 == 0) continue;
			const first = slice + cursor.first;
			const last = first + cursor.length - 1;
			while (map < mapsEnd && lastOf(map) < first) map += L.IDENTITY_MAP_BYTES;
			if (map == mapsEnd) return true;
			// The next run may meet the same map, this one others behind it: all of them are alike.
			if (changetype<L.IdentityMap>(map).firstMfn <= last && (value & MFN_MASK) != first) {
				const gfn = max<u64>(first, changetype<L.IdentityMap>(map).firstMfn);
				return fail(ctx, L.RULE_IOMMU, map, gfn, (value & MFN_MASK) + (gfn - first));
			}
		}
	}
	return true;
}

function lastOf(map: usize): u64 {
	return changetype<L.IdentityMap>(map).firstMfn + changetype<L.IdentityMap>(map).frameCount - 1;
}

function checkRemaps(ctx: usize, record: usize, count: u32, units: usize, unitsEnd: usize): bool {
	const rows = partFrom(L.RECORD_LU_DEVICES, record, 4);
	let next: u64 = 0;
	let unit = units;
	for (let i: u32 = 0; i < count; i++) {
		const row = rows + i * L.REMAP_ENTRY_BYTES;
		const entry = changetype<L.RemapEntry>(row);
		const key = ((<u64>entry.unit) << 32) | entry.index;
		if (key < next) return fail(ctx, L.RULE_IOMMU, row, next, key);
		next = key + 1;
		unit = unitFrom(unit, unitsEnd, entry.unit);
		if (unit == unitsEnd || changetype<L.IommuUnit>(unit).remapMfn == L.NONE64)
			return fail(ctx, L.RULE_IOMMU, row, 0, entry.unit);
		if (entry.index >= REMAP_ENTRIES)
			return fail(ctx, L.RULE_IOMMU, row + L.REMAP_ENTRY__INDEX, REMAP_ENTRIES - 1, entry.index);
	}
	return true;
}

/** LU_DEVICES, whose kept frames are reserved already. */
export function checkDevices(ctx: usize): bool {
	const record = findRecord(ctx, 0, L.RECORD_LU_DEVICES);
	if (!record) return true;
	at(ctx, L.PASS_H, L.DOMID_XEN, record);
	const devices = changetype<L.Devices>(bodyOf(record));
	const units = partFrom(L.RECORD_LU_DEVICES, record, 1);
	const unitsEnd = units + devices.unitCount * L.IOMMU_UNIT_BYTES;
	return (
		checkDeviceList(ctx, record, devices.deviceCount) &&
		checkUnits(ctx, record, devices.unitCount) &&
		checkContexts(ctx, record, devices.contextCount, units, unitsEnd) &&
		checkIdentityMaps(ctx, record, devices.identityCount) &&
		checkRemaps(ctx, record, devices.remapCount, units, unitsEnd)
	);
}
