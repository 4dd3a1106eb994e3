/**
 * Finds each place of the core that refuses, from the sources alone, and makes of them sources with every mutant in them at
 * once: a global of the module says which one is on. One build serves all, and each is as fast as the core.
 *
 *     if (a > b || c) return fail(...);   becomes   if (a > b || c) { if (mutant != 17) return fail(...); }
 */
import { dirname, relative } from "node:path";
import * as as from "assemblyscript";

const { NodeKind, Token } = as;

/** No mutant: the global as it is built. Its LEB128 has 5 octets, so that any number can be put in its place. */
export const NO_MUTANT = 0x7fff_ffff;
const HOLDER = "assembly/mutant.ts";

/** Operators, and what each one does to a place that refuses. */
export const OPERATORS = {
	off: "the refusal never comes",
	call: "what a called check says is ignored",
	clause: "one operand of the condition has no say",
	bound: "< and <=, > and >= change places",
};

/** Faults of the chunks' coding come back as values; open makes a refusal of them. */
const CODING_FAULT = "chunkFault";

const isNode = (value) => typeof value === "object" && value !== null && "kind" in value && "range" in value;

function childrenOf(node) {
	const found = [];
	for (const [key, value] of Object.entries(node)) {
		if (key === "range") continue;
		for (const item of Array.isArray(value) ? value : [value]) if (isNode(item)) found.push(item);
	}
	return found;
}

/** Calls `visit(node, ancestors)` for a node and all below it; the nearest ancestor is the last. */
function walk(node, visit, ancestors = []) {
	visit(node, ancestors);
	const below = [...ancestors, node];
	for (const child of childrenOf(node)) walk(child, visit, below);
}

const isFunction = (node) => node.kind === NodeKind.FunctionDeclaration && node.body;
const calleeOf = (node) =>
	node.kind === NodeKind.Call && node.expression.kind === NodeKind.Identifier ? node.expression.text : undefined;
const within = (outer, inner) => outer && outer.range.start <= inner.range.start && inner.range.end <= outer.range.end;
const statementsOf = (node) => (node.kind === NodeKind.Block ? node.statements : [node]);

function parse(sources) {
	const program = as.newProgram(as.newOptions());
	for (const [path, text] of sources) as.parse(program, text, path, true);
	for (let next = as.nextFile(program); next; next = as.nextFile(program));
	return new Map(program.sources.map((source) => [`${source.internalPath}.ts`, source]));
}

/** What has to be true for `node` to be reached, nearest first: nodes between it and its function that choose. */
const CHOICES = new Set([NodeKind.If, NodeKind.For, NodeKind.While, NodeKind.Do, NodeKind.Switch, NodeKind.Ternary]);
const isShortcut = (node) =>
	node.kind === NodeKind.Binary && [Token.Bar_Bar, Token.Ampersand_Ampersand].includes(node.operator);

/** Whether a call is all that a function is for: nothing decides about it. */
function isUnconditional(call, ancestors, body) {
	if (ancestors.some((node) => within(body, node) && (CHOICES.has(node.kind) || isShortcut(node)))) return false;
	let returnsBefore = false;
	walk(body, (node) => {
		if (node.kind === NodeKind.Return && node.range.end < call.range.start) returnsBefore = true;
	});
	return !returnsBefore;
}

/**
 * Functions by what their calls mean: `refuse` whenever they are called, or `check` and answer with a bool. Returns what a
 * name means in a file: of its own functions, else of the one that exports it.
 */
function classify(files) {
	const functions = [];
	for (const [file, source] of files)
		walk(source, (node) => {
			if (!isFunction(node)) return;
			const calls = [];
			let writesRule = false;
			walk(node.body, (inner, ancestors) => {
				if (calleeOf(inner)) calls.push({ call: inner, ancestors });
				if (inner.kind === NodeKind.Binary && inner.operator === Token.Equals)
					writesRule ||= inner.left.kind === NodeKind.PropertyAccess && inner.left.property.text === "rule";
			});
			const name = node.name.text;
			const isBool = node.signature.returnType.name?.identifier.text === "bool";
			const means = writesRule || name === CODING_FAULT ? "refuse" : undefined;
			functions.push({ file, name, node, calls, isBool, isExported: node.is(as.CommonFlags.Export), means });
		});
	const named = (file, name) =>
		functions.find((f) => f.name === name && f.file === file) ?? functions.find((f) => f.name === name && f.isExported);
	const meaning = (file, call) => named(file, calleeOf(call))?.means;
	for (let isNews = true; isNews; ) {
		isNews = false;
		for (const fn of functions) {
			if (fn.means === "refuse") continue;
			const refusing = fn.calls.filter(
				({ call }) => meaning(fn.file, call) === "refuse" && calleeOf(call) !== CODING_FAULT,
			);
			const isCheck =
				fn.isBool && (refusing.length > 0 || fn.calls.some(({ call }) => meaning(fn.file, call) === "check"));
			const isRefuser = refusing.some(({ call, ancestors }) => isUnconditional(call, ancestors, fn.node.body));
			const means = isRefuser ? "refuse" : isCheck ? "check" : fn.means;
			isNews ||= means !== fn.means;
			fn.means = means;
		}
	}
	return (file, name) => named(file, name)?.means;
}

/** Operands of a condition that || and && join. */
function operandsOf(node, joint = undefined) {
	if (node.kind === NodeKind.Parenthesized) return operandsOf(node.expression, joint);
	if (!isShortcut(node)) return joint === undefined ? [] : [{ node, joint }];
	return [...operandsOf(node.left, node.operator), ...operandsOf(node.right, node.operator)];
}

const OTHER_BOUND = new Map([
	[Token.LessThan, ["<", "<="]],
	[Token.LessThan_Equals, ["<=", "<"]],
	[Token.GreaterThan, [">", ">="]],
	[Token.GreaterThan_Equals, [">=", ">"]],
]);

function boundsOf(node) {
	if (node.kind === NodeKind.Call) return [];
	const own = node.kind === NodeKind.Binary && OTHER_BOUND.has(node.operator) ? [node] : [];
	return [...own, ...childrenOf(node).flatMap(boundsOf)];
}

/** The condition on which a refusal comes, if it is the whole of one branch: of an `if`, or the left side of `||`. */
function conditionOf(node, ancestors) {
	const above = ancestors.at(-1);
	if (above?.kind === NodeKind.Binary && above.operator === Token.Bar_Bar && above.right === node) return above.left;
	const branch = above?.kind === NodeKind.Block ? above : node;
	const choice = branch === node ? above : ancestors.at(-2);
	if (choice?.kind !== NodeKind.If || choice.ifTrue !== branch) return undefined;
	const before = statementsOf(branch).filter((statement) => statement.range.end < node.range.start);
	return before.some((statement) => CHOICES.has(statement.kind)) ? undefined : choice.condition;
}

/** Whether nothing of its function comes after a statement, so that leaving it out would leave the function without an end. */
function isTail(statement, ancestors, body) {
	let inner = statement;
	for (const outer of [...ancestors].reverse()) {
		if (outer.kind === NodeKind.Block && outer.statements.at(-1) !== inner) return false;
		if (outer === body) return true;
		if (outer.kind !== NodeKind.Block && !(outer.kind === NodeKind.If && outer.ifFalse)) return false;
		inner = outer;
	}
	return false;
}

/** What a function returns that does not refuse. */
const soundOf = (fn) => (fn.signature.returnType.name.identifier.text === "bool" ? "true" : "0");

/** Text with edits, each of which is given `piece(from, to)`, the text of a stretch with the edits inside. */
function render(text, edits, from, to) {
	const inside = edits.filter((edit) => edit.start >= from && edit.end <= to).sort((a, b) => a.start - b.start);
	let out = "";
	let at = from;
	for (const outer of inside) {
		const isCovered = inside.some((other) => other !== outer && contains(other, outer));
		if (isCovered) continue;
		const rest = edits.filter((edit) => edit !== outer && contains(outer, edit));
		out += text.slice(at, outer.start) + outer.write((start, end) => render(text, rest, start, end));
		at = outer.end;
	}
	return out + text.slice(at, to);
}
const contains = (outer, inner) =>
	outer.start <= inner.start &&
	inner.end <= outer.end &&
	(outer.start < inner.start || inner.end < outer.end || outer.order > inner.order);

/**
 * @param sources text of each file of assembly/, by path
 * @returns `changed`, the sources with all mutants in them, and `mutants`: number, operator, file, line, column, rule, and
 *          the text that the mutant changes
 */
export function mutate(sources) {
	const files = parse(sources);
	const meaningOf = classify(files);
	const mutants = [];
	const changed = new Map();
	for (const [file, source] of files) {
		if (!sources.has(file)) continue;
		const { text } = source;
		const edits = [];
		const edit = (node, write, end = node.range.end) =>
			edits.push({ start: node.range.start, end, order: edits.length, write });
		const rules = (node) => [...text.slice(node.range.start, node.range.end).matchAll(/RULE_(\w+)|(CHUNK_\w+)/g)];
		const add = (operator, node, rule) => {
			const { start } = node.range;
			const lines = text.slice(0, start).split("\n");
			const what = text.slice(start, node.range.end).replace(/\s+/g, " ");
			mutants.push({ operator, file, line: lines.length, column: lines.at(-1).length + 1, rule, what });
			return mutants.length - 1;
		};
		const mutateCondition = (condition, rule) => {
			for (const node of boundsOf(condition)) {
				const number = add("bound", node, rule);
				const [operator, other] = OTHER_BOUND.get(node.operator);
				edit(node, (piece) => {
					const left = piece(node.range.start, node.left.range.end);
					const right = piece(node.right.range.start, node.range.end);
					return `(mutant == ${number} ? ${left} ${other} ${right} : ${left} ${operator} ${right})`;
				});
			}
			// Around what was changed of the operand itself: the later edit is the outer one.
			for (const { node, joint } of operandsOf(condition)) {
				const number = add("clause", node, rule);
				const rest = joint === Token.Bar_Bar ? `&& mutant != ${number}` : `|| mutant == ${number}`;
				edit(node, (piece) => `(!!(${piece(node.range.start, node.range.end)}) ${rest})`);
			}
		};
		walk(source, (node, ancestors) => {
			if (node.kind === NodeKind.NamedType && node.isNullable) {
				// Where a refusal is off, null goes on: it is 0, and what it points to is only read.
				edit(node, (piece) => piece(node.range.start, node.range.end).replace(/\s*\|\s*null$/, ""));
				return;
			}
			if (node.kind === NodeKind.Null) edit(node, () => "changetype<L.DomainPlan>(0)");
			const callee = calleeOf(node);
			const fn = ancestors.findLast(isFunction);
			const means = callee && fn && meaningOf(file, callee);
			if (!means) return;
			if (means === "check") {
				const number = add("call", node, callee);
				edit(node, (piece) => `(${piece(node.range.start, node.range.end)} || mutant == ${number})`);
				return;
			}
			if (meaningOf(file, fn.name.text) === "refuse") return;
			const rule = rules(node)[0]?.[1] ?? rules(node)[0]?.[2] ?? callee;
			const number = add("off", node, rule);
			const above = ancestors.at(-1);
			const isStatement = above.kind === NodeKind.Return || above.kind === NodeKind.Expression;
			const condition = isStatement ? conditionOf(above, ancestors.slice(0, -1)) : conditionOf(node, ancestors);
			if (condition) {
				mutants[number].what = text.slice(condition.range.start, condition.range.end).replace(/\s+/g, " ");
				mutateCondition(condition, rule);
			}
			const endOf = (statement) => (text[statement.range.end] === ";" ? statement.range.end + 1 : statement.range.end);
			const outer = ancestors.at(-2);
			if (above.kind === NodeKind.Return && !isTail(above, ancestors.slice(0, -1), fn.body)) {
				edit(above, (piece) => `{ if (mutant != ${number}) ${piece(above.range.start, endOf(above))} }`, endOf(above));
			} else if (above.kind === NodeKind.Expression && outer.kind === NodeKind.If && outer.ifTrue === above) {
				const test = outer.condition;
				edit(test, (piece) => `!!(${piece(test.range.start, test.range.end)}) && mutant != ${number}`);
			} else if (above.kind === NodeKind.Expression) {
				// The refusal and what follows it in its block, which says that it refused.
				const last = outer.statements.at(-1);
				const isBody = outer === fn.body;
				const rest = isBody ? ` return ${soundOf(fn)};` : "";
				edits.push({
					start: above.range.start,
					end: endOf(last),
					order: edits.length,
					write: (piece) => `if (mutant != ${number}) { ${piece(above.range.start, endOf(last))} }${rest}`,
				});
			} else {
				edit(node, (piece) => `(mutant == ${number} ? ${soundOf(fn)} : ${piece(node.range.start, node.range.end)})`);
			}
		});
		if (edits.length === 0) continue;
		const from = relative(dirname(file), HOLDER).replace(/\.ts$/, "");
		const holder = from.startsWith(".") ? from : `./${from}`;
		changed.set(file, `${render(text, edits, 0, text.length)}\nimport { mutant } from "${holder}";\n`);
	}
	const index = "assembly/index.ts";
	changed.set(index, `${changed.get(index) ?? sources.get(index)}\nexport { mutant } from "./mutant";\n`);
	changed.set(HOLDER, `export let mutant: u32 = ${NO_MUTANT};\n`);
	return { changed, mutants: mutants.map((mutant, number) => ({ number, ...mutant })) };
}

function leb128(value) {
	const octets = [];
	for (let i = 0; i < 4; i++, value >>>= 7) octets.push((value & 0x7f) | 0x80);
	return Buffer.from([...octets, value & 0x7f]);
}

/** The module with a mutant on from the start, for tests that know nothing of it. */
export function withMutant(core, number) {
	const octets = Buffer.from(core);
	// As a global begins: i32, mutable, i32.const.
	const global = (value) => Buffer.concat([Buffer.from([0x7f, 0x01, 0x41]), leb128(value)]);
	const at = octets.indexOf(global(NO_MUTANT));
	if (at < 0 || octets.indexOf(global(NO_MUTANT), at + 1) >= 0)
		throw new Error("the module has no global of the mutant");
	octets.set(global(number), at);
	return octets;
}
