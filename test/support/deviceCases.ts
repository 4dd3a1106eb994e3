/**
 * Cases of rules 120 and up: entries of the HVM context, XSAVE areas, interrupts, devices and IOMMUs; and what these parts
 * break of other rules. As in ruleCases.ts, each breaks exactly the rule it is listed under.
 */
import { NONE64 } from "../../src/format/enums.ts";
import type { DomainModel, HostModel } from "../../src/machine/model.ts";
import type { Restitched } from "./restitch.ts";
import type { RuleCase } from "./ruleCases.ts";

function domain(model: HostModel, domid: number): DomainModel {
	return model.domains.find((one) => one.domain.domid === domid) as DomainModel;
}

type Entry = [type: number, instance: number, length: number, fill?: (body: DataView) => void];

const HEADER: Entry = [1, 0, 24, (body) => body.setUint32(0, 0x5438_1286, true)];

/** HEADER, the entries, END. */
export function hvmContext(entries: Entry[]): Uint8Array {
	const all: Entry[] = [HEADER, ...entries, [0, 0, 0]];
	const octets = new Uint8Array(all.reduce((sum, [, , length]) => sum + 8 + length, 0));
	let at = 0;
	for (const [type, instance, length, fill] of all) {
		const view = new DataView(octets.buffer, at, 8 + length);
		view.setUint16(0, type, true);
		view.setUint16(2, instance, true);
		view.setUint32(4, length, true);
		fill?.(new DataView(octets.buffer, at + 8, length));
		at += 8 + length;
	}
	return octets;
}

/** Puts such a context in the place of the HVM guest's, up to an octet counted from its end. */
const withContext = (entries: Entry[], end?: number) => (s: Restitched) => {
	s.record("HVM_CONTEXT").body = hvmContext(entries).slice(0, end);
};

/** hvm_hw_cpu_xsave: what the host has, XCR0 now and ever, and the components that the area's header names. */
function extendedState(body: DataView, mask: bigint, xcr0: bigint, ever: bigint, header: bigint): void {
	for (const [i, value] of [mask, xcr0, ever].entries()) body.setBigUint64(8 * i, value, true);
	body.setBigUint64(24 + 512, header, true);
}

/** The same of a X86_PV_VCPU_XSAVE. */
function pvXcr0(body: DataView, xcr0: bigint, ever: bigint, header: bigint): void {
	body.setBigUint64(8, xcr0, true);
	body.setBigUint64(16, ever, true);
	body.setBigUint64(24 + 512, header, true);
}

export const deviceCases: RuleCase[] = [
	{
		rule: "HVM_ENTRY",
		what: "a type that no Xen has",
		fault: "2/2 HVM_CONTEXT.HvmContext[32]: 20, not 21",
		stream: withContext([[21, 0, 8]]),
	},
	{
		rule: "HVM_ENTRY",
		what: "a CPU of a length that no version has",
		fault: "2/2 HVM_CONTEXT.HvmContext[36]: 1016, not 1028",
		stream: withContext([[2, 0, 1028]]),
	},
	{
		rule: "HVM_ENTRY",
		what: "an IOAPIC that is longer",
		fault: "2/2 HVM_CONTEXT.HvmContext[36]: 400, not 408",
		stream: withContext([[4, 0, 408]]),
	},
	{
		rule: "HVM_ENTRY",
		what: "an extended state without its header",
		fault: "2/2 HVM_CONTEXT.HvmContext[36]: 600, not 599",
		stream: withContext([[16, 0, 599]]),
	},
	{
		rule: "HVM_ENTRY",
		what: "MSRs that end within a row",
		fault: "2/2 HVM_CONTEXT.HvmContext[36]: 8, not 20",
		stream: withContext([[20, 0, 20]]),
	},
	{
		rule: "HVM_ENTRY",
		what: "MSRs that count another number of rows",
		fault: "2/2 HVM_CONTEXT.HvmContext[40]: 1, not 0",
		stream: withContext([[20, 0, 24]]),
	},
	{
		rule: "HVM_ENTRY",
		what: "an END with octets",
		fault: "2/2 HVM_CONTEXT.HvmContext[36]: 0, not 8",
		stream: withContext([[0, 0, 8]], -8),
	},
	{
		rule: "HVM_INSTANCE",
		what: "a second IOAPIC",
		fault: "2/2 HVM_CONTEXT.HvmContext[442]: 0, not 1",
		stream: withContext([
			[4, 0, 400],
			[4, 1, 400],
		]),
	},
	{
		rule: "HVM_INSTANCE",
		what: "a third PIC",
		fault: "2/2 HVM_CONTEXT.HvmContext[66]: 1, not 2",
		stream: withContext([
			[3, 0, 8],
			[3, 1, 8],
			[3, 2, 8],
		]),
	},
	{
		rule: "HVM_INSTANCE",
		what: "a local APIC of a vCPU that does not exist",
		fault: "2/2 HVM_CONTEXT.HvmContext[32]: 3, not 1",
		stream: withContext([[5, 1, 24]]),
	},
	{
		rule: "HVM_INSTANCE",
		what: "MSRs of a vCPU beyond the last one",
		fault: "2/2 HVM_CONTEXT.HvmContext[32]: 3, not 3",
		stream: withContext([[20, 3, 8]]),
	},
	{
		rule: "HVM_INSTANCE",
		what: "HEADER twice",
		fault: "2/2 HVM_CONTEXT.HvmContext[32]: 1, not 2",
		stream: withContext([HEADER]),
	},
	{
		rule: "HVM_INSTANCE",
		what: "the IOAPIC twice",
		fault: "2/2 HVM_CONTEXT.HvmContext[440]: 1, not 2",
		stream: withContext([
			[4, 0, 400],
			[4, 0, 400],
		]),
	},
	{
		rule: "HVM_INSTANCE",
		what: "registers of one vCPU twice",
		fault: "2/2 HVM_CONTEXT.HvmContext[1072]: 1, not 2",
		stream: withContext([
			[2, 0, 1032],
			[2, 0, 1032],
		]),
	},
	{
		rule: "VCPU_CONTEXT",
		what: "a vCPU of an HVM guest that is up and has no registers",
		fault: "2/2 LU_VCPU.flags: 1, not 0",
		stream: withContext([]),
	},
	{
		rule: "HVM_INSTANCE",
		what: "registers of a vCPU that is down",
		fault: "2/2 HVM_CONTEXT.HvmContext[34]: 0, not 2",
		stream: withContext([[2, 2, 1032]]),
	},
	{
		rule: "XSAVE",
		what: "an HVM guest's component that was never enabled",
		fault: "2/2 HVM_CONTEXT.HvmContext[576]: 3, not 7",
		stream: withContext([
			[
				16,
				0,
				600,
				(v) => {
					extendedState(v, 7n, 3n, 3n, 7n);
				},
			],
		]),
	},
	{
		rule: "XSAVE",
		what: "an HVM guest's component that its host did not have",
		fault: "2/2 HVM_CONTEXT.HvmContext[56]: 3, not 7",
		stream: withContext([
			[
				16,
				0,
				600,
				(v) => {
					extendedState(v, 3n, 7n, 7n, 3n);
				},
			],
		]),
	},
	{
		rule: "XSAVE",
		what: "an area in the compacted form",
		fault: "2/2 HVM_CONTEXT.HvmContext[584]: 0, not 9223372036854775808",
		stream: withContext([
			[
				16,
				0,
				600,
				(v) => {
					extendedState(v, 7n, 3n, 3n, 3n);
					v.setBigUint64(24 + 512 + 8, 1n << 63n, true);
				},
			],
		]),
	},
	{
		rule: "XSAVE",
		what: "a header with reserved octets",
		fault: "2/2 HVM_CONTEXT.HvmContext[632]: 0, not 72057594037927936",
		stream: withContext([
			[
				16,
				0,
				600,
				(v) => {
					extendedState(v, 7n, 3n, 3n, 3n);
					v.setUint8(24 + 512 + 63, 1);
				},
			],
		]),
	},
	{
		rule: "XCR0",
		what: "AVX without SSE",
		fault: "2/1 X86_PV_VCPU_XSAVE.PvXsave[0]: 1, not 5",
		stream: (s) => void pvXcr0(s.record("X86_PV_VCPU_XSAVE", 1).view, 5n, 5n, 1n),
	},
	{
		rule: "XCR0",
		what: "half of MPX",
		fault: "2/1 X86_PV_VCPU_XSAVE.PvXsave[0]: 1, not 11",
		stream: (s) => void pvXcr0(s.record("X86_PV_VCPU_XSAVE", 1).view, 0xbn, 0xbn, 3n),
	},
	{
		rule: "XCR0",
		what: "a part of AVX-512",
		fault: "2/1 X86_PV_VCPU_XSAVE.PvXsave[0]: 1, not 39",
		stream: (s) => void pvXcr0(s.record("X86_PV_VCPU_XSAVE", 1).view, 0x27n, 0x27n, 3n),
	},
	{
		rule: "XCR0",
		what: "AVX-512 without AVX",
		fault: "2/1 X86_PV_VCPU_XSAVE.PvXsave[0]: 1, not 227",
		stream: (s) => void pvXcr0(s.record("X86_PV_VCPU_XSAVE", 1).view, 0xe3n, 0xe3n, 3n),
	},
	{
		rule: "XCR0",
		what: "half of AMX",
		fault: "2/1 X86_PV_VCPU_XSAVE.PvXsave[0]: 1, not 131075",
		stream: (s) => void pvXcr0(s.record("X86_PV_VCPU_XSAVE", 1).view, 0x2_0003n, 0x2_0003n, 3n),
	},
	{
		rule: "XCR0",
		what: "what was ever enabled is no value",
		fault: "2/1 X86_PV_VCPU_XSAVE.PvXsave[8]: 1, not 11",
		stream: (s) => void pvXcr0(s.record("X86_PV_VCPU_XSAVE", 1).view, 3n, 0xbn, 3n),
	},
	{
		rule: "XCR0",
		what: "an HVM guest's AVX without SSE",
		fault: "2/2 HVM_CONTEXT.HvmContext[48]: 1, not 5",
		stream: withContext([
			[
				16,
				0,
				600,
				(v) => {
					extendedState(v, 7n, 5n, 5n, 1n);
				},
			],
		]),
	},
	{
		rule: "XCR0",
		what: "a component that the policy does not have",
		fault: "2/1 X86_PV_VCPU_XSAVE.PvXsave[8]: 3, not 7",
		model: (m) => {
			domain(m, 1).cpuidLeaves = [{ leaf: 0xd, subleaf: 0, eax: 3 }];
		},
		stream: (s) => void pvXcr0(s.record("X86_PV_VCPU_XSAVE", 1).view, 7n, 7n, 3n),
	},
	{
		rule: "XCR0",
		what: "a component that the policy has without a size",
		fault: "2/1 X86_PV_VCPU_XSAVE.PvXsave[8]: 2, not 0",
		model: (m) => {
			domain(m, 1).cpuidLeaves = [{ leaf: 0xd, subleaf: 0, eax: 7 }];
		},
		stream: (s) => void pvXcr0(s.record("X86_PV_VCPU_XSAVE", 1).view, 7n, 7n, 3n),
	},
	{
		rule: "XCR0",
		what: "an area that ends before a component does",
		fault: "2/1 X86_PV_VCPU_XSAVE.PvXsave[0]: 848, not 592",
		model: (m) => {
			domain(m, 1).cpuidLeaves = [
				{ leaf: 0xd, subleaf: 0, eax: 7 },
				{ leaf: 0xd, subleaf: 2, eax: 256, ebx: 576 },
			];
		},
		stream: (s) => void pvXcr0(s.record("X86_PV_VCPU_XSAVE", 1).view, 7n, 7n, 3n),
	},
	{
		rule: "IRQ",
		what: "an unknown trigger",
		fault: "H/host LU_IRQS.IoapicPins[0].trigger: 1, not 2",
		stream: (s) => void s.record("LU_IRQS").row("IoapicPins", 0, "trigger", 2),
	},
	{
		rule: "IRQ",
		what: "an unknown polarity",
		fault: "H/host LU_IRQS.IoapicPins[0].polarity: 1, not 2",
		stream: (s) => void s.record("LU_IRQS").row("IoapicPins", 0, "polarity", 2),
	},
	{
		rule: "IRQ",
		what: "a mask of two",
		fault: "H/host LU_IRQS.IoapicPins[0].masked: 1, not 2",
		stream: (s) => void s.record("LU_IRQS").row("IoapicPins", 0, "masked", 2),
	},
	{
		rule: "IRQ",
		what: "an interrupt beyond all",
		fault: "H/host LU_IRQS.IoapicPins[0].irq: 32767, not 32768",
		stream: (s) => void s.record("LU_IRQS").row("IoapicPins", 0, "irq", 32768),
	},
	{
		rule: "IRQ",
		what: "a vector of an exception",
		fault: "H/host LU_IRQS.IoapicPins[0].vector: 16, not 15",
		stream: (s) => void s.record("LU_IRQS").row("IoapicPins", 0, "vector", 15),
	},
	{
		rule: "IRQ",
		what: "no vector, and not masked",
		fault: "H/host LU_IRQS.IoapicPins[0].vector: 16, not 0",
		stream: (s) => void s.record("LU_IRQS").row("IoapicPins", 0, "vector", 0),
	},
	{
		rule: "IRQ",
		what: "a pin twice",
		fault: "H/host LU_IRQS.IoapicPins[1].ioapic: 10, not 9",
		model: (m) => {
			m.ioapicPins = [
				{ ioapic: 0, pin: 9, irq: 9, vector: 0x30, trigger: 1, polarity: 1 },
				{ ioapic: 0, pin: 9, irq: 9, vector: 0x30, trigger: 1, polarity: 1 },
			];
		},
	},
	{
		rule: "IRQ",
		what: "two vectors of one interrupt",
		fault: "H/host LU_IRQS.IoapicPins[1].vector: 48, not 49",
		model: (m) => {
			m.ioapicPins = [
				{ ioapic: 0, pin: 9, irq: 9, vector: 0x30, trigger: 1, polarity: 1 },
				{ ioapic: 0, pin: 10, irq: 9, vector: 0x31 },
			];
		},
	},
	{
		rule: "IRQ",
		what: "an MSI of an unknown kind",
		fault: "H/host LU_IRQS.Msis[0].msix: 1, not 2",
		stream: (s) => void s.record("LU_IRQS").row("Msis", 0, "msix", 2),
	},
	{
		rule: "IRQ",
		what: "an MSI's mask of two",
		fault: "H/host LU_IRQS.Msis[0].masked: 1, not 2",
		stream: (s) => void s.record("LU_IRQS").row("Msis", 0, "masked", 2),
	},
	{
		rule: "IRQ",
		what: "an entry beyond any MSI-X table",
		fault: "H/host LU_IRQS.Msis[0].entry: 2047, not 2048",
		stream: (s) => void s.record("LU_IRQS").row("Msis", 0, "entry", 2048),
	},
	{
		rule: "IRQ",
		what: "an MSI that is a pin's interrupt",
		fault: "H/host LU_IRQS.Msis[0].irq: 0, not 9",
		stream: (s) => void s.record("LU_IRQS").row("Msis", 0, "irq", 9),
	},
	{
		rule: "IRQ",
		what: "an MSI without a vector",
		fault: "H/host LU_IRQS.Msis[0].vector: 16, not 0",
		stream: (s) => void s.record("LU_IRQS").row("Msis", 0, "vector", 0),
	},
	{
		rule: "IRQ",
		what: "an entry of an MSI, which has no table",
		fault: "H/host LU_IRQS.Msis[0].entry: 0, not 1",
		stream: (s) => void s.record("LU_IRQS").row("Msis", 0, "msix", 0).row("Msis", 0, "entry", 1),
	},
	{
		rule: "IRQ",
		what: "a device with MSI and MSI-X",
		fault: "H/host LU_IRQS.Msis[1].msix: 0, not 1",
		model: (m) => {
			m.msis = [
				{ bus: 3, devfn: 8, irq: 24, vector: 0x51, msix: 0, entry: 0 },
				{ bus: 3, devfn: 8, irq: 25, vector: 0x52, msix: 1, entry: 0 },
			];
		},
	},
	{
		rule: "IRQ",
		what: "an entry of an MSI-X table twice",
		fault: "H/host LU_IRQS.Msis[1].entry: 2, not 1",
		model: (m) => {
			m.msis = [
				{ bus: 3, devfn: 8, irq: 24, vector: 0x51, msix: 1, entry: 1 },
				{ bus: 3, devfn: 8, irq: 25, vector: 0x52, msix: 1, entry: 1 },
			];
		},
	},
	{
		rule: "IRQ",
		what: "an MSI's interrupt twice",
		fault: "H/host LU_IRQS.Msis[1].irq: 25, not 24",
		model: (m) => {
			m.msis = [
				{ bus: 3, devfn: 8, irq: 24, vector: 0x51, msix: 0, entry: 0 },
				{ bus: 3, devfn: 8, irq: 24, vector: 0x51, msix: 0, entry: 0 },
			];
		},
	},
	{
		rule: "IRQ",
		what: "two MSI-X entries with one interrupt",
		fault: "H/host LU_IRQS.Msis[1].irq: 0, not 24",
		model: (m) => {
			m.msis = [
				{ bus: 3, devfn: 8, irq: 24, vector: 0x51, msix: 1, entry: 0 },
				{ bus: 3, devfn: 8, irq: 24, vector: 0x51, msix: 1, entry: 1 },
			];
		},
	},
	{
		rule: "IRQ",
		what: "MSIs that do not ascend",
		fault: "H/host LU_IRQS.Msis[1].segment: 776, not 512",
		model: (m) => {
			m.msis = [
				{ bus: 3, devfn: 8, irq: 24, vector: 0x51, msix: 1, entry: 0 },
				{ bus: 2, irq: 25, vector: 0x52 },
			];
		},
	},
	{
		rule: "DOMAIN_REFERENCE",
		what: "an interrupt of a domain that does not exist",
		fault: "H/host LU_IRQS.IrqOwners[0].domid: 0, not 99",
		stream: (s) => void s.record("LU_IRQS").row("IrqOwners", 0, "domid", 99),
	},
	{
		rule: "IRQ_OWNER",
		what: "an interrupt that is no pin's and no MSI's",
		fault: "H/host LU_IRQS.IrqOwners[0].irq: 0, not 25",
		stream: (s) => void s.record("LU_IRQS").row("IrqOwners", 0, "irq", 25),
	},
	{
		rule: "IRQ_OWNER",
		what: "a bound interrupt beyond all",
		fault: "H/host LU_IRQS.IrqOwners[0].irq: 0, not 32768",
		stream: (s) => void s.record("LU_IRQS").row("IrqOwners", 0, "irq", 32768),
	},
	{
		rule: "IRQ_OWNER",
		what: "shared in an unknown way",
		fault: "H/host LU_IRQS.IrqOwners[0].shared: 1, not 2",
		stream: (s) => void s.record("LU_IRQS").row("IrqOwners", 0, "shared", 2),
	},
	{
		rule: "IRQ_OWNER",
		what: "two owners of an interrupt that is not shared",
		fault: "H/host LU_IRQS.IrqOwners[1].shared: 1, not 0",
		model: (m) => {
			m.irqOwners = [
				{ irq: 9, domid: 0 },
				{ irq: 9, domid: 1 },
			];
		},
	},
	{
		rule: "IRQ_OWNER",
		what: "one owner twice",
		fault: "H/host LU_IRQS.IrqOwners[1].domid: 1, not 0",
		model: (m) => {
			m.irqOwners = [
				{ irq: 9, domid: 0, shared: 1 },
				{ irq: 9, domid: 0, shared: 1 },
			];
		},
	},
	{
		rule: "IRQ_OWNER",
		what: "owners that do not ascend",
		fault: "H/host LU_IRQS.IrqOwners[1].irq: 24, not 9",
		model: (m) => {
			m.irqOwners = [
				{ irq: 24, domid: 0 },
				{ irq: 9, domid: 0 },
			];
		},
	},
	{
		rule: "IRQ_OWNER",
		what: "a PIRQ whose interrupt is another domain's",
		fault: "2/0 LU_PIRQS.PirqList[0].irq: 0, not 9",
		stream: (s) => void s.record("LU_IRQS").row("IrqOwners", 0, "domid", 1),
	},
	{
		rule: "DEVICE",
		what: "an MSI of a device that is not listed",
		fault: "H/host LU_IRQS.Msis[0].segment: 0, not 776",
		stream: (s) => void s.record("LU_DEVICES").row("DeviceList", 0, "devfn", 16),
	},
	{
		rule: "DEVICE",
		what: "a device with two owners",
		fault: "H/host LU_DEVICES.DeviceList[1].segment: 777, not 776",
		model: (m) => {
			m.deviceList = [
				{ bus: 3, devfn: 8, domid: 0 },
				{ bus: 3, devfn: 8, domid: 2 },
			];
		},
	},
	{
		rule: "DEVICE",
		what: "phantom functions at a stride that no device has",
		fault: "H/host LU_DEVICES.DeviceList[0].phantomStride: 4, not 3",
		stream: (s) => void s.record("LU_DEVICES").row("DeviceList", 0, "phantomStride", 3),
	},
	{
		rule: "DEVICE",
		what: "phantom functions beyond the device",
		fault: "H/host LU_DEVICES.DeviceList[0].phantomStride: 4, not 8",
		stream: (s) => void s.record("LU_DEVICES").row("DeviceList", 0, "phantomStride", 8),
	},
	{
		rule: "DOMAIN_REFERENCE",
		what: "a device of a domain that does not exist",
		fault: "H/host LU_DEVICES.DeviceList[0].domid: 32753, not 99",
		stream: (s) => void s.record("LU_DEVICES").row("DeviceList", 0, "domid", 99),
	},
	{
		rule: "IOMMU",
		what: "an IOMMU of an unknown format",
		fault: "H/host LU_DEVICES.IommuUnits[0].format: 4, not 2",
		stream: (s) => void s.record("LU_DEVICES").row("IommuUnits", 0, "format", 2),
	},
	{
		rule: "IOMMU",
		what: "an IOMMU's root that does not stay",
		fault: "H/host LU_DEVICES.IommuUnits[0].rootMfn: 1, not 400",
		stream: (s) => void s.record("LU_DEVICES").row("IommuUnits", 0, "rootMfn", 400n),
	},
	{
		rule: "IOMMU",
		what: "an IOMMU's root beyond the host",
		fault: "H/host LU_DEVICES.IommuUnits[0].rootMfn: 1024, not 1024",
		stream: (s) => void s.record("LU_DEVICES").row("IommuUnits", 0, "rootMfn", 1024n),
	},
	{
		rule: "IOMMU",
		what: "a remapping table that does not stay",
		fault: "H/host LU_DEVICES.IommuUnits[0].remapMfn: 1, not 400",
		stream: (s) => void s.record("LU_DEVICES").row("IommuUnits", 0, "remapMfn", 400n),
	},
	{
		rule: "IOMMU",
		what: "an IOMMU twice",
		fault: "H/host LU_DEVICES.IommuUnits[1].unit: 1, not 0",
		model: (m) => {
			m.iommuUnits = [
				{ baseAddress: 0xfed90000n, rootMfn: 460, remapMfn: 461, unit: 0, format: 3 },
				{ baseAddress: 0xfed90000n, rootMfn: 460, remapMfn: 461, unit: 0, format: 3 },
			];
		},
	},
	{
		rule: "IOMMU",
		what: "a context of an IOMMU that does not exist",
		fault: "H/host LU_DEVICES.IommuDomains[0].unit: 0, not 1",
		stream: (s) => void s.record("LU_DEVICES").row("IommuDomains", 0, "unit", 1),
	},
	{
		rule: "IOMMU",
		what: "a domain number that no IOMMU has",
		fault: "H/host LU_DEVICES.IommuDomains[0].hardwareId: 65535, not 65536",
		stream: (s) => void s.record("LU_DEVICES").row("IommuDomains", 0, "hardwareId", 65536),
	},
	{
		rule: "IOMMU",
		what: "too few levels",
		fault: "H/host LU_DEVICES.IommuDomains[0].levels: 6, not 1",
		stream: (s) => void s.record("LU_DEVICES").row("IommuDomains", 0, "levels", 1),
	},
	{
		rule: "IOMMU",
		what: "too many levels",
		fault: "H/host LU_DEVICES.IommuDomains[0].levels: 6, not 7",
		stream: (s) => void s.record("LU_DEVICES").row("IommuDomains", 0, "levels", 7),
	},
	{
		rule: "IOMMU",
		what: "a context's table that does not stay",
		fault: "H/host LU_DEVICES.IommuDomains[0].rootMfn: 1, not 400",
		stream: (s) => void s.record("LU_DEVICES").row("IommuDomains", 0, "rootMfn", 400n),
	},
	{
		rule: "IOMMU",
		what: "one domain number for two domains",
		fault: "H/host LU_DEVICES.IommuDomains[1].unit: 2, not 1",
		model: (m) => {
			m.iommuDomains = [
				{ rootMfn: 462, unit: 0, hardwareId: 1, domid: 0, levels: 4 },
				{ rootMfn: 462, unit: 0, hardwareId: 1, domid: 2, levels: 4 },
			];
		},
	},
	{
		rule: "DOMAIN_REFERENCE",
		what: "a context of a domain that does not exist",
		fault: "H/host LU_DEVICES.IommuDomains[0].domid: 32753, not 99",
		stream: (s) => void s.record("LU_DEVICES").row("IommuDomains", 0, "domid", 99),
	},
	{
		rule: "IOMMU",
		what: "an identity map of an unknown kind",
		fault: "H/host LU_DEVICES.IdentityMaps[0].writable: 1, not 2",
		stream: (s) => void s.record("LU_DEVICES").row("IdentityMaps", 0, "writable", 2),
	},
	{
		rule: "IOMMU",
		what: "an identity map of nothing",
		fault: "H/host LU_DEVICES.IdentityMaps[0].frameCount: 1099511627313, not 0",
		stream: (s) => void s.record("LU_DEVICES").row("IdentityMaps", 0, "frameCount", 0n),
	},
	{
		rule: "IOMMU",
		what: "an identity map beyond all memory",
		fault: "H/host LU_DEVICES.IdentityMaps[0].firstMfn: 1099511627775, not 1099511627776",
		stream: (s) => void s.record("LU_DEVICES").row("IdentityMaps", 0, "firstMfn", 1n << 40n),
	},
	{
		rule: "IOMMU",
		what: "an identity map that ends beyond all memory",
		fault: "H/host LU_DEVICES.IdentityMaps[0].frameCount: 1099511627313, not 1099511627776",
		stream: (s) => void s.record("LU_DEVICES").row("IdentityMaps", 0, "frameCount", 1n << 40n),
	},
	{
		rule: "IOMMU",
		what: "identity maps that overlap",
		fault: "H/host LU_DEVICES.IdentityMaps[1].firstMfn: 464, not 463",
		model: (m) => {
			m.identityMaps = [
				{ firstMfn: 460, frameCount: 4, domid: 0 },
				{ firstMfn: 463, frameCount: 1, domid: 0 },
			];
		},
	},
	{
		rule: "IOMMU",
		what: "identity maps that do not ascend by domain",
		fault: "H/host LU_DEVICES.IdentityMaps[1].domid: 1, not 0",
		model: (m) => {
			m.identityMaps = [
				{ firstMfn: 460, frameCount: 1, domid: 1 },
				{ firstMfn: 463, frameCount: 1, domid: 0 },
			];
		},
	},
	{
		rule: "IOMMU",
		what: "an identity map at which the guest has another frame",
		fault: "H/host LU_DEVICES.IdentityMaps[1].firstMfn: 0, not 512",
		model: (m) => {
			m.identityMaps = [
				{ firstMfn: 33554432, frameCount: 1, domid: 0 },
				{ firstMfn: 0, frameCount: 65536, domid: 2 },
			];
		},
	},
	{
		rule: "DOMAIN_REFERENCE",
		what: "an identity map of a domain that does not exist",
		fault: "H/host LU_DEVICES.IdentityMaps[0].domid: 32753, not 99",
		stream: (s) => void s.record("LU_DEVICES").row("IdentityMaps", 0, "domid", 99),
	},
	{
		rule: "IOMMU",
		what: "a remapping entry of an IOMMU that does not exist",
		fault: "H/host LU_DEVICES.RemapEntries[0].unit: 0, not 1",
		stream: (s) => void s.record("LU_DEVICES").row("RemapEntries", 0, "unit", 1),
	},
	{
		rule: "IOMMU",
		what: "a remapping entry of an IOMMU without a table",
		fault: "H/host LU_DEVICES.RemapEntries[0].unit: 0, not 0",
		stream: (s) => void s.record("LU_DEVICES").row("IommuUnits", 0, "remapMfn", NONE64),
	},
	{
		rule: "IOMMU",
		what: "a remapping entry beyond any table",
		fault: "H/host LU_DEVICES.RemapEntries[0].index: 65535, not 65536",
		stream: (s) => void s.record("LU_DEVICES").row("RemapEntries", 0, "index", 65536),
	},
	{
		rule: "IOMMU",
		what: "a remapping entry twice",
		fault: "H/host LU_DEVICES.RemapEntries[1].unit: 4, not 3",
		model: (m) => {
			m.remapEntries = [
				{ unit: 0, index: 3 },
				{ unit: 0, index: 3 },
			];
		},
	},
];
