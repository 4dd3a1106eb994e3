import { describe, expect, it } from "vitest";
import {
	EVENT_STATE,
	parseDomainDump,
	parseEventDump,
	parseGrantDump,
	parseMemoryDump,
	parseRegisterDump,
	parseTscDump,
	parseVmcsDump,
	parseXlConfig,
	parseXlInfo,
	parseXlList,
	parseXlVcpuList,
	pinCounts,
} from "../../src/capture/dumps.ts";
import { errorOf, fixtureText, random, survives } from "./helpers.ts";

const EVENTS_2L = `(XEN) [2026-11-21 01:02:03] 'e' pressed -> dumping event-channel info\r
(XEN) [2026-11-21 01:02:03] Event channel information for domain 0:\r
(XEN) [2026-11-21 01:02:03] Polling vCPUs: {0-1,5}\r
(XEN) [2026-11-21 01:02:03]     port [p/m/s]\r
(XEN) [2026-11-21 01:02:03]        1 [1/0/1]: s=5 n=0 x=0 v=0 Z=system_u\r
(XEN) [2026-11-21 01:02:03]     4095 [0/1/0]: s=2 n=3 x=2 d=32752\r
`;

const GRANTS_V2 = `gnttab_usage_print_all [ key 'g' pressed
      -------- active --------       -------- shared --------
[ref] localdom mfn      pin          localdom gmfn     flags
grant-table for remote d7 (v2)
  4 frames (64 max), 2 maptrack frames (1024 max)
[0x1fffff]     12 0x123456789a 0x80010203      12 0x0123456789 0x18
gnttab_usage_print_all ] done
`;

describe("event channels", () => {
	it("FIFO ports of a PV guest and of dom0", () => {
		const domains = parseEventDump(fixtureText("pv/debugkey-e.txt"));
		expect([...domains.keys()]).toEqual([0, 1]);
		expect(domains.get(0)?.ports).toHaveLength(30);
		const guest = domains.get(1);
		expect(guest?.ports).toHaveLength(22);
		expect(guest?.abi).toBe("fifo");
		expect(guest?.pollingVcpus).toEqual([]);
		expect(guest?.ports[1]).toEqual({
			port: 2,
			pending: true,
			masked: true,
			busy: false,
			state: EVENT_STATE.interdomain,
			notifyVcpu: 0,
			xenConsumer: 0,
			remoteDomid: 0,
			remotePort: 27,
		});
		expect(guest?.ports[15]).toMatchObject({ port: 16, state: EVENT_STATE.unbound, remoteDomid: 0 });
		expect(domains.get(0)?.ports[16]).toMatchObject({ state: EVENT_STATE.pirq, pirq: 207, irq: 24 });
		expect(domains.get(0)?.ports[6]).toMatchObject({ state: EVENT_STATE.virq, virq: 9 });
	});

	it("ports of the other hosts", () => {
		const count = (path: string): (number | undefined)[][] =>
			[...parseEventDump(fixtureText(path)).values()].map(({ domid, ports }) => [domid, ports.length]);
		expect(count("pvh/debugkey-e.txt")).toEqual([
			[0, 30],
			[1, 20],
		]);
		expect(count("hvm/debugkey-e.txt")).toEqual([
			[0, 33],
			[4, 26],
		]);
		expect(count("zombie/debugkey-e.txt")).toEqual([
			[0, 30],
			[1, 0],
			[2, 20],
			[3, 0],
		]);
		const ioreq = parseEventDump(fixtureText("hvm/debugkey-e.txt"))
			.get(4)
			?.ports.filter((port) => port.xenConsumer);
		expect(ioreq?.map(({ port }) => port)).toEqual([3, 4, 5]);
	});

	it("2-level ports, with timestamps, CRLF and security labels", () => {
		const domain = parseEventDump(EVENTS_2L).get(0);
		expect(domain?.abi).toBe("2-level");
		expect(domain?.pollingVcpus).toEqual([0, 1, 5]);
		expect(domain?.ports[0]).toMatchObject({ port: 1, pending: true, selector: true, virq: 0 });
		expect(domain?.ports[1]).toMatchObject({ port: 4095, masked: true, selector: false, remoteDomid: 32752 });
		expect(domain?.ports[1]?.xenConsumer).toBe(2);
	});

	it("linked, busy and unmapped FIFO ports", () => {
		const head = "Event channel information for domain 1:\n";
		const column = (text: string) => parseEventDump(`${head}   5 [1/0/${text}]: s=6 n=0 x=0\n`).get(1)?.ports[0];
		expect(column("  22  ")).toMatchObject({ link: 22, busy: false });
		expect(column("  0   ")).toMatchObject({ link: 0 });
		expect(column("B 131071")).toMatchObject({ link: 131071, busy: true });
		expect(column("B  -   ")).toMatchObject({ busy: true });
		expect(column("?     ")).toMatchObject({ noWord: true });
	});

	it.each([
		["a row that is cut off", "Event channel information for domain 1:\n   5 [1/0/  -   ]: s=3 n=0", /:2:/],
		["an interdomain port without p=", "Event channel information for domain 1:\n 5 [1/0/0]: s=3 n=0 x=0 d=1", /p=/],
		["a state that does not exist", "Event channel information for domain 1:\n 5 [1/0/0]: s=9 n=0 x=0", /state/],
		["a port before its domain", " 5 [1/0/0]: s=6 n=0 x=0", /before the first port/],
		[
			"a port twice",
			"Event channel information for domain 1:\n 5 [1/0/0]: s=6 n=0 x=0\n 5 [1/0/0]: s=6 n=0 x=0",
			/above 5/,
		],
		[
			"two ABIs",
			"Event channel information for domain 1:\n 5 [1/0/0]: s=6 n=0 x=0\n 6 [1/0/ - ]: s=6 n=0 x=0",
			/2-level/,
		],
		["a domain twice", "Event channel information for domain 1:\nEvent channel information for domain 1:", /once/],
		["nothing", "", /Event channel information/],
		["a set of all the world", "Event channel information for domain 1:\nPolling vCPUs: {0-99999}", /ascending set/],
	])("refuses %s", (_name, text, message) => {
		const error = errorOf(() => parseEventDump(text));
		expect(error.code).toBe("XLU_E_CAPTURE");
		expect(error.message).toMatch(message);
		expect(error.line).toBeTypeOf("number");
	});
});

describe("grants", () => {
	it.each(["pv", "pvh", "hvm"])("%s: 13 active entries hold 15 pins", (host) => {
		const tables = [...parseGrantDump(fixtureText(`${host}/debugkey-g.txt`)).values()];
		expect(tables).toHaveLength(2);
		const [dom0, guest] = tables;
		expect(dom0).toMatchObject({ version: 1, frames: 1, maxFrames: 64, maptrackFrames: 1, active: [] });
		expect(guest).toMatchObject({ version: 1, frames: 2, maptrackFrames: 0, maxMaptrackFrames: 1024 });
		expect(guest?.active).toHaveLength(13);
		const pins = guest?.active.map(({ pin }) => pinCounts(pin).hostWrite) ?? [];
		expect(pins.reduce((sum, pin) => sum + pin, 0)).toBe(15);
	});

	it("every field of a row", () => {
		expect(parseGrantDump(fixtureText("pvh/debugkey-g.txt")).get(1)?.active[2]).toEqual({
			ref: 8,
			granteeDomid: 0,
			mfn: 0x1f866,
			pin: 1,
			sharedDomid: 0,
			gmfn: 0x666,
			flags: 0x19,
		});
	});

	it("version 2, without the console's prefix", () => {
		const table = parseGrantDump(GRANTS_V2).get(7);
		expect(table).toMatchObject({ version: 2, frames: 4, maptrackFrames: 2 });
		expect(table?.active).toEqual([
			{
				ref: 0x1fffff,
				granteeDomid: 12,
				mfn: 0x123456789a,
				pin: 0x80010203,
				sharedDomid: 12,
				gmfn: 0x123456789,
				flags: 0x18,
			},
		]);
		expect(pinCounts(0x80010203)).toEqual({ deviceRead: 0x80, deviceWrite: 1, hostRead: 2, hostWrite: 3 });
	});

	it.each([
		["a cut off dump", GRANTS_V2.slice(0, GRANTS_V2.indexOf("gnttab_usage_print_all ]")), /done/],
		["a cut off row", GRANTS_V2.replace(" 0x18\n", "\n"), /a grant like/],
		["a pin of 33 bits", GRANTS_V2.replace("0x80010203", "0x180010203"), /32 bits/],
		["version 3", GRANTS_V2.replace("(v2)", "(v3)"), /grant-table for remote/],
		["a row before its table", "[0x001]      0 0x0e019 0x00000002          0 0x00e019 0x19", /before the first/],
		["nothing", "", /none in the file/],
	])("refuses %s", (_name, text, message) => {
		expect(errorOf(() => parseGrantDump(text)).message).toMatch(message);
	});
});

describe("domains", () => {
	it("dom0 and a PV guest", () => {
		const { systemTimeNs, domains } = parseDomainDump(fixtureText("pv/debugkey-q.txt"));
		expect(systemTimeNs).toBe(55213897608n);
		expect([...domains.keys()]).toEqual([0, 1]);
		const dom0 = domains.get(0);
		expect(dom0).toMatchObject({ refcnt: 3, dying: 0, nrPages: 393216, xenheapPages: 2, maxPages: 393216 });
		expect(dom0?.dirtyCpus).toEqual([0]);
		expect(dom0?.interrupts).toEqual([{ start: 1n, end: 29n }]);
		expect(dom0?.ioMemory[1]).toEqual({ start: 0xfef00n, end: 0xfcfffffn });
		expect(dom0?.ioPorts).toHaveLength(8);
		expect(dom0?.xenPages[0]).toEqual({ mfn: 0xb8e80, caf: 0xc000000000000002n, taf: 0xe400000000000002n });
		expect(dom0?.domPages).toBeUndefined();
		expect(dom0?.vcpus[0]).toMatchObject({ id: 0, cpu: 0, running: true, upcallPending: true, hardAffinity: [0] });
		const guest = domains.get(1);
		expect(guest).toMatchObject({
			handle: "4c414200-0000-4000-8000-000000000001",
			vmAssist: 0x2dn,
			pauseCount: 1,
			nrPages: 10240,
			pagingAssistance: [],
			nodeAffinity: [0],
		});
		expect(guest?.vcpus).toHaveLength(2);
		expect(guest?.vcpus[1]).toMatchObject({ id: 1, upcallMask: true, running: false, periodicTimerNs: 0n });
	});

	it("an HVM guest's I/O request server, extra pages and paging", () => {
		const guest = parseDomainDump(fixtureText("hvm/debugkey-q.txt")).domains.get(4);
		expect(guest?.pagingAssistance).toEqual(["hap", "refcounts", "translate", "external"]);
		expect(guest?.ioreqServers).toHaveLength(1);
		const [server] = guest?.ioreqServers ?? [];
		expect(server?.pci).toEqual([
			{ start: 0n, end: 0n },
			{ start: 8n, end: 9n },
			{ start: 0xbn, end: 0xbn },
			{ start: 0x10n, end: 0x10n },
		]);
		expect(server?.memory).toHaveLength(4);
		expect(server?.memory[0]).toEqual({ start: 0xf0000000n, end: 0xf0ffffffn });
		expect(server?.ports).toHaveLength(24);
		expect(server?.ports.at(-1)).toEqual({ start: 0xc000n, end: 0xc0ffn });
		expect(guest?.extraPages.map(({ mfn }) => mfn)).toEqual([0xbdc28, 0xbdc27]);
		expect(guest?.extraPages[0]?.caf).toBe(0x8200000000000003n);
		expect(guest?.pod).toEqual({ entries: 0, cacheSize: 0 });
		expect(guest?.vcpus[0]?.pagingMode).toBe("hap, 4 levels");
	});

	it("dead domains", () => {
		const { domains } = parseDomainDump(fixtureText("zombie/debugkey-q.txt"));
		expect([...domains.values()].map(({ dying }) => dying)).toEqual([0, 2, 0, 2]);
		expect(domains.get(1)).toMatchObject({ refcnt: 1, nrPages: 13, xenheapPages: 0, pauseCount: 3 });
		expect(domains.get(1)?.domPages).toHaveLength(13);
		expect(domains.get(1)?.domPages?.[5]).toEqual({ mfn: 0xf50a, caf: 4n, taf: 0xe400000000000002n });
		expect(domains.get(3)?.domPages).toHaveLength(5);
		expect(domains.get(2)?.vcpus[0]?.pauseFlags).toBe(1);
	});

	it("lines of other versions", () => {
		const text = fixtureText("pv/debugkey-q.txt")
			.replaceAll("(XEN) ", "(XEN) [   55.213897] ")
			.replace("No periodic timer", "10 Hz periodic timer (period 100 ms)")
			.replace("xenheap_pages=3 ", "xenheap_pages=3 shared_pages=0 paged_pages=0 ")
			.replace("0-fedff, fef00-fcfffff", "0-fedff, fef00-ffffffffffffffff");
		const { domains } = parseDomainDump(text);
		expect(domains.get(0)?.vcpus[0]?.periodicTimerNs).toBe(100_000_000n);
		expect(domains.get(0)?.ioMemory[1]?.end).toBe(0xffffffffffffffffn);
		expect(domains.get(1)?.xenheapPages).toBe(3);
	});

	const pv = fixtureText("pv/debugkey-q.txt");
	it.each([
		["a domain twice", pv.replace("for domain 1:", "for domain 0:"), /domain 0 once/],
		["a missing XenPage", pv.replace(/.*XenPage 00000000000b6da1.*\n/, ""), /3 XenPage rows of domain 1, got 2/],
		["a damaged page", pv.replace("caf=c000000000000001", "caf=zz"), /a page like/],
		["a damaged rangeset", pv.replace("60c-cfb", "60c-5"), /ascending ranges/],
		["a damaged handle", pv.replace("4c414200-0000", "4c414200"), /UUID/],
		["a damaged vCPU", pv.replace("[has=F]", ""), /VCPUn/],
		[
			"a domain without vCPUs' section",
			pv.replace("VCPU information and callbacks for domain 1:", ""),
			/VCPU information/,
		],
		["no time", pv.replace("(now = 55213897608)", ""), /now = NANOSECONDS/],
		["no domain", "'q' pressed -> dumping domain info (now = 1)", /General information/],
	])("refuses %s", (_name, text, message) => {
		const error = errorOf(() => parseDomainDump(text));
		expect(error.code).toBe("XLU_E_CAPTURE");
		expect(error.message).toMatch(message);
	});
});

describe("the smaller dumps", () => {
	it("dom0's registers, of one and of several vCPUs", () => {
		const text = fixtureText("pv/debugkey-0.txt");
		const [vcpu] = parseRegisterDump(text);
		expect(vcpu?.context).toBe("pv guest (d0v0)");
		const registers = Object.fromEntries(vcpu?.registers ?? []);
		expect(registers).toMatchObject({
			rip: 0xffffffff81a442b5n,
			cs: 0xe033n,
			ss: 0xe02bn,
			rflags: 0x246n,
			rsp: 0xffffc90040623b78n,
			r9: 0n,
			r14: 0xffff888010615200n,
			cr3: 0x46674000n,
			gsb: 0xffff88805dc00000n,
		});
		expect(vcpu?.registers.size).toBe(31);
		const both = parseRegisterDump(`${text}\n${text.replace("vcpu#0", "vcpu#1")}`);
		expect(both.map((one) => one.vcpu)).toEqual([0, 1]);
		expect(errorOf(() => parseRegisterDump(text.replace("cr3:", "xxx:"))).message).toMatch(/cr3 of vCPU 0/);
	});

	it("free memory, TSCs and P2M roots", () => {
		expect(parseMemoryDump(fixtureText("pv/debugkey-m.txt"))).toMatchObject({ xenHeapKb: 0, domHeapKb: 1495372 });
		expect(parseTscDump(fixtureText("hvm/debugkey-s.txt")).get(4)).toEqual({
			mode: 0,
			offset: 0x3bad62f82an,
			khz: 2596119,
			incarnation: 1,
		});
		expect(parseTscDump(fixtureText("pv/debugkey-s.txt")).get(1)?.khz).toBe(2596118);
		expect([...parseVmcsDump(fixtureText("hvm/debugkey-v.txt"))]).toEqual([[4, 0xb6da9]]);
		expect(parseVmcsDump(fixtureText("pv/debugkey-v.txt")).size).toBe(0);
		const vmx = ">>> Domain 3 <<<\n\tVCPU 0\nEPT pointer = 0x000000012345601e  EPTP index = 0x0000";
		expect(parseVmcsDump(vmx).get(3)).toBe(0x123456);
		expect(errorOf(() => parseTscDump("dom1: mode=x")).message).toMatch(/domN/);
	});

	it("what xl printed", () => {
		const info = parseXlInfo(fixtureText("pv/xl-info.txt"));
		expect(info).toMatchObject({ cpus: 1, totalMemoryMb: 3071, xenMajor: 4, xenMinor: 17, xenExtra: ".7" });
		expect(info.virtCaps).toContain("gnttab-v2");
		const config = parseXlConfig(fixtureText("hvm/hvm1.cfg"));
		expect(config.get("memory")).toBe("48");
		expect(config.get("uuid")).toBe("4c414200-0000-4000-8000-000000000003");
		expect(parseXlList(fixtureText("pv/xl-list-l.json")).get(1)?.name).toBe("pv1");
		expect(parseXlVcpuList(fixtureText("pv/xl-vcpu-list.txt"))[2]).toEqual({
			name: "pv1",
			domid: 1,
			vcpu: 1,
			cpu: 0,
			hard: "all",
			soft: "all",
		});
	});
});

describe("damage", () => {
	const parsers: [string, string, (text: string) => unknown][] = [
		["e", fixtureText("hvm/debugkey-e.txt"), parseEventDump],
		["g", fixtureText("hvm/debugkey-g.txt"), parseGrantDump],
		["q", fixtureText("hvm/debugkey-q.txt"), parseDomainDump],
		["0", fixtureText("hvm/debugkey-0.txt"), parseRegisterDump],
		["m", fixtureText("hvm/debugkey-m.txt"), parseMemoryDump],
		["s", fixtureText("hvm/debugkey-s.txt"), parseTscDump],
		["v", fixtureText("hvm/debugkey-v.txt"), parseVmcsDump],
		["xl-info", fixtureText("hvm/xl-info.txt"), parseXlInfo],
		["xl-list", fixtureText("hvm/xl-list-l.json"), parseXlList],
		["vcpu-list", fixtureText("hvm/xl-vcpu-list.txt"), parseXlVcpuList],
		["cfg", fixtureText("hvm/hvm1.cfg"), parseXlConfig],
	];
	it.each(parsers)("%s: mutations and truncations are read or refused, never anything else", (_name, text, parse) => {
		const next = random(3);
		const letters = "0123456789abcdefx{}[]()=:,-./ \n\t%\0é";
		for (let round = 0; round < 500; round++) {
			const at = next(text.length);
			const length = next(4);
			const insert = Array.from({ length: next(6) }, () => letters[next(letters.length)]).join("");
			survives(() => parse(text.slice(0, at) + insert + text.slice(at + length)), "XLU_E_CAPTURE");
			survives(() => parse(text.slice(0, next(text.length))), "XLU_E_CAPTURE");
		}
	});

	it("no line makes a parser slow", () => {
		const hostile = ["a={", "hard={", " ", "0-1,", ": [", "1 ", "rax: ", "(", "[0x", "refcnt=1 "];
		const starts = ["", "refcnt=", "UNIT0 ", "NODE affinity for domain 1: [", "    I/O Ports  { ", "0 [0/0/"];
		const head = "General information for domain 1:\nRangesets belonging to domain 1:\n";
		const began = performance.now();
		for (const start of starts) {
			for (const part of hostile) {
				const line = start + part.repeat(250_000 / part.length);
				for (const [, , parse] of parsers) {
					survives(() => parse(head + line), "XLU_E_CAPTURE");
				}
			}
		}
		expect(performance.now() - began).toBeLessThan(20_000);
	});
});
