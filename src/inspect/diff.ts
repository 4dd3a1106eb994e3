/**
 * Two streams of a format, compared by what they say: records are matched by what they are about, fields by their names,
 * page contents by PFN. Where records stand, how they are padded, and in how many pieces pages came, is no difference.
 */

import { DOMID } from "../format/enums.ts";
import type { Fields, Json, StreamItem } from "../formats/common/record.ts";
import { FIRST_TYPE_WITHOUT_DATA, PAGE_TYPE, pageTypeNames } from "../formats/libxc/layout.ts";
import { XenstoreFacts } from "../formats/xenstore/facts.ts";
import { recordFields } from "../formats/xlu/body.ts";
import { littleStream } from "../formats/xlu/stream.ts";
import { passNames, readHeader, recordName, walkRecords } from "./stream.ts";

export interface StreamDifference {
	/** What it is about: layer, record, and which one of them (`libxc X86_PV_VCPU_BASIC vcpu 1`). */
	readonly where: string;
	/** Field, such as `registers.rip`; null if the whole is on one side only. */
	readonly field: string | null;
	/** Value in the first and in the second stream; null where there is none. */
	readonly a: Json;
	readonly b: Json;
}

/** A stream as things with names; each has fields. */
export type Facts = ReadonlyMap<string, Fields>;

/** Fields that say which one of several records of a kind it is. */
const IDENTITIES = ["vcpu", "vcpuId", "emulatorId", "emulator", "domid", "connId", "index"] as const;

/** What an array's objects are counted by; the first one that tells all of them apart. */
const PLACES = ["slot", "gfn", "pfn", "mfn"] as const;

/** Else, which one of an array's objects it is; all that are there count. */
const ELEMENT_KEYS = [
	"typeName",
	"name",
	"type",
	"instance",
	"leaf",
	"subleaf",
	"msr",
	"param",
	"path",
	"token",
	"connId",
	"port",
	"pfn",
	"gfn",
	"key",
	"slot",
	"vcpuId",
	"vector",
	"reference",
	"index",
	"pirq",
	"irq",
	"serverId",
	"first",
	"firstMfn",
	"firstGfn",
	"kind",
] as const;

/** Which one of a section's records of a type it is. */
const LIVE_UPDATE_IDENTITIES = ["vcpu", "vcpuId", "firstGfn", "firstMfn"] as const;

type Object_ = { readonly [key: string]: Json | undefined };

function isObject(value: Json | undefined): value is Object_ {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}

const isText = (value: Json | undefined): value is string => typeof value === "string";

/** xl's configuration as what it says; as the text where that is no JSON. */
function asJson(text: string): Json {
	try {
		return JSON.parse(text);
	} catch {
		return text;
	}
}

/** Gathers what a stream says. `ignore` names items that are compared otherwise, such as pages. */
export class FactCollector {
	readonly #facts = new Map<string, Fields>();
	readonly #counts = new Map<string, number>();
	readonly #store = new XenstoreFacts();

	add(item: StreamItem): void {
		const { layer, name, fields } = item;
		if (layer === "xenstore") {
			const fact = this.#store.fact(item);
			if (fact) this.addNamed(fact.where, fact.fields);
			return;
		}
		if (Array.isArray(fields.pfns) && Array.isArray(fields.pageTypes)) {
			this.#pages(layer, fields.pfns, fields.pageTypes, fields.hashes);
			return;
		}
		const identity = IDENTITIES.filter((key) => fields[key] !== undefined && typeof fields[key] !== "object")
			.map((key) => ` ${key} ${fields[key]}`)
			.join("");
		this.addNamed(
			`${layer} ${name}${identity}`,
			isText(fields.config) ? { ...fields, config: asJson(fields.config) } : fields,
		);
	}

	/** Pages by PFN: type and hash of what was sent last. A PFN without a page is none. */
	#pages(layer: string, pfns: readonly Json[], types: readonly Json[], hashes: Json | undefined): void {
		let at = 0;
		for (const [i, pfn] of pfns.entries()) {
			const type = Number(types[i]);
			const name = `${layer} page 0x${Number(pfn).toString(16)}`;
			const hash = type < FIRST_TYPE_WITHOUT_DATA && Array.isArray(hashes) ? (hashes[at++] as Json) : undefined;
			if (type === PAGE_TYPE.XTAB) this.#facts.delete(name);
			else this.#facts.set(name, { type: pageTypeNames[type] ?? type, ...(hash === undefined ? {} : { sha1: hash }) });
		}
	}

	/** Of several things with one name each counts: the second one is `name (2)`. */
	addNamed(base: string, fields: Fields): void {
		const count = this.#counts.get(base) ?? 0;
		this.#counts.set(base, count + 1);
		this.#facts.set(count === 0 ? base : `${base} (${count + 1})`, fields);
	}

	/** A thing that is no record: a node, a page. */
	set(name: string, fields: Fields): void {
		this.#facts.set(name, fields);
	}

	get facts(): Facts {
		return this.#facts;
	}
}

/** Records of a live-update stream that say where things are, not what they are. */
const FRAMING: ReadonlySet<string> = new Set(["LU_SECTION", "LU_INDEX", "END"]);

/**
 * What a live-update stream says, of either byte order.
 * @throws XLU_E_DAMAGED where the framing ends
 */
export function liveUpdateFacts(stream: Uint8Array): Facts {
	const collector = new FactCollector();
	const { version } = readHeader(stream);
	collector.addNamed("xlu header", { version });
	for (const { type, def, body, pass, domid } of walkRecords(littleStream(stream))) {
		const name = recordName(type);
		if (FRAMING.has(name)) continue;
		const fields = recordFields(def, body);
		const words = [
			...(pass === undefined ? [] : [`section ${passNames[pass] ?? pass}`]),
			...(domid === undefined || domid >= DOMID.FIRST_RESERVED ? [] : [`d${domid}`]),
			...LIVE_UPDATE_IDENTITIES.filter((key) => fields[key] !== undefined).map((key) => `${key} ${fields[key]}`),
		];
		collector.addNamed(`xlu ${name} ${words.join(" ")}`.trimEnd(), fields);
	}
	return collector.facts;
}

/** Objects of an array by what they are about; undefined if they do not say it, or two say the same. */
function byKey(values: readonly Json[]): Map<string, Json> | undefined {
	for (const place of PLACES) {
		const found = byNames(values, [place]);
		if (found) return found;
	}
	return byNames(values, ELEMENT_KEYS);
}

function byNames(values: readonly Json[], names: readonly string[]): Map<string, Json> | undefined {
	const result = new Map<string, Json>();
	for (const value of values) {
		if (!isObject(value)) return undefined;
		const key = names
			.filter((name) => typeof value[name] === "string" || typeof value[name] === "number")
			.map((name) => `${value[name]}`)
			.join(" ");
		if (key === "" || result.has(key)) return undefined;
		result.set(key, value);
	}
	return result;
}

function* differ(path: string, a: Json | undefined, b: Json | undefined): Generator<[string, Json, Json]> {
	if (isObject(a) && isObject(b)) {
		for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) {
			yield* differ(path === "" ? key : `${path}.${key}`, a[key], b[key]);
		}
		return;
	}
	if (Array.isArray(a) && Array.isArray(b)) {
		const left = byKey(a);
		const right = byKey(b);
		if (left && right) {
			for (const key of new Set([...left.keys(), ...right.keys()])) {
				yield* differ(`${path}[${key}]`, left.get(key), right.get(key));
			}
			return;
		}
		for (let i = 0; i < Math.max(a.length, b.length); i++) yield* differ(`${path}[${i}]`, a[i], b[i]);
		return;
	}
	if (a !== b) yield [path, a ?? null, b ?? null];
}

/** What differs, in the order of the first stream, then what the second one has besides. */
export function* differences(a: Facts, b: Facts): Generator<StreamDifference> {
	for (const [where, fields] of a) {
		const other = b.get(where);
		if (!other) {
			yield { where, field: null, a: "present", b: null };
			continue;
		}
		for (const [field, left, right] of differ("", fields, other)) yield { where, field, a: left, b: right };
	}
	for (const where of b.keys()) if (!a.has(where)) yield { where, field: null, a: null, b: "present" };
}
