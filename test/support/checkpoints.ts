/** Streams that no capture holds: checkpointed ones (Remus, COLO), verified memory, a recorded live migration. */
import { Draft, make, type Piece, pageData, pageOf, u32, u64 } from "./drafts.ts";
import type { ImageName } from "./images.ts";

const STATE = /^(X86_TSC_INFO|SHARED_INFO|X86_PV_VCPU_.*|HVM_CONTEXT|HVM_PARAMS)$/;

/** A guest's state again, its TSC a moment later. */
function stateAgain(draft: Draft, moment: number): Piece[] {
	return draft.pieces
		.filter(({ layer, name }) => layer === "libxc" && STATE.test(name))
		.map((piece) => {
			if (piece.name !== "X86_TSC_INFO") return piece;
			const octets = Buffer.from(piece.octets);
			octets.writeBigUInt64LE(octets.readBigUInt64LE(16) + BigInt(1_000_000 * moment), 16);
			return { ...piece, octets };
		});
}

const dirtied = (moment: number) =>
	pageData([
		{ pfn: 3, page: pageOf(moment) },
		{ pfn: 5, page: Buffer.alloc(4096) },
		{ pfn: 7 + moment, page: pageOf(7 * moment) },
	]);

const devices = (moment: number): Piece[] => [
	make.emulatorStore(2, 0, `physmap/${moment}/size\x00800\x00`),
	make.emulatorContext(2, 0, pageOf(moment).subarray(0, 100 + moment)),
];

/** Checkpoints behind the captured state: memory, state, the device model's as well. `libxl`: COLO signals each new one. */
export async function checkpointed(
	name: ImageName,
	options: { checkpoints: number; colo?: boolean; endsWithState?: boolean },
): Promise<Draft> {
	const { checkpoints, colo = false, endsWithState = true } = options;
	const draft = await Draft.of(name);
	const rest: Piece[] = [];
	for (let moment = 1; moment <= checkpoints; moment++) {
		rest.push(make.checkpoint(), ...devices(moment), make.checkpointEnd());
		if (colo) rest.push(make.checkpointState(u32(0, 0)));
		if (moment < checkpoints || endsWithState) rest.push(dirtied(moment), ...stateAgain(draft, moment));
	}
	const first = draft.pieces.slice(0, draft.find("libxc END"));
	return new Draft([...first, ...rest, make.libxcEnd(), ...devices(checkpoints + 1), make.libxlEnd()]);
}

/** All pages again behind VERIFY, as a migration with --debug sends them. */
export async function verified(name: ImageName): Promise<Draft> {
	const draft = await Draft.of(name);
	const pages = draft.pieces.filter(({ name: record }) => record === "PAGE_DATA");
	const last = `libxc PAGE_DATA ${pages.length - 1}`;
	return draft.after(last, dirtied(1), make.verify(), ...pages, dirtied(1));
}

/** What xl says to its peer behind the stream, once the guest has been received. */
export async function migrated(name: ImageName): Promise<Draft> {
	const draft = await Draft.of(name);
	const text = Buffer.from("xl migration receiver ready\n", "latin1");
	const octets = Buffer.concat([text, Buffer.alloc(44 - text.length)]);
	return new Draft([...draft.pieces, { layer: "xl", name: "tail", octets }]);
}

/** A record of COLO's back channel within an image. */
export async function withDirtyPfns(name: ImageName): Promise<Draft> {
	return (await checkpointed(name, { checkpoints: 1 })).before("libxc CHECKPOINT", make.dirtyPfns(u64(9, 3, 0xfffff)));
}
