/** Each rule of bundles, broken alone: its code, where it points, what was expected, what was found. */
import { describe, expect, it } from "vitest";
import { extractDomain } from "../../src/bundle/extract.ts";
import type { Store, StoreNode, StoreWatch } from "../../src/bundle/store.ts";
import { CREATE, NONE32, SCHEDULER } from "../../src/format/enums.ts";
import { bundleRuleList } from "../../src/formats/bundle/rules.ts";
import type { FormatFinding } from "../../src/formats/common/findings.ts";
import type { Host } from "../../src/host.ts";
import { emptyHost, Machine } from "../../src/machine/live/index.ts";
import type { DomainModel } from "../../src/machine/model.ts";
import { baseOperations, machineWithNarrow, mustRun, NARROW } from "../support/living.ts";
import { parse } from "../support/restitch.ts";
import { type Apart, bareHost, capturedBundle, changed, core, nodesOf, onto, type Read, read } from "./helpers.ts";
import {
	INFO,
	joined,
	LIBXC,
	LIVE_UPDATE,
	PAGES,
	PFNS,
	pieceOf,
	recordOf,
	recordsOf,
	withOctets,
	XENSTORE,
} from "./octets.ts";
import { dumpedHost, storeStream, withoutDomain, withStore } from "./storeHost.ts";

// --- sound bundles, and hosts that take them ---

const living = (() => {
	const machine = Machine.fromHost(emptyHost(4096));
	const unpause = [1, 2].map((domid) => ({ op: "domain_unpause", domid }) as const);
	mustRun(machine, [...baseOperations.slice(0, 3), ...unpause]);
	return machine.toHost();
})();
const pv = extractDomain(core, living, 1).bundle;
const hvm = extractDomain(core, living, 2).bundle;
const narrow = extractDomain(core, machineWithNarrow().toHost(), NARROW).bundle;
/** A captured guest with its daemon's state. */
const dumped = extractDomain(core, dumpedHost("pvh"), 1).bundle;
const bare = bareHost(4096);
const emptied = withoutDomain(dumpedHost("pvh"), 1);

const HOME = "/local/domain/1";
const VBD = `${HOME}/device/vbd/51712`;
const BACKEND = "/local/domain/0/backend/vbd/1/51712";

const at =
	(type: number, part: "offset" | "body" | "stream" = "offset") =>
	(octets: Uint8Array) =>
		recordOf(octets, type)[part];

const changeStore = (change: (nodes: Map<string, StoreNode>, store: Store) => void) =>
	changed(dumped, ({ store }) => change(nodesOf(store) as Map<string, StoreNode>, store));
const setNode = (path: string, value: string) =>
	changeStore((nodes) => {
		nodes.set(path, { perms: ["n0"], ...nodes.get(path), value: Buffer.from(value) });
	});
/** A domain's tables, to be set. */
type Tables = { -readonly [K in keyof DomainModel]: DomainModel[K] };
const changeDomain = (octets: Uint8Array, change: (apart: Apart & { domain: Tables }) => void) =>
	changed(octets, change);

/** Where a node's record stands in a bundle. */
const atNode =
	(path: string) =>
	(_: Uint8Array, { items }: Read) =>
		items.find(({ name, fields }) => name === "NODE_DATA" && fields.path === path)?.offset as number;
const atRecord =
	(name: string) =>
	(_: Uint8Array, { items }: Read) =>
		items.find((item) => item.name === name && item.layer !== "bundle")?.offset as number;

const otherHost = (host: Host, change: Partial<Host["model"]["host"]>, version = {}): Host => ({
	...withStore(host, host.store),
	model: { ...host.model, host: { ...host.model.host, ...change }, version: { ...host.model.version, ...version } },
});

const targetNodes = (change: (nodes: Map<string, StoreNode>) => void): Host => {
	const store = emptied.store as Store;
	const nodes = new Map(store.nodes);
	change(nodes);
	return withStore(emptied, { ...store, nodes });
};

// --- the table ---

interface Case {
	what: string;
	/** The bundle. */
	make: () => Uint8Array | Promise<Uint8Array>;
	/** The host that is asked to take it. */
	target?: Host;
	/** Where the finding points. */
	offset: (octets: Uint8Array, read: Read) => number;
	record: string;
	field?: string | RegExp;
	expected: string | RegExp;
	got: string | RegExp;
}

const zero = () => 0;
const cases: Record<string, Case> = {
	"XLU-B001": {
		what: "another id",
		make: () => withOctets(pv, (copy) => copy.set(Buffer.from("XLUC"), 8)),
		offset: zero,
		record: "header",
		expected: "64 one bits and XLUB",
		got: "ffffffffffffffff584c5543",
	},
	"XLU-B002": {
		what: "version 2",
		make: () => withOctets(pv, (_, view) => view.setUint32(12, 2)),
		offset: zero,
		record: "header",
		field: "version",
		expected: "1",
		got: "2",
	},
	"XLU-B003": {
		what: "a cut",
		make: () => pv.slice(0, -8),
		offset: () => pv.length - 40,
		record: "END",
		expected: "32 octets",
		got: "24 before the end",
	},
	"XLU-B004": {
		what: "a mandatory record that nobody knows",
		make: () => withOctets(pv, (_, view) => view.setUint32(recordOf(pv, INFO).offset, 0x77, true)),
		offset: () => recordOf(pv, INFO).offset,
		record: "unknown 0x77",
		expected: "a known record",
		got: "0x77",
	},
	"XLU-B005": {
		what: "a reserved field that is set",
		make: () => withOctets(pv, (copy) => copy.fill(1, recordOf(pv, PFNS).body + 12, recordOf(pv, PFNS).body + 13)),
		offset: at(PFNS),
		record: "PFNS",
		field: "reserved",
		expected: "zeros",
		got: "other octets",
	},
	"XLU-B006": {
		what: "PAGES before PFNS",
		make: () => {
			const [info, live, pfns, pages, ...rest] = recordsOf(pv).map((record) => pieceOf(pv, record));
			return joined(pv, [info, live, pages, pfns, ...rest] as Uint8Array[]);
		},
		offset: at(PFNS),
		record: "PFNS",
		expected: "nothing of what stands before PAGES, or that is there already",
		got: "PFNS",
	},
	"XLU-B007": {
		what: "an octet that changed afterwards",
		make: () => {
			const copy = pv.slice();
			const last = recordOf(pv, INFO).body + 56;
			copy[last] = (copy[last] as number) ^ 1;
			return copy;
		},
		offset: () => pv.length - 40,
		record: "END",
		field: "sha256",
		expected: /^[0-9a-f]{64}$/,
		got: /^[0-9a-f]{64}$/,
	},
	"XLU-B008": {
		what: "something behind END",
		make: () => new Uint8Array(Buffer.concat([pv, Buffer.from("more")])),
		offset: () => pv.length,
		record: "tail",
		expected: "the end",
		got: "4 octets",
	},
	"XLU-B009": {
		what: "frames of a machine that nobody has",
		make: () =>
			changed(hvm, (apart) => {
				apart.parts = (made) => {
					const stream = parse(made.stream);
					stream.record("LU_FRAMES").set("firstMfn", 2n ** 31n);
					return { ...made, stream: stream.build() };
				};
			}),
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		expected: "tables of at most 134217728 frames",
		got: /^2147\d{6}$/,
	},
	"XLU-B010": {
		what: "a frame of somebody else",
		make: () =>
			changed(hvm, ({ solo }) => {
				const { frameOwners } = solo.model;
				frameOwners[frameOwners.findIndex((entry) => entry !== 0n)] = 0x30009n;
			}),
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		field: "FrameOwners",
		expected: "frames of domain 2 alone",
		got: /^MFN 0x[0-9a-f]+ of domain 9$/,
	},
	"XLU-B011": {
		what: "INFO with another frequency",
		make: () => withOctets(pv, (_, view) => view.setUint32(recordOf(pv, INFO).body + 24, 1, true)),
		offset: at(INFO),
		record: "INFO",
		field: "cpuKhz",
		expected: `${living.model.host.cpuKhz}`,
		got: "1",
	},
	"XLU-B012": {
		what: "a page of nobody",
		make: () =>
			changed(hvm, (apart) => {
				apart.parts = (made) => ({ ...made, pages: new Map([...made.pages, [4095, new Uint8Array(4096)]]) });
			}),
		offset: at(PAGES),
		record: "PAGES",
		expected: "frames of the domain",
		got: "MFN 0xfff",
	},
	"XLU-B013": {
		what: "a grant frame without its page",
		make: () =>
			changed(hvm, ({ domain, solo }) => {
				(solo.preserved as Map<number, Uint8Array>).delete(Number(domain.grantFrames?.[0]?.mfn));
			}),
		offset: at(PAGES),
		record: "PAGES",
		expected: "the page of a grant frame",
		got: /^none of MFN 0x/,
	},
	"XLU-B014": {
		what: "a frame for two PFNs",
		make: () =>
			changed(pv, (apart) => {
				apart.parts = (made) => {
					const mfns = made.pfns?.mfns.slice() as Float64Array;
					mfns[6] = mfns[5] as number;
					return { ...made, pfns: { startPfn: made.pfns?.startPfn as number, mfns } };
				};
			}),
		offset: at(PFNS),
		record: "PFNS",
		field: /^PFN 0x/,
		expected: "a frame of the domain, once",
		got: /^MFN 0x[0-9a-f]+ again$/,
	},
	"XLU-B015": {
		what: "a libxc image of version 2",
		make: () => withOctets(pv, (_, view) => view.setUint32(recordOf(pv, LIBXC).stream + 12, 2)),
		offset: (octets) => recordOf(octets, LIBXC).stream + 15,
		record: "header",
		expected: "0x3",
		got: "0x2",
	},
	"XLU-B016": {
		what: "a register that differs",
		make: async () => {
			const { items } = await read(pv);
			const basic = items.find(({ name }) => name === "X86_PV_VCPU_BASIC")?.offset as number;
			return withOctets(pv, (copy) => {
				copy[basic + 8 + 8 + 512] = (copy[basic + 8 + 8 + 512] as number) ^ 0xff;
			});
		},
		offset: atRecord("X86_PV_VCPU_BASIC"),
		record: "X86_PV_VCPU_BASIC of vCPU 0",
		field: "octet 520",
		expected: /^0x/,
		got: /^0x/,
	},
	"XLU-B017": {
		what: "a watch of a connection that is not there",
		make: () => withStream(storeStream([[3, { connId: 5, wpath: "a", token: "b" }]])),
		offset: (octets) => recordOf(octets, XENSTORE).stream + 16,
		record: "WATCH_DATA",
		expected: "a connection that came before",
		got: "connection 5",
	},
	"XLU-B018": {
		what: "a node of another domain",
		make: () => setNode("/local/domain/7/name", "other"),
		offset: atNode("/local/domain/7/name"),
		record: "NODE_DATA",
		field: "path",
		expected: "nodes that relate to domain 1",
		got: "/local/domain/7/name",
	},
	"XLU-B019": {
		what: "a socket",
		make: () => withStream(storeStream([[2, { connId: 1, connType: 1, socketFd: 9, outRespLen: 0 }]])),
		offset: (octets) => recordOf(octets, XENSTORE).stream + 16,
		record: "CONNECTION_DATA",
		expected: "a domain's shared ring",
		got: "connection 1 of type 1",
	},
	"XLU-B020": {
		what: "a frontend whose port is closed",
		make: () => setNode(`${VBD}/event-channel`, "99"),
		offset: atNode(`${VBD}/event-channel`),
		record: "NODE_DATA",
		field: `${VBD}/event-channel`,
		expected: "an open port towards domain 0",
		got: "port 99: state 0",
	},
	"XLU-B021": {
		what: "a frontend whose ring is not granted",
		make: () => setNode(`${VBD}/ring-ref`, "100"),
		offset: atNode(`${VBD}/ring-ref`),
		record: "NODE_DATA",
		field: `${VBD}/ring-ref`,
		expected: "a grant to domain 0",
		got: "an entry with flags 0x0",
	},
	"XLU-B022": {
		what: "a control domain",
		make: () =>
			changeDomain(pv, ({ domain }) => {
				domain.domain = { ...domain.domain, createFlags: Number(domain.domain.createFlags ?? 0) | CREATE.privileged };
			}),
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		field: "domid",
		expected: "a guest",
		got: "the control domain",
	},
	"XLU-B023": {
		what: "a stub domain",
		make: () =>
			changeDomain(hvm, ({ domain }) => {
				domain.domainState = { ...domain.domainState, target: 7 };
			}),
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		field: "target",
		expected: "no domain that it serves",
		got: "domain 7",
	},
	"XLU-B024": {
		what: "a host interrupt",
		make: () =>
			changeDomain(hvm, ({ domain }) => {
				domain.pirqList = [{ pirq: 20, irq: 20 }];
			}),
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		field: "PirqList",
		expected: "no host interrupt",
		got: "1",
	},
	"XLU-B025": {
		what: "a listing's nodes",
		make: () => capturedBundle("pvh"),
		offset: at(XENSTORE, "stream"),
		record: "stream",
		expected: "watches and open transactions",
		got: "not known",
	},
	"XLU-B026": {
		what: "no nodes",
		make: () => hvm,
		offset: at(XENSTORE, "stream"),
		record: "stream",
		expected: "the domain's nodes",
		got: "none",
	},
	"XLU-B027": {
		what: "assigned PFNs",
		make: () => pv,
		offset: at(PFNS),
		record: "PFNS",
		expected: "the guest's own PFNs",
		got: "assigned ones",
	},
	"XLU-B028": {
		what: "a backend that names another frontend",
		make: () => setNode(`${BACKEND}/frontend-id`, "2"),
		offset: atNode(`${BACKEND}/frontend-id`),
		record: "NODE_DATA",
		field: `${BACKEND}/frontend-id`,
		expected: "1",
		got: "2",
	},
	"XLU-B029": {
		what: "a backend that is closing",
		make: () => setNode(`${BACKEND}/state`, "5"),
		offset: atNode(`${BACKEND}/state`),
		record: "NODE_DATA",
		field: `${BACKEND}/state`,
		expected: "4",
		got: "5",
	},
	"XLU-B030": {
		what: "a 32-bit guest's P2M in as many frames as a 64-bit guest's",
		make: () =>
			changed(narrow, (apart) => {
				const { layout } = apart;
				apart.layout = layout && { ...layout, p2mPfns: [0, 1] };
			}),
		offset: at(LIBXC, "stream"),
		record: "X86_PV_P2M_FRAMES",
		field: "pfns",
		expected: "1 frames",
		got: "2",
	},
	"XLU-B040": {
		what: "the host that it comes from",
		make: () => pv,
		target: living,
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		field: "domid",
		expected: "domain 1 free",
		got: /^a domain 1 on /,
	},
	"XLU-B041": {
		what: "a port towards a domain that is not there",
		make: () =>
			changeDomain(hvm, ({ domain }) => {
				domain.ports = [...(domain.ports ?? [])];
				domain.ports[9] = { state: 2, remoteDomid: 9 };
			}),
		target: bare,
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		field: "port 9",
		expected: "domain 9 alive",
		got: "no such domain",
	},
	"XLU-B042": {
		what: "a host that is full",
		make: () => pv,
		target: {
			...bare,
			model: {
				...bare.model,
				frameOwners: bare.model.frameOwners.map((entry) => entry || BigInt(0x7ff2 | (3 << 16))),
			},
		},
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		field: "frames",
		expected: /^\d+ free frames$/,
		got: "0",
	},
	"XLU-B043": {
		what: "a host without HVM",
		make: () => hvm,
		target: { ...bare, capabilities: { virt: ["pv"], cpu: [] } },
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		field: "virt_caps",
		expected: /hvm/,
		got: "pv",
	},
	"XLU-B044": {
		what: "an older Xen",
		make: () => pv,
		target: otherHost(bare, {}, { xenMajor: 3, xenMinor: 99 }),
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		field: "xenMajor",
		expected: /^Xen \d+\.\d+ or newer$/,
		got: "Xen 3.99",
	},
	"XLU-B045": {
		what: "a CPU that lacks what the guest sees",
		make: () => dumped,
		target: {
			...withStore(emptied, emptied.store),
			capabilities: { virt: ["hvm", "hap"], cpu: [0, -1, -1, -1, -1, -1] },
		},
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		field: "CPUID 0x1 edx",
		expected: /^bits of 0x/,
		got: /^0x0 without 0x/,
	},
	"XLU-B046": {
		what: "another frequency",
		make: () => pv,
		target: otherHost(bare, { cpuKhz: 1000 }),
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		field: "khz",
		expected: /kHz$/,
		got: "1000 kHz",
	},
	"XLU-B047": {
		what: "ports that are bound to others",
		make: () => dumped,
		target: emptied,
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		field: "ports 1, 2, 11, 12, 13",
		expected: "the other ends bind again",
		got: "unbound until then",
	},
	"XLU-B048": {
		what: "grants that others have mapped",
		make: () => dumped,
		target: emptied,
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		field: "references 0, 1, 8, 521, 522, 523, 532, 533 and 5 more",
		expected: "backends map them again",
		got: "not mapped until then",
	},
	"XLU-B049": {
		what: "a device model",
		make: () => capturedBundle("hvm"),
		target: bareHost(),
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		field: "ports 3, 4, 5",
		expected: "made anew by the device model",
		got: /^\d+ I\/O servers$/,
	},
	"XLU-B050": {
		what: "an open transaction",
		make: () => dumped,
		target: emptied,
		offset: atRecord("TRANSACTION_DATA"),
		record: "TRANSACTION_DATA",
		field: "transaction 12",
		expected: "committed",
		got: "EAGAIN when it ends",
	},
	"XLU-B051": {
		what: "a node with another value on the target",
		make: () => dumped,
		target: targetNodes((nodes) => nodes.set(`${BACKEND}/state`, { value: Buffer.from("6"), perms: ["n0", "r1"] })),
		offset: atNode(`${BACKEND}/state`),
		record: "NODE_DATA",
		field: `${BACKEND}/state`,
		expected: '"4"',
		got: '"6"',
	},
	"XLU-B052": {
		what: "no parent on the target",
		make: () => dumped,
		target: targetNodes((nodes) => nodes.delete("/local/domain/0/backend/vif")),
		offset: atNode("/local/domain/0/backend/vif/1"),
		record: "NODE_DATA",
		field: "/local/domain/0/backend/vif",
		expected: "a node on the target",
		got: "none: it is made",
	},
	"XLU-B053": {
		what: "a watch that no daemon takes",
		make: () =>
			changeStore((_, { daemon }) => {
				const watches = (daemon?.watches ?? []) as StoreWatch[];
				watches.unshift({ domid: 1, path: "@other", token: "t" });
			}),
		target: emptied,
		offset: atRecord("WATCH_DATA"),
		record: "WATCH_DATA",
		field: 'watch "t"',
		expected: "a path that can be watched",
		got: "@other",
	},
	"XLU-B054": {
		what: "a permission of a domain that is not there",
		make: () =>
			changeStore((nodes) => {
				nodes.set(`${HOME}/name`, { ...(nodes.get(`${HOME}/name`) as StoreNode), perms: ["n0", "r9"] });
			}),
		target: emptied,
		offset: atNode(`${HOME}/name`),
		record: "NODE_DATA",
		field: `${HOME}/name`,
		expected: "domain 9",
		got: "no such domain",
	},
	"XLU-B055": {
		what: "a pool that the target has not",
		make: () =>
			changed(hvm, ({ domain, solo }) => {
				Object.assign(domain.domain, { cpupoolId: 7 });
				for (const row of [...solo.model.poolList, ...solo.model.poolCpus]) Object.assign(row, { poolId: 7 });
			}),
		target: bare,
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		field: "cpupoolId",
		expected: "CPU pool 7",
		got: "no such pool",
	},
	"XLU-B056": {
		what: "a target without a store",
		make: () => dumped,
		target: withStore(emptied, undefined),
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		field: "xenstore",
		expected: "the target's nodes",
		got: "not known",
	},
	"XLU-B058": {
		what: "permissions for hardware",
		make: () =>
			changeDomain(hvm, ({ domain }) => {
				domain.capRanges = [{ kind: 0, first: 0x3f8n, last: 0x3ffn }];
			}),
		target: bare,
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		field: "CapRanges",
		expected: "given anew by the tool stack",
		got: "1 ranges",
	},
	"XLU-B059": {
		what: "a target whose Xen has more of a 32-bit guest's addresses",
		make: () => narrow,
		target: hostWithNarrow(0xf500_0000),
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		field: "xenStart",
		expected: "0xf5800000",
		got: "0xf5000000",
	},
	"XLU-B060": {
		what: "virtual nodes that are on nodes of the host",
		make: () =>
			changeDomain(hvm, ({ domain }) => {
				domain.vnumaNodes = [{ physicalNode: 3 }, { physicalNode: 1 }, { physicalNode: NONE32 }];
				domain.vnumaDistances = Array.from({ length: 9 }, (_, i) => ({ distance: i % 4 === 0 ? 10 : 20 }));
				domain.vnumaVcpus = Array.from({ length: Number(domain.domain.maxVcpus) }, () => ({ node: 2 }));
			}),
		target: bare,
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		field: "VnumaNodes",
		expected: "on no node in particular",
		got: "2 on nodes 3, 1",
	},
	"XLU-B061": {
		what: "a weight of another scheduler",
		make: () =>
			changed(hvm, ({ domain, solo }) => {
				Object.assign(domain, { scheduler: { scheduler: SCHEDULER.credit, weight: 256 } });
				for (const row of solo.model.poolList) Object.assign(row, { scheduler: SCHEDULER.credit });
			}),
		target: bare,
		offset: at(LIVE_UPDATE, "stream"),
		record: "LIVE_UPDATE",
		field: "scheduler",
		expected: "credit",
		got: "credit2 in pool 0: its defaults",
	},
};

/** The bare host with a 32-bit guest whose Xen's part begins elsewhere. */
function hostWithNarrow(xenStart: number): Host {
	const machine = Machine.fromHost(bare);
	mustRun(machine, [{ op: "domain_create", domid: 9, kind: "pv", width: 32, frames: 20, vcpus: 1 }]);
	machine.domain(9).tables.pv32 = { xenStart };
	return machine.toHost();
}

/** The dumped bundle with another xenstore part. */
function withStream(xenstore: Uint8Array): Promise<Uint8Array> {
	return changed(dumped, (apart) => {
		apart.parts = (made) => ({ ...made, xenstore });
	});
}

const matches = (wanted: string | RegExp, found: string | undefined): void => {
	if (typeof wanted === "string") expect(found).toBe(wanted);
	else expect(found).toMatch(wanted);
};

describe("every rule", () => {
	it("has a case", () => {
		expect(Object.keys(cases)).toEqual(bundleRuleList.map(({ code }) => code));
	});

	it.each(bundleRuleList.map(({ code, severity }) => [code, severity] as const))(
		"%s (%s) is broken alone",
		async (code, severity) => {
			const example = cases[code];
			if (!example) throw new Error(`no case for ${code}`);
			const { make, target, offset, record, field, expected, got } = example;
			const octets = await make();
			const found = await read(octets);
			const { list, errors } = target ? await onto(octets, target) : found.findings;
			const isWarning = severity === "warning";
			expect([...new Set(errors.map(({ rule }) => rule.code))]).toEqual(isWarning ? [] : [code]);
			const finding = list.find(({ rule }) => rule.code === code) as FormatFinding;
			expect(finding).toMatchObject({ record, offset: offset(octets, found), isError: !isWarning });
			if (field !== undefined) matches(field, finding.field);
			matches(expected, finding.expected);
			matches(got, finding.got);
		},
	);
});

describe("sound bundles", () => {
	it.each([
		["a PV guest's", pv, bare],
		["a 32-bit PV guest's", narrow, bare],
		["an HVM guest's", hvm, bare],
		["a captured guest's", dumped, emptied],
	] as const)("%s break none", async (_, octets, target) => {
		expect((await onto(octets, target)).errors).toEqual([]);
	});
});
