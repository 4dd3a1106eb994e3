// docs/SCENARIOS.md and docs/scenario.schema.json, from the tables that scenarios are checked by: operations
// (src/machine/live/operations.ts), states (src/scenario/state.ts), limits and names (src/scenario/form.ts).

const introduction = `
# Scenarios

A scenario is a file in JSON: a host, and steps from top to bottom. Steps are operations (hypercalls of guests, calls of
the toolstack, what guests do in their own memory), live updates, and what is expected of results and of state.

    xlu run examples/scenarios/backend.json

Each scenario runs twice at once, on one machine with its updates and on one without them. Results must agree one by one,
and in the end the two hypervisors' images, counts included, and the contents of memory: a guest can notice nothing of an
update. That is checked in every scenario, whatever it expects. An update is the whole one, as \`xlu run HOST\` does it: the
stream is saved, checked, handed over by the breadcrumb, and restored by a second instance of the core; the machine goes
on from the restored image and the memory that stayed in place, nothing else.

A scenario ends at the first step that fails. Exit status: 0 all came as expected; 1 a result or a state did not, or an
update could be noticed; 2 the file is not a valid scenario or cannot be read: up to ten problems are told, each with its
place (\`steps[3].port\`), what was expected and what is there. What [CLI.md](CLI.md#run) says of \`--json\` applies.

## An example

The start of \`examples/scenarios/backend.json\`, shortened:

\`\`\`json
{
  "$schema": "../../docs/scenario.schema.json",
  "description": "a backend in dom0 and a PV guest",
  "host": { "frames": 8192, "cpus": 4 },
  "steps": [
    { "op": "domain_create", "domid": 0, "kind": "pv", "frames": 128, "privileged": true },
    { "op": "domain_create", "domid": 1, "kind": "pv", "frames": 64 },

    { "note": "a page of the guest's own memory, granted to dom0",
      "find": { "domid": 1, "type": "writable", "index": 5 }, "as": "ring" },
    { "op": "grant_access", "domid": 1, "ref": 8, "grantee": 0, "gfn": "$ring" },

    { "find": { "domid": 0, "type": "l1" }, "as": "table" },
    { "op": "gnttab_map_grant_ref", "domid": 0, "granter": 1, "ref": 8, "kind": "host",
      "table": "$table", "slot": 300, "as": "handle" },
    { "op": "grant_end_access", "domid": 1, "ref": 8, "expect": "EBUSY" },

    { "update": {} },

    { "expect": { "domid": 1, "grant": 8, "grantee": 0, "hostWrite": 1, "mfn": "$ring" } },
    { "op": "gnttab_unmap_grant_ref", "domid": 0, "handle": "$handle", "table": "$table", "slot": 300 },
    { "op": "grant_end_access", "domid": 1, "ref": 8 }
  ]
}
\`\`\`

Two domains are created on an empty machine. The guest grants a page to dom0: \`find\` names a frame of its memory \`ring\`, and
\`"$ring"\` is that number from then on. dom0 maps the grant into a page table of its own, and the handle that Xen returns is
called \`handle\`. While the grant is mapped the guest cannot take it back: that refusal is expected. After the update the grant
is still active, and the handle that xen#1 gave is good in xen#2.
`;

const steps = (limits, defaults) => `
## The file

| key | meaning |
|---|---|
| host | required. A captured host's directory, from the scenario's own directory on; \`"synthetic:..."\` ([CLI.md](CLI.md#synthetic-hosts)); or \`{"frames": ${defaults.frames}, "cpus": ${defaults.cpus}}\`, a machine of so many 4 KiB frames without any domain (${limits.frames[0]} to ${limits.frames[1]}; CPUs ${limits.cpus[0]} to ${limits.cpus[1]}; both may be left out) |
| steps | required. A list of at most ${limits.steps} |
| description | what is told before it runs |
| seed | of random operations and of the places that a stream's frames take, where a step has none; default 1 |
| $schema | for editors: [scenario.schema.json](scenario.schema.json) knows every key |

Of an empty machine the lowest 1 MiB is devices', and Xen keeps some 1700 frames. A file has at most ${limits.octets / 2 ** 20} MiB; a host that
is read or made, ${limits.hostFrames / 2 ** 18} GiB of memory.

## Steps

Every step may have a \`note\`, which is printed with it.

| step | meaning |
|---|---|
| \`{"op": NAME, PARAMETER: ..., "expect": RESULT, "as": NAME}\` | an [operation](#operations). Without \`expect\` it must not be refused. \`as\` names its result |
| \`{"update": {}}\` | a live update; \`{"update": {"xen2Size": MIB, "seed": N}}\` with another size of xen#2 or other places for the stream. \`"expect": "XLU_E_..."\` beside it: it must be refused so ([ERRORS.md](ERRORS.md)), and xen#1 goes on. At most ${limits.updates} |
| \`{"expect": {...}}\` | the machine's [state](#states) |
| \`{"find": {"domid": N, "type": TYPE, "index": N}, "as": NAME}\` | names a frame of a domain's memory: of those with that page type in use, from the lowest MFN on, the \`index\`-th (default 0). Types: TYPES. PV memory that its page tables map is \`writable\`, frames of tables are \`l1\` to \`l4\`, a descriptor table \`segDesc\` |
| \`{"random": {"count": N, "seed": N}}\` | operations at random that make sense more often than not; refusals are results like others. At most ${limits.random} in all |
| \`{"remember": NAME}\` | remembers the state, to compare with \`{"expect": {"same": NAME}}\` later on; at most ${limits.remembered} |

A name is of letters, digits and \`_\`. \`"$name"\` is the number that it names, wherever a number is asked for.

## Results

| expect | the operation must |
|---|---|
| left out | not be refused |
| a number, \`"$name"\` | return it; 0 is done |
| a list of numbers | return these ports in this order (\`evtchn_drain\`) |
| \`"EBUSY"\`, \`"GNTST_bad_handle"\` | be refused with it. \`gnttab_\` operations have GNTST statuses, all others errnos: ERRNOS |
| \`"refused"\` | be refused, however |
| \`"any"\` | nothing: whatever comes, but the same with updates and without |

## States

What is looked at follows from the keys; any number of properties may be expected at once. Numbers may be \`"$name"\`.
`;

const operationsText = `
## Operations

Whole numbers may be given as strings \`"0x..."\`, words (64 bits) must be beyond 2^53. Numbers are limited by the hypercall's
field; what lies within and is wrong the machine refuses as Xen does. Parameters without a default are required.
`;

const range = ({ type, max, names }) => {
	if (names) return names.map((name) => `\`${name}\``).join(", ");
	if (type === "word") return "word";
	if (type === "boolean") return "true, false";
	const top = max >= 2 ** 53 - 1 ? "2^53 - 1" : `2^${Math.log2(max + 1)} - 1`;
	const number = Number.isInteger(Math.log2(max + 1)) || max >= 2 ** 53 - 1 ? `0 to ${top}` : `0 to ${max}`;
	return type === "integers" ? `list of numbers, ${number}` : number;
};
const defaultText = ({ default: value }) => (value === undefined ? "" : ` (default ${value})`);

const groups = [
	["Domains and time", /^(domain_|sched_|time_|continuation_)/],
	["Memory", /^(populate_|memory_|decrease_|map_foreign|remove_|set_mem_)/],
	["Page tables", /^(mmu|set_gdt)/],
	["Grants", /^(grant_|gnttab_)/],
	["Event channels", /^(evtchn_|pirq_)/],
	["vCPUs", /^vcpu_/],
	["I/O request servers", /^ioreq_/],
];

const GENERATED = "Generated by tools/generate.mjs. Do not edit.";

export function scenariosDocument({ operations, subjects, form, errno }) {
	const { scenarioLimits, hostDefaults, findTypes } = form;
	const types = findTypes.map((name) => `\`${name}\``).join(", ");
	const errnos = Object.keys(errno.ERRNO)
		.map((name) => `\`${name}\``)
		.join(", ");
	const out = [
		`<!-- ${GENERATED} Operations: src/machine/live/operations.ts, states: src/scenario/state.ts -->`,
		introduction.trim(),
		"",
		steps(scenarioLimits, hostDefaults).trim().replace("TYPES", types).replace("ERRNOS", errnos),
	];
	for (const { doc, target, checks } of Object.values(subjects)) {
		const keys = Object.entries(target).map(([key, { doc: text }]) => `\`${key}\` (${text})`);
		out.push("", `### ${doc.replace(/\.$/, "")}`, "", `By ${keys.join(" and ")}.`, "");
		out.push("| property | value | meaning |", "|---|---|---|");
		for (const [key, check] of Object.entries(checks)) {
			const value = check.type === "integer" ? "number" : range(check);
			out.push(`| ${key} | ${value} | ${check.doc} |`);
		}
	}
	out.push(
		"",
		"### The whole state",
		"",
		'`{"expect": {"same": NAME}}`: the image is that which `remember` has remembered.',
	);
	out.push("", operationsText.trim());
	out.push("", "| group | operations |", "|---|---|");
	for (const [title, pattern] of groups) {
		const names = Object.keys(operations).filter((op) => pattern.test(op));
		out.push(`| ${title} | ${names.map((op) => `[${op}](#${op})`).join(", ")} |`);
	}
	const left = new Set(Object.keys(operations));
	for (const [title, pattern] of groups) {
		out.push("", `### ${title}`);
		for (const name of Object.keys(operations).filter((op) => pattern.test(op))) {
			left.delete(name);
			const { doc, parameters, returns } = operations[name];
			out.push("", `#### ${name}`, "", `${doc}${returns ? ` Returns: ${returns}.` : ""}`, "");
			out.push("| parameter | value | meaning |", "|---|---|---|");
			for (const [key, parameter] of Object.entries(parameters)) {
				out.push(`| ${key} | ${range(parameter)} | ${parameter.doc}${defaultText(parameter)} |`);
			}
		}
	}
	if (left.size) throw new Error(`operations in no group: ${[...left]}`);
	out.push("");
	return out.join("\n");
}

// --- the JSON Schema ---------------------------------------------------------------------------------------------

const capture = { type: "string", pattern: "^\\$[A-Za-z_]\\w*$" };
const hexString = (digits) => ({ type: "string", pattern: `^0[xX][0-9a-fA-F]{1,${digits}}$` });
const whole = (min, max) => ({ type: "integer", minimum: min, maximum: max });

/** What stands in many places, once. */
const definitions = {};
function shared(name, make) {
	definitions[name] ??= make();
	return { $ref: `#/$defs/${name}` };
}
const number = (max) =>
	shared(`number${Math.ceil(Math.log2(max))}`, () => ({ anyOf: [whole(0, max), hexString(14), capture] }));
const word = () => shared("word", () => ({ anyOf: [whole(0, 2 ** 53 - 1), hexString(16), capture] }));
const name = ({ scenarioLimits }) =>
	shared("name", () => ({ type: "string", pattern: "^[A-Za-z_]\\w*$", maxLength: scenarioLimits.name }));
const noteOf = ({ text }) =>
	shared("note", () => ({ type: "string", maxLength: text, description: "what is printed with the step" }));

/** JSON with what fits a line on one line. */
function lines(value, indent = "") {
	const flat = JSON.stringify(value);
	if (typeof value !== "object" || value === null || flat.length + indent.length <= 120) return flat;
	const inner = `${indent}\t`;
	const entries = Array.isArray(value)
		? value.map((entry) => lines(entry, inner))
		: Object.entries(value).map(([key, entry]) => `${JSON.stringify(key)}: ${lines(entry, inner)}`);
	const [open, close] = Array.isArray(value) ? "[]" : "{}";
	return `${open}\n${entries.map((entry) => inner + entry).join(",\n")}\n${indent}${close}`;
}

function parameterSchema(parameter, limits) {
	const { type, doc, names, max, default: value } = parameter;
	const rest = { description: doc, ...(value === undefined ? {} : { default: value }) };
	if (type === "boolean") return { type: "boolean", ...rest };
	if (type === "name") return { enum: [...names], ...rest };
	if (type === "word") return { ...word(), ...rest };
	if (type === "integers") return { type: "array", items: number(max), maxItems: limits.list, ...rest };
	return { ...number(max), ...rest };
}

const mapped = (object, change) =>
	Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value)]));
const object = (properties, required = []) => ({ type: "object", properties, required, additionalProperties: false });

/** A schema of draft 2020-12: what editors complete by. That names were given before is checked by xlu alone. */
export function scenarioSchema({ operations, subjects, form, errors }) {
	const limits = form.scenarioLimits;
	const note = noteOf(limits);
	const seed = whole(...limits.seed);
	const step = (properties, required) => object({ note, ...properties }, required);
	const parameter = (entry) => parameterSchema(entry, limits);
	const operation = ([op, { doc, parameters, returns, isList }]) => {
		const refusals = shared(op.startsWith("gnttab_") ? "grantRefusal" : "refusal", () => ({
			enum: form.resultNames(op),
		}));
		const result = isList
			? { anyOf: [{ type: "array", items: number(2 ** 32 - 1) }, refusals] }
			: { anyOf: [number(2 ** 53 - 1), refusals] };
		const required = Object.keys(parameters).filter((key) => parameters[key].default === undefined);
		return {
			description: doc,
			...step(
				{
					op: { const: op },
					...mapped(parameters, parameter),
					expect: { ...result, ...(returns ? { description: returns } : {}) },
					...(returns && !isList ? { as: name(form) } : {}),
				},
				["op", ...required],
			),
		};
	};
	const state = ({ doc, target, checks }) => ({
		description: doc,
		...object(mapped({ ...target, ...checks }, parameter), Object.keys(target)),
		minProperties: Object.keys(target).length + 1,
	});
	const find = object({ domid: number(0xffff), type: { enum: form.findTypes }, index: whole(0, 2 ** 32 - 1) }, [
		"domid",
		"type",
	]);
	const stepSchemas = [
		...Object.entries(operations).map(operation),
		{
			description: "a live update",
			...step(
				{
					update: object({ xen2Size: whole(...limits.xen2Size), seed }),
					expect: { enum: Object.keys(errors.errorCodes), description: "the error that must refuse it" },
				},
				["update"],
			),
		},
		{
			description: "what is expected of the state",
			...step({ expect: { anyOf: [...Object.values(subjects).map(state), object({ same: name(form) }, ["same"])] } }, [
				"expect",
			]),
		},
		{ description: "a frame of a domain's", ...step({ find, as: name(form) }, ["find", "as"]) },
		{
			description: "operations at random",
			...step({ random: object({ count: whole(1, limits.random), seed }, ["count"]) }, ["random"]),
		},
		{ description: "remembers the state", ...step({ remember: name(form) }, ["remember"]) },
	];
	return `${lines({
		$schema: "https://json-schema.org/draft/2020-12/schema",
		$comment: GENERATED,
		title: "xlu scenario",
		...object(
			{
				$schema: { type: "string" },
				description: { type: "string", maxLength: limits.text },
				host: {
					anyOf: [
						{ type: "string", minLength: 1 },
						object({ frames: whole(...limits.frames), cpus: whole(...limits.cpus) }),
					],
				},
				seed,
				steps: { type: "array", maxItems: limits.steps, items: { anyOf: stepSchemas } },
			},
			["host", "steps"],
		),
		$defs: definitions,
	})}\n`;
}
